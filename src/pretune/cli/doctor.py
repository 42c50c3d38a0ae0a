"""pretune doctor: whether this machine and this installation can do what they should, and what to do where they cannot."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pretune import __version__
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened
from pretune.errors import PretuneError, RequestError

_IMPORTED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "pillow": "PIL",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "scipy": "scipy",
}
"""Distributions that must be there, and what is imported of each."""
_OPTIONAL = {"pyarrow": "Parquet and Arrow files cannot be read"}
_LITTLE_SPACE, _LITTLE_MEMORY = 2e9, 2e9
"""Bytes below which a warning is given."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "problem"] = "ok"
    detail: str
    cure: str = ""


def main(arguments: Arguments) -> dict[str, Any]:
    """Print every check and return them.

    Raises:
        RequestError: something that is needed does not work.
    """
    done: list[Check] = []
    with opened(stdout=not arguments.json) as terminal:
        for check in _checks(terminal):
            done.append(check)
            line = f"{check.name:<13} {check.detail}{f'. {check.cure}' if check.cure else ''}"
            terminal.say(f"  {line}") if check.state == "ok" else terminal.warn(line)
        problems = [check for check in done if check.state == "problem"]
        if not problems:
            warnings = sum(check.state == "warning" for check in done)
            terminal.say("Everything works." if not warnings else f"pretune works; {warnings} warning{'s' * (warnings > 1)} above.")
    if problems:
        raise RequestError(f"{', '.join(check.name for check in problems)}: see above what to do.")
    return {"checks": [asdict(check) for check in done]}


def _checks(terminal: Any) -> Iterator[Check]:
    """Look at everything, what takes no time first."""
    yield Check(name="pretune", detail=f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _disk("runs", Path.cwd(), "Work in another folder, or set out=FOLDER")
    yield _cache()
    yield _memory()
    for number, (package, module) in enumerate(_IMPORTED.items()):
        terminal.progress(f"loading {package}", number, len(_IMPORTED))
        yield _package(package, module)
    for package, lacks in _OPTIONAL.items():
        found = _version(package)
        cure = "" if found else f"Install it with: pip install {package}"
        yield Check(name=package, state="ok" if found else "warning", detail=found or f"not installed: {lacks}", cure=cure)
    if "torch" in sys.modules:
        yield from _device()
        yield from _weights()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _package(package: str, module: str) -> Check:
    """Import a library that is needed."""
    found, cure = _version(package), f"Install it with: pip install --force-reinstall {package}"
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is what is to be reported
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        return Check(name=package, state="problem", detail=f"{found or 'not installed'}: cannot be imported ({why})", cure=cure)
    return Check(name=package, detail=found or "no version")


def _disk(name: str, folder: Path, cure: str) -> Check:
    """Look whether a folder can be written to, and how much space there is."""
    above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not above.is_dir() or not os.access(above, os.W_OK):
        return Check(name=name, state="problem", detail=f"{folder} cannot be written to", cure=f"{cure}.")
    free = shutil.disk_usage(above).free
    little = free < _LITTLE_SPACE
    return Check(
        name=name,
        state="warning" if little else "ok",
        detail=f"{folder}, {free / 1e9:.1f} GB free",
        cure=f"{cure}, or free some space." if little else "",
    )


def _cache() -> Check:
    from pretune.storage.cache import Cache

    return _disk("cache", Cache().root, "Set PRETUNE_CACHE=FOLDER")


def _memory() -> Check:
    """Look at how much memory is free; where nobody says, nothing is claimed."""
    try:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Check(name="memory", detail="not known on this system")
    little = total < _LITTLE_MEMORY
    cure = "Choose a small batch_size=, and a small backbone." if little else ""
    return Check(name="memory", state="warning" if little else "ok", detail=f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB unused", cure=cure)


def _device() -> Iterator[Check]:
    """Describe the processor."""
    from pretune.training.device import open_device
    from pretune.training.environment import environment

    known = environment()
    dtype = "bfloat16 is native" if known["native_bfloat16"] else "computes in float32 (no native bfloat16)"
    yield Check(name="processor", detail=f"{known['cpu']}, {known['threads']} threads, {dtype}")
    with open_device() as device:
        kind = {"cuda": "NVIDIA or AMD (CUDA), is used", "mps": "Apple (MPS), is used"}.get(device.device.type)
        yield Check(name="GPU", detail=kind or "none that PyTorch can use; the processor computes")


def _weights() -> Iterator[Check]:
    """Return which pretrained weights are on this machine."""
    from pretune import backbones, registry

    for modality in registry.names("modalities"):
        try:
            yield Check(name=f"{modality} weights", detail=f"{backbones.default(modality)} (the default backbone)")
        except PretuneError as error:
            yield Check(name=f"{modality} weights", state="warning", detail=str(error).rstrip("."))
