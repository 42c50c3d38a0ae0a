"""What a run folder says before training begins: the audit, and the environment the result may depend on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from pretune import config, kernels
from pretune.kernels import processor
from pretune.runner.prepare import Prepared


def audit_json(data: Prepared) -> dict[str, Any]:
    """Return the audit as the report and other tools read it."""
    return {
        "layout": data.table.layout,
        "root": str(data.table.root),
        "modality": data.table.modality,
        "said": data.table.said,
        "counts": data.counts,
        "findings": [config.to_tree(f) for f in data.findings],
        "ledger": [config.to_tree(e) for e in data.ledger],
        "columns": data.table.columns,
    }


def environment() -> dict[str, Any]:
    """Return what the result may depend on besides recipe and data."""
    packages = {name: version(name) for name in ("torch", "numpy", "pillow", "safetensors")}
    cpu = torch.device("cpu")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor.name(cpu),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_bfloat16": processor.has_native_bfloat16(cpu),
        "kernels": "auto" if kernels.enabled() else "plain",
        "threads": torch.get_num_threads(),
        "packages": packages,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
    }
