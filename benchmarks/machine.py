"""Facts that go with every result: machine, threads, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "peft", "sentence-transformers", "setfit", "fastai", "spdl", "autogluon.multimodal",
    "scikit-learn", "numpy", "pillow",
)  # fmt: skip
FORMATS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "bf16")
"""Processor flags that decide how fast float32 and bfloat16 are."""
PREFIXES = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_")


def facts() -> dict[str, str | int]:
    """Return processor, number formats, cores, memory and system."""
    text = Path("/proc/cpuinfo").read_text()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "formats": ", ".join(name for name in FORMATS if name in flags) or "none known",
        "cores": cores(),
        "memory_gb": round(memory),
        "system": platform.platform(terse=True),
    }


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def threads() -> dict[str, str]:
    """Return the thread settings of every contestant: all cores, libgomp's own waiting, and what this environment says instead.

    Spinning while waiting (`OMP_WAIT_POLICY=ACTIVE`) would help loops and hurt loaders with worker processes, so that all get
    what libgomp does where nothing is set; it is set so that no library chooses for itself.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    waiting = {} if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(ours) else {"GOMP_SPINCOUNT": "300000"}
    return {"OMP_NUM_THREADS": str(cores()), "MKL_NUM_THREADS": ours.get("OMP_NUM_THREADS", str(cores())), **waiting, **ours}


def environment() -> dict[str, str]:
    """Return the environment variables of every contestant."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*PREFIXES, "PYTHONPATH"))}
    return {**kept, **threads(), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}


def versions(python: str) -> dict[str, str]:
    """Return the versions of the packages that another interpreter's environment has."""
    code = (
        "import platform, importlib.metadata as m; print('python', platform.python_version())\n"
        f"for p in {PACKAGES!r}:\n try: print(p, m.version(p))\n except m.PackageNotFoundError: pass"
    )
    lines = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split() for line in lines)


def commit(repository: Path) -> str:
    """Return the short commit, with '+' where the source differs from it."""
    git = ["git", "-C", str(repository)]
    short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True).stdout
    return short + ("+" if changed else "")
