"""Tensors by name out of a weights file, without running what is in it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretune.errors import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True, kw_only=True)
class State:
    """The tensors of a file and what to call them."""

    tensors: dict[str, Tensor]
    source: str
    """The file, and what was taken off to get at the tensors, for people."""


def read_state(path: Path) -> State:
    """Return the tensors of a safetensors or PyTorch file; wrappers that training tools put around them are taken off.

    Raises:
        WeightsError: missing, cut off, of another kind, or it holds Python objects besides tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file. Weights are read from files ending in {', '.join(SUFFIXES)}.")
    read = _safetensors if path.suffix == ".safetensors" else _torch
    tensors, removed = _unwrapped(read(path))
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name. Save a state dict: torch.save(model.state_dict(), 'weights.pth').")
    return State(tensors=tensors, source=f"{path} ({'; '.join(removed)})" if removed else str(path))


def fit_prefixes(state: State, known: Callable[[str], bool]) -> State:
    """Return the state with `module.`, `_orig_mod.` or `model.` taken off its names where that is what makes them fit."""
    tensors, removed = state.tensors, []
    while not any(known(name) for name in tensors):
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        removed.append(f"prefix {prefix!r} taken off")
    return State(tensors=tensors, source="; ".join([state.source, *removed]))


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}). Fetch it again.") from None


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "objects that are not tensors")
        raise WeightsError(
            f"{path} holds Python code or objects besides tensors, which are never run here ({named[:160]}). "
            "Where you trust it, load it once yourself and save only the tensors: torch.save(model.state_dict(), 'weights.pth')."
        ) from None
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError) as error:
        what = "a TorchScript archive" if "TorchScript" in str(error) else "not a whole PyTorch file"
        raise WeightsError(
            f"{path} is {what} ({str(error).splitlines()[0][:120] if str(error) else type(error).__name__}). "
            "Give a file written by torch.save(model.state_dict(), …) or a .safetensors file."
        ) from None


def _unwrapped(content: Any) -> tuple[dict[str, Tensor], list[str]]:
    removed: list[str] = []
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        key = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if key is None:
            return {}, removed
        content = content[key]
        removed.append(f"its entry {key!r}")
    if not isinstance(content, dict):
        return {}, removed
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}, removed
