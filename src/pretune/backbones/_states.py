"""Tensors by name out of a weights file, without running what is in it and without believing what it says of itself."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretune.errors import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model_state", "teacher", "model", "network",
    "net", "module", "encoder", "backbone", "student", "params", "weights",
)  # fmt: skip
"""Entries that training tools keep a network's tensors under; a moving average is preferred to what it averages."""
_UNPACKS = 4
"""How many times its size the content of an archive may be: torch.save does not compress, so more is a zip bomb."""
_OTHER_FILES = (
    (b"GGUF", "a GGUF file"), (b"\x89HDF", "an HDF5 (Keras) file"), (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run: git lfs pull)"),
    (b"<!DOCTYPE", "a web page"), (b"<html", "a web page"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip
_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "C64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True, kw_only=True)
class State:
    """The tensors of a file and what to call them."""

    tensors: dict[str, Tensor]
    """Those that most likely are the network's, by its names."""
    source: str
    """The file, and what was taken off to get at the tensors, for people."""
    found: dict[str, Tensor] = field(default_factory=dict)
    """All tensors of the file, each under its entries and its name, joined by dots: 'teacher.backbone.conv1.weight'."""
    entries: tuple[str, ...] = ()
    """The dictionaries inside the file that hold tensors: 'teacher'."""
    entry: str | None = None
    """What the person chose of them: an entry, or the beginning of the names."""
    id: str = ""
    """How the person named the weights, for messages that show another spelling."""


def read_state(path: Path, entry: str | None = None) -> State:
    """Return the tensors of a safetensors or PyTorch file; wrappers that training tools put around them are taken off.

    Args:
        path: the file.
        entry: what to take of several sets of weights; `fit` obeys it.

    Raises:
        WeightsError: missing, cut off, of another kind, or it holds Python objects besides tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {_no_file(path)}. Weights are read from files ending in {', '.join(SUFFIXES)}.")
    content = _safetensors(path) if _is_safetensors(path) else _torch(path)
    tensors, removed = _unwrapped(content)
    found, entries = _flat(content)
    _check_dense(found, path)
    if not found:
        raise WeightsError(f"{path} holds no tensors by name. Save a state dict: torch.save(model.state_dict(), 'weights.pth').")
    source = f"{path} ({'; '.join(removed)})" if removed else str(path)
    return State(tensors=tensors or found, source=source, found=found, entries=entries, entry=entry)


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a weights file"
    return "is not a regular file" if path.exists() else "there is no such file"


# --- safetensors -----------------------------------------------------------------------------------


def _is_safetensors(path: Path) -> bool:
    """Return by name or content: a length in eight bytes, then JSON."""
    with path.open("rb") as file:
        start = file.read(16)
    return path.suffix == ".safetensors" or (start[8:9] == b"{" and start[:1] not in (b"P", b"\x80"))


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # noqa: BLE001 - whatever a header's lies lead to: SafetensorError, KeyError, MemoryError …
        why = header_fault(path) or " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(f"{path} is not a whole safetensors file ({why}). Fetch it again.") from None


def header_fault(path: Path) -> str:
    """Return what is wrong with the header of a safetensors file, and with which tensor; empty where nothing is found."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= size - 8:
            return f"its header is said to take {length:,} bytes, but the file has {size:,}"
        try:
            header: Any = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return "its header is no JSON"
    if not isinstance(header, dict):
        return "its header names no tensors"
    return next((why for name, entry in header.items() if name != "__metadata__" and (why := _wrong(name, entry, size - 8 - length))), "")


def _wrong(name: str, entry: Any, room: int) -> str:
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        count = 1
        for side in shape:
            count *= side
        if not 0 <= start <= end or min(shape, default=0) < 0:
            return f"tensor {name!r} has a shape or a place that cannot be"
    except (KeyError, TypeError, ValueError):
        return f"tensor {name!r} is not described by dtype, shape and offsets"
    if end > room:
        return f"tensor {name!r} is said to end at byte {end:,} of {room:,}: the file is cut off, or its header is wrong"
    if kind in _BYTES and count * _BYTES[kind] != end - start:
        return f"tensor {name!r} of shape {shape} takes {count * _BYTES[kind]:,} bytes as {kind}, but {end - start:,} are set aside for it"
    return ""


# --- PyTorch ---------------------------------------------------------------------------------------


def _torch(path: Path) -> Any:
    _refuse_others(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was written; what is wrong with it is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "objects that are not tensors")
        raise WeightsError(
            f"{path} holds Python code or objects besides tensors, which are never run here ({named[:160]}). "
            "Where you trust it, load it once yourself and save only the tensors: torch.save(model.state_dict(), 'weights.pth')."
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes lead to
        what = "a TorchScript archive" if "TorchScript" in str(error) else "not a whole PyTorch file"
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} is {what} ({why}). Give a file written by torch.save(model.state_dict(), …) or a .safetensors file."
        ) from None


def _refuse_others(path: Path) -> None:
    """Refuse files of other kinds by their first bytes, and archives that unpack to many times their size."""
    with path.open("rb") as file:
        start = file.read(32)
    for signature, name in _OTHER_FILES:
        if start.startswith(signature):
            raise WeightsError(f"{path} is {name}. Give a file written by torch.save(model.state_dict(), …) or a .safetensors file.")
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # torch.load says what is wrong with it
    size = path.stat().st_size
    if unpacked > _UNPACKS * size:
        raise WeightsError(
            f"{path} has {size:,} bytes and unpacks to {unpacked:,}: torch.save does not compress, so it is not a file of weights that "
            "PyTorch wrote. Nothing of it was read."
        )


def _check_dense(found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors without plain numbers: sparse or quantised ones, and those of the meta device."""
    for name, tensor in found.items():
        what = (
            "on the meta device, without numbers" if tensor.is_meta
            else "quantised" if tensor.is_quantized
            else "sparse" if tensor.layout != torch.strided
            else ""
        )  # fmt: skip
        if what:
            raise WeightsError(f"{path}: tensor {name!r} is {what}. Save the network's weights as plain float32 tensors.")


# --- dictionaries inside a file --------------------------------------------------------------------


def _unwrapped(content: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors behind the entries that training tools put around them, and which those are."""
    removed: list[str] = []
    seen: set[int] = set()
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        seen.add(id(content))  # a dictionary may contain itself
        inside: dict[Any, Any] = content
        key = next((key for key in _WRAPPERS if isinstance(inside.get(key), dict) and id(inside[key]) not in seen), None)
        if key is None:
            return {}, removed
        content = inside[key]
        removed.append(f"its entry {key!r}")
    if not isinstance(content, dict):
        return {}, removed
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}, removed


def _flat(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return all tensors by dotted names, and the names of the dictionaries that hold them; each dictionary is read once."""
    found: dict[str, Tensor] = {}
    entries: list[str] = []
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        place, inside = waiting.pop(0)
        if not isinstance(inside, dict) or id(inside) in seen:
            continue
        seen.add(id(inside))
        tensors = {f"{place}{name}": value for name, value in inside.items() if isinstance(value, Tensor)}
        if tensors and place:
            entries.append(place.rstrip("."))
        found |= tensors
        waiting += [(f"{place}{name}.", value) for name, value in inside.items() if isinstance(value, dict)]
    return found, tuple(entries)
