"""What reads like a store where there is no room for one: every access decodes the item again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.data.store import Info
from pretune.errors import BadItem, DataError
from pretune.modalities import Modality
from pretune.types import Row


@dataclass(kw_only=True)
class StreamingStore:
    """Infos and shapes in memory, arrays decoded from their files at each access."""

    rows: list[Row]
    modality: Modality
    infos: list[Info]
    shapes: NDArray[np.int64]
    uniform: None = None
    nbytes: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) first dimension of the arrays."""
        return self.shapes[:, 0]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> NDArray[Any]:
        row = self.rows[position]
        try:
            array = self.modality.decode(read(row)).array
        except (OSError, BadItem) as error:
            raise DataError(f"{row.id} could be read before and cannot be read now ({error}). Did the data change?") from error
        if array.shape != tuple(self.shapes[position]):
            raise DataError(f"{row.id} has changed during the run. Leave the data alone and start again.")
        return array


def read(row: Row) -> bytes | tuple[str, ...]:
    """Return a row's inline text or the bytes of its file."""
    if row.text is not None:
        return row.text
    if row.path is None:
        raise DataError(f"{row.id} has neither a path nor a text")
    return row.path.read_bytes()
