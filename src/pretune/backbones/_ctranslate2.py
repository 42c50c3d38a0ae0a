"""Reads tensors out of a CTranslate2 `model.bin`, without CTranslate2.

Format (versions 3 to 6), little endian: u32 version, string name of the spec, u32 revision, u32 count, then for each
tensor: string name, u8 rank, u32 dimensions, u8 type, u32 bytes, the data. A string is a u16 length and that many
bytes, the last of them zero.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pretune.errors import WeightsError

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_VERSIONS = range(3, 7)


class _CTranslate2Reader:
    """Takes fields off the front of a buffer."""

    def __init__(self, data: memoryview, what: str) -> None:
        self.data, self.what, self.at = data, what, 0

    def bytes(self, count: int) -> memoryview:
        if self.at + count > len(self.data):
            raise WeightsError(f"{self.what} is cut off after {len(self.data):,} bytes. Install its package again.")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.bytes(struct.calcsize(kind)))[0])

    def string(self) -> str:
        try:
            return bytes(self.bytes(self.number("H"))[:-1]).decode()
        except UnicodeDecodeError:
            raise WeightsError(f"{self.what} holds no text where a name should be. Install its package again.") from None


def read_ctranslate2(data: bytes | memoryview, what: str, wanted: Callable[[str], bool]) -> dict[str, NDArray[np.generic]]:
    """Return the wanted tensors by name, as views of `data`.

    Args:
        data: the whole file, its parts joined.
        what: what to call it in messages.
        wanted: tells by its name whether a tensor is to be returned.

    Raises:
        WeightsError: another version, a type this reader does not know, or the file ends early.
    """
    reader = _CTranslate2Reader(memoryview(data), what)
    version = reader.number("I")
    if version not in _VERSIONS:
        raise WeightsError(f"{what} is version {version} of CTranslate2's format; versions {_VERSIONS[0]} to {_VERSIONS[-1]} are read.")
    reader.string()
    reader.number("I")
    out = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind, size = reader.number("B"), reader.number("I")
        values = reader.bytes(size)
        if not wanted(name):
            continue
        if kind not in _TYPES:
            raise WeightsError(f"{what}: tensor {name} is of type {kind}, which is not read.")
        if math.prod(shape) * np.dtype(_TYPES[kind]).itemsize != size:
            raise WeightsError(f"{what}: tensor {name} of shape {shape} does not fill its {size:,} bytes. Install its package again.")
        out[name] = np.frombuffer(values, _TYPES[kind]).reshape(shape)
    return out
