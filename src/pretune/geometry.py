"""Where the coordinates of an example lie in what the network gets of it, so that boxes and times follow crops and flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["box", "point"]
"""What numbers a located label has for A axes. box: (…, 2A), the smallest coordinates, then the largest ones, as (x1, y1, x2, y2) or
(start, end). point: (…, A)."""


def scaling(scale: Sequence[float], offset: Sequence[float]) -> NDArray[np.float64]:
    """Return the map x -> scale * x + offset along each of A axes: (A, A + 1)."""
    return np.column_stack([np.diag(scale), offset]).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Geometry:
    """One affine map an example, from the coordinates of its file to those of the network's input.

    Coordinates of an image are (x, y) in pixels of the file as it is shown upright; (0, 0) is the top left corner of its first pixel,
    (width, height) the bottom right corner of its last one. Those of an audio file are (seconds,). In the network's input they are
    pixels and samples.
    """

    matrices: Tensor
    """(B, A, A + 1) float64: y = matrix[:, :A] @ x + matrix[:, A]. They stay in the processor's memory."""

    @classmethod
    def of(cls, matrices: Sequence[NDArray[np.float64]]) -> Geometry:
        """Return the maps (A, A + 1) of B >= 1 examples as one."""
        return cls(torch.from_numpy(np.stack(matrices)))

    @classmethod
    def mirror(cls, chosen_B: Tensor, axis: int, size: int, axes: int) -> Geometry:
        """Return maps that mirror some examples: x -> size - x along one axis."""
        matrices = torch.eye(axes, axes + 1, dtype=torch.float64).repeat(len(chosen_B), 1, 1)
        matrices[chosen_B, axis, axis] = -1
        matrices[chosen_B, axis, axes] = size
        return cls(matrices)

    @classmethod
    def about(cls, linear: Tensor, centre: Sequence[float], shift: Tensor | None = None) -> Geometry:
        """Return maps x -> linear @ (x - centre) + centre + shift, for linear (B, A, A) and shift (B, A)."""
        linear = linear.double()
        fixed = torch.tensor(centre, dtype=torch.float64)
        offset = fixed - linear @ fixed + (0 if shift is None else shift.double())
        return cls(torch.cat([linear, offset[..., None]], -1))

    def __len__(self) -> int:
        return len(self.matrices)

    def take(self, index: slice | Tensor) -> Geometry:
        """Return the maps of some examples."""
        return Geometry(self.matrices[index])

    def then(self, other: Geometry) -> Geometry:
        """Return the maps followed by those of `other`."""
        linear, offset = other._parts()
        product = linear @ self.matrices
        return Geometry(torch.cat([product[..., :-1], product[..., -1:] + offset[..., None]], -1))

    def inverse(self) -> Geometry:
        """Return the maps from the network's input to the file: for predictions."""
        linear, offset = self._parts()
        back = torch.linalg.inv(linear)
        return Geometry(torch.cat([back, -(back @ offset[..., None])], -1))

    def move(self, values: Tensor, kind: Kind, example: Tensor | None = None) -> Tensor:
        """Return where points or boxes come to lie; `pretune.labels.moved` takes ragged ones.

        A box becomes the smallest one around it that lies along the axes. Nothing is cut off at the edges of the input.

        Args:
            values: (N, …, A) or (N, …, 2A) floats.
            kind: what the last axis is.
            example: (N,) which example each row belongs to; None where there is one for each.
        """
        example = torch.arange(len(values)) if example is None else example.cpu()
        linear, offset = (part[example].to(values) for part in self._parts())
        axes = offset.shape[-1]
        flat = values.reshape(len(values), -1, values.shape[-1])
        if kind == "point":
            moved = torch.einsum("nij,nkj->nki", linear, flat) + offset[:, None]
        else:
            low, high = flat[..., :axes], flat[..., axes:]
            middle = torch.einsum("nij,nkj->nki", linear, (low + high) / 2) + offset[:, None]
            half = torch.einsum("nij,nkj->nki", linear.abs(), (high - low) / 2)
            moved = torch.cat([middle - half, middle + half], -1)
        return moved.reshape(values.shape)

    def _parts(self) -> tuple[Tensor, Tensor]:
        return self.matrices[..., :-1], self.matrices[..., -1]
