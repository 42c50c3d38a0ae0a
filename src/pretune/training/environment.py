"""The environment that a result may depend on, recorded in environment.json: versions, processor, threads."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from pretune import kernels
from pretune.errors import RequestError
from pretune.kernels import processor
from pretune.training.run_dir import RunDir

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pillow",
    "safetensors",
    "timm",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "peft",
    "soundfile",
    "soxr",
    "pyarrow",
    "jinja2",
    "markupsafe",
    "rich",
    "faster-coco-eval",
    "jiwer",
    "pyyaml",
    "rapidfuzz",
    "rouge-score",
    "sacrebleu",
)
"""Every library that a run may pass through; scripts/declared holds them equal to what is imported."""
_WITHOUT_EFFECT = frozenset({"platform", "wait_policy", "date"})
"""What is recorded, and changes no number."""


def environment() -> dict[str, Any]:
    """Return what the result may depend on besides recipe and data."""
    cpu = torch.device("cpu")
    return {
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor.name(cpu),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_bfloat16": processor.has_native_bfloat16(cpu),
        "kernels": "auto" if kernels.enabled() else "plain",
        "threads": torch.get_num_threads(),
        "packages": {name: found for name in LIBRARIES if (found := _version(name))},
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # of an extra
        return None


def write_environment(folder: RunDir, *, resumed: bool) -> str:
    """Write environment.json; return a sentence on what differs where a run is resumed in another environment, else an empty one."""
    now = environment()
    try:
        before = folder.read_json("environment.json") if resumed else {}
    except (RequestError, ValueError):  # missing or damaged: it is written again
        before = {}
    folder.write_json("environment.json", now | {"date": before.get("date", now["date"])})
    return environment_changes(before, now)


def environment_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return a sentence on what a resumed run computes with now and did not when it was started; empty where nothing differs."""
    packages = [found if isinstance(found := environment.get("packages"), dict) else {} for environment in (before, now)]
    flat = [
        {k: v for k, v in environment.items() if k != "packages"} | found
        for environment, found in zip((before, now), packages, strict=True)
    ]
    keys = [key for key in flat[0] if key not in _WITHOUT_EFFECT and flat[0][key] != flat[1].get(key)]
    if not keys:
        return ""
    shown = ", ".join(f"{key} was {flat[0][key]} and is {flat[1].get(key)}" for key in keys)
    return f"this run was started in another environment, so its last digits may differ from an uninterrupted run's: {shown}"
