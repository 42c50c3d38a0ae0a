"""What this machine computes with: its name, and whether it computes in bfloat16 natively."""

from __future__ import annotations

import platform
import time
from functools import cache
from pathlib import Path

import torch

_SIDE = 192
"""Rows of the matrices of the trial: below a millisecond in float32."""
_NATIVE = 2.0
"""Times float32's that a product in bfloat16 may take. Natively it takes 0.1 to 0.6 (AMX, AVX512-BF16), emulated 20 to 40: the
margin is wide on both sides, so that the answer does not depend on what else runs."""


def name(device: torch.device) -> str:
    """Return what the processor or the GPU is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


_CPUINFO = Path("/proc/cpuinfo")


def has_native_bfloat16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are at least about as quick as in float32 on this device.

    On a CPU a small product is timed once in a process, in processor time; a GPU knows it of itself. Elsewhere it is
    assumed, and a training step or a pass in bfloat16 is timed before it is chosen.
    """
    if device.type == "cpu":
        return _cpu_has_native_bfloat16(bool(torch.backends.mkldnn.enabled))
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _cpu_has_native_bfloat16(onednn: bool) -> bool:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = {dtype: _product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    except RuntimeError:  # no product in bfloat16 at all
        return False
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.bfloat16] <= _NATIVE * seconds[torch.float32]


def _product_seconds(dtype: torch.dtype) -> float:
    """Return the shortest of five times of one product, after one that warms up."""
    matrix = torch.full((_SIDE, _SIDE), 0.01, dtype=dtype)
    times = []
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for _ in range(6):
            started = time.process_time()
            torch.mm(matrix, matrix)
            times.append(time.process_time() - started)
    return min(times[1:])
