"""What a run folder holds, read as data that somebody else may have made: whole, of the expected kind, and inside the folder.

A run folder is data. Nothing in it is run, names a file elsewhere, or is believed because of where it stands; whatever is
missing, cut off or of another kind is one sentence that names the file.
"""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.errors import DataError, RequestError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_CURE = "Take another copy of the run, or train it again."

RENAMED = {
    ("said",): "messages",
    ("gain", "said"): "messages",
    ("counts", "train", "items"): "examples",
    ("counts", "held", "items"): "examples",
}
"""Entries of audit.json, gain.json and metrics.json that older runs have under another name: where they stand -> their name now."""
RENAMED_IN_EVENTS = {"part": "split"}
"""The same of the lines of events.jsonl."""


def damaged(path: Path, why: str, error: type[RequestError] = DataError) -> RequestError:
    """Return the error of a file that is not what it should be."""
    return error(f"{path} is damaged: {why}. {_CURE}")


def unfinished(run: Path, lacks: str, kind: str = "a finished run") -> str:
    """Return the sentence on a folder that is not a run of this kind, or does not exist, with the run that was probably meant."""
    known = {path.name: path for path in Path("runs").glob("*") if (path / lacks).exists()}
    near = [] if run.exists() else difflib.get_close_matches(run.name, known, n=1, cutoff=0.75)
    meant = f" Did you mean {known[near[0]]}?" if near else ""
    why = f"is not {kind}: it has no {lacks}" if run.exists() else "does not exist"
    return f"{run} {why}.{meant} Known runs: pretune runs."


def text_of(path: Path, error: type[RequestError] = DataError) -> str:
    """Return the text of a regular file; devices and pipes, which may never end, are not opened.

    Raises:
        RequestError: of the kind `error`, where the file is missing, is a folder, or is not UTF-8.
    """
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "it is not a regular file" if path.exists() else "the file is missing"
        raise damaged(path, why, error)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise damaged(path, "it is not text", error) from None


def json_of(path: Path, kind: type = dict, error: type[RequestError] = DataError) -> Any:
    """Return the value of a JSON file, which is of this kind.

    Raises:
        RequestError: of the kind `error`, where the file is missing or holds something else.
    """
    text = text_of(path, error)
    if not text.strip():
        raise damaged(path, "it is empty", error)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise damaged(path, f"it is not JSON ({problem})", error) from None
    return _of_kind(_renamed(value), kind, str(path), path, error)


def _renamed(value: Any) -> Any:
    """Return what an older run wrote with the names that entries have now."""
    for (*where, old), new in RENAMED.items():
        holder = value
        for key in where:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and old in holder:
            holder.setdefault(new, holder.pop(old))
    return value


def field(tree: Mapping[str, Any], key: str, kind: type, path: Path, error: type[RequestError] = DataError) -> Any:
    """Return an entry of a JSON object of the file `path`; whole numbers are numbers too.

    Raises:
        RequestError: of the kind `error`, where the entry is missing or of another kind.
    """
    if key not in tree:
        raise damaged(path, f"it has no entry {key!r}", error)
    return _of_kind(tree[key], kind, f"its entry {key!r}", path, error)


def _of_kind(value: Any, kind: type, what: str, path: Path, error: type[RequestError]) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        subject = "it" if what == str(path) else what
        raise damaged(path, f"{subject} is {_KINDS.get(type(value), 'null')}, not {_KINDS[kind]}", error)
    if kind is float and abs(value) > sys.float_info.max:  # JSON's whole numbers have no limit
        raise damaged(path, f"{what} is no finite number", error)
    return value


@contextmanager
def reading(path: Path, error: type[RequestError] = DataError) -> Generator[None]:
    """Within this context, what does not fit what is built from a file's content is the file's fault, and one sentence.

    For the lines that turn the content into objects, and for those alone.
    """
    try:
        yield
    except RequestError as problem:
        if str(problem).startswith(str(path)):
            raise
        raise error(f"{path}: {problem}") from None
    except Exception as problem:  # libraries raise what they like of content that makes no sense
        first = (str(problem).splitlines() or [""])[0][:160]
        raise damaged(path, f"what it says cannot be used ({type(problem).__name__}: {first})", error) from problem


def inside(folder: Path, name: str, named_in: Path) -> Path:
    """Return the path of a file that a run folder names, which lies in that folder.

    Raises:
        DataError: the name is absolute or leads out of the folder.
    """
    relative = Path(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise DataError(f"{named_in} names {name!r}, which is outside {folder}. A run folder refers to its own files only.")
    return folder / relative


def load_exactly(own: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors of a safetensors file into a module's own, by name.

    Args:
        own: a module's tensors, or some of them, as `state_dict` returns them.
        path: of the file, which must hold these and no others.

    Raises:
        WeightsError: the file cannot be read, or a tensor is missing, unexpected, of another shape or type, or not finite.
    """
    import torch

    found = tensors_of(path)
    wrong = [f"missing {name}" for name in own if name not in found] + [f"unexpected {name}" for name in found if name not in own]
    both = [(name, found[name], tensor) for name, tensor in own.items() if name in found]
    wrong += [f"{name}: file {_shown(here)}, network {_shown(there)}" for name, here, there in both if not _alike(here, there)]
    if wrong:
        raise damaged(path, f"it does not fit this model ({'; '.join(wrong[:6])})", WeightsError)
    refuse_not_finite(found, path)
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        WeightsError: the file cannot be read.
    """
    from safetensors.torch import load_file

    with _whole(path):
        return load_file(path)


def sizes_of(path: Path) -> tuple[int, int]:
    """Return how many tensors a safetensors file holds, and how many numbers; only its header is read.

    Raises:
        WeightsError: the file cannot be read.
    """
    from safetensors import safe_open

    with _whole(path), safe_open(path, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a mapping
    return len(shapes), sum(math.prod(shape) for shape in shapes)


def refuse_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise a WeightsError where a tensor holds NaN or infinity: every output would be one, and a class be named all the same."""
    import torch

    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise damaged(path, f"{name} holds values that are not finite numbers (NaN or infinity)", WeightsError)


@contextmanager
def _whole(path: Path) -> Generator[None]:
    """Within this context, what safetensors cannot read of a file is a WeightsError."""
    if not path.is_file():
        raise damaged(path, "it is not a file" if path.exists() else "the file is missing", WeightsError)
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a header's lies lead to
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise damaged(path, f"it is not a whole safetensors file ({why})", WeightsError) from None


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one shape and one kind of numbers."""
    same_kind = one.is_floating_point() == other.is_floating_point() and one.is_complex() == other.is_complex()
    return one.shape == other.shape and same_kind


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
