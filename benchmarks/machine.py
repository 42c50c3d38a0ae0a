"""Facts that go with every result: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

OURS = ("torch", "torchvision", "timm", "numpy", "pillow")
PEERS = ("torch", "torchvision", "timm", "numpy", "pillow", "fastai", "transformers", "accelerate", "datasets")


def facts() -> dict[str, str | int]:
    """Return CPU, cores, memory and system."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    flags = Path("/proc/cpuinfo").read_text()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.processor(),
        "bf16": ", ".join(name for name in ("avx512_bf16", "amx_bf16") if name in flags) or "none",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory),
        "system": platform.platform(terse=True),
    }


def versions(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of packages in another interpreter's environment."""
    code = (
        "import platform, importlib.metadata as m; print('python', platform.python_version()); "
        f"[print(p, m.version(p)) for p in {packages!r}]"
    )
    lines = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split() for line in lines)


def commit(repository: Path) -> str:
    """Return the short commit, with '+' where the source differs from it."""
    git = ["git", "-C", str(repository)]
    short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True).stdout
    return short + ("+" if changed else "")
