"""Labels: what is to be predicted, as tensors that are taken, moved and stored like the inputs beside them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pretune.geometry import Geometry, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Ragged:
    """One tensor an example, of lengths that differ; all of them lie one after the other."""

    values: Tensor
    """(sum of lengths, …)."""
    lengths: Tensor
    """(N,) int64."""

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Ragged:
        """Return tensors (L_i, …) of N >= 1 examples as one."""
        return cls(values=torch.cat(list(tensors)), lengths=torch.tensor([len(one) for one in tensors], device=tensors[0].device))

    @classmethod
    def unpadded(cls, padded: Tensor, mask: Tensor) -> Ragged:
        """Return what is real of (N, T, …): where the mask (N, T) is True."""
        return cls(values=padded[mask], lengths=mask.sum(1))

    def __len__(self) -> int:
        return len(self.lengths)

    def float(self) -> Ragged:
        """Return the same in float32."""
        return Ragged(values=self.values.float(), lengths=self.lengths)

    def cpu(self) -> Ragged:
        """Return the same in the processor's memory."""
        return self.to(torch.device("cpu"))

    def take(self, index: slice | Tensor) -> Ragged:
        """Return some examples, in the order of the index: a slice, or positions (K,) int64."""
        lengths, starts = self.lengths[index], (self.lengths.cumsum(0) - self.lengths)[index]
        within = torch.arange(int(lengths.sum()), device=lengths.device) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return Ragged(values=self.values[starts.repeat_interleave(lengths) + within], lengths=lengths)

    def to(self, device: torch.device) -> Ragged:
        """Return the same on a device."""
        return Ragged(values=self.values.to(device, non_blocking=True), lengths=self.lengths.to(device, non_blocking=True))

    def split(self) -> tuple[Tensor, ...]:
        """Return each example's tensor (L_i, …)."""
        return self.values.split(self.lengths.tolist())

    def padded(self, fill: builtins.float, width: int | None = None) -> Tensor:
        """Return (N, width, …), `fill` behind what is shorter; `width` is the longest by default."""
        width = int(self.lengths.max()) if width is None else width
        mask = torch.arange(width, device=self.lengths.device) < self.lengths[:, None]
        out = self.values.new_full((*mask.shape, *self.values.shape[1:]), fill)
        out[mask] = self.values
        return out


Outputs = Tensor | Ragged
"""A network's outputs for N examples: a row (N, …) each, or ragged, one for each position."""


def taken(one: Outputs, index: slice | Tensor) -> Outputs:
    """Return some examples, in the order of the index: a slice, or positions (K,) int64."""
    return one.take(index) if isinstance(one, Ragged) else one[index]


def moved(one: Outputs, geometry: Geometry, kind: Kind) -> Outputs:
    """Return points or boxes of N examples, dense or ragged, where the examples' maps put them."""
    if isinstance(one, Ragged):
        example = torch.arange(len(one)).repeat_interleave(one.lengths.cpu())
        return Ragged(values=geometry.move(one.values, kind, example), lengths=one.lengths)
    return geometry.move(one, kind)


def joined(pieces: Sequence[Outputs]) -> Outputs:
    """Return the examples of all pieces (at least one, all of one kind), one after the other."""
    ragged = [piece for piece in pieces if isinstance(piece, Ragged)]
    if not ragged:
        return torch.cat([piece for piece in pieces if isinstance(piece, Tensor)])
    return Ragged(values=torch.cat([piece.values for piece in ragged]), lengths=torch.cat([piece.lengths for piece in ragged]))


def numbers(outputs: Outputs) -> Tensor:
    """Return all numbers, whatever example they belong to."""
    return outputs.values if isinstance(outputs, Ragged) else outputs


def finite(outputs: Outputs) -> Tensor:
    """Return which examples (N,) have finite numbers only."""
    if isinstance(outputs, Ragged):
        return torch.tensor([bool(torch.isfinite(one).all()) for one in outputs.split()], dtype=torch.bool)
    return torch.isfinite(outputs).flatten(1).all(1)


@dataclass(frozen=True, slots=True)
class Labels:
    """What is to be predicted for some examples: tensors by name, one row an example, ragged where examples have several.

    A task that predicts one thing has one tensor, `target`; boxes are `Labels({"boxes": Ragged, "classes": Ragged}, {"boxes": "box"})`.
    """

    tensors: Mapping[str, Outputs]
    located: Mapping[str, Kind] = field(default_factory=dict)
    """The tensors that say where something is in an example, in coordinates of its file (`Geometry`); they follow crops and flips."""

    @classmethod
    def of(cls, target: Outputs) -> Labels:
        """Return the labels of a task that predicts one thing."""
        return cls({"target": target})

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(next(iter(self.tensors.values())))

    @property
    def only(self) -> Tensor:
        """The one tensor, of labels that are one: (N,) int64 classes, (N, C) multi-hot or soft classes, (N,) float32 numbers."""
        (target,) = self.tensors.values()
        if isinstance(target, Ragged):
            raise TypeError("these labels are ragged: an example has several")
        return target

    @property
    def several(self) -> bool:
        """Whether an example has several labels: boxes, tags, the words of a transcript."""
        return len(self.tensors) > 1 or any(isinstance(one, Ragged) for one in self.tensors.values())

    @property
    def value(self) -> Any:
        """What a loss takes: the one tensor where that is all, else these labels."""
        return self if self.several else next(iter(self.tensors.values()))

    def __getitem__(self, name: str) -> Outputs:
        return self.tensors[name]

    def take(self, index: slice | Tensor) -> Labels:
        """Return those of some examples, in the order of the index."""
        return replace(self, tensors={name: taken(one, index) for name, one in self.tensors.items()})

    def to(self, device: torch.device) -> Labels:
        """Return the same on a device."""
        there = {n: one.to(device) if isinstance(one, Ragged) else one.to(device, non_blocking=True) for n, one in self.tensors.items()}
        return replace(self, tensors=there)

    def moved(self, geometry: Geometry) -> Labels:
        """Return the same with what is located where the examples' maps put it."""
        return replace(self, tensors={**self.tensors, **{name: moved(self[name], geometry, kind) for name, kind in self.located.items()}})

    def grouped(self, counts: Tensor) -> Labels:
        """Return labels of as many examples as there are counts, each made of so many of these in a row.

        What is ragged comes together; of a tensor with one row an example, the first row stays.
        """
        return replace(self, tensors={name: _grouped(one, counts) for name, one in self.tensors.items()})

    def placed(self, index: Tensor, size: int) -> Labels:
        """Return labels of `size` examples of which those at `index` (rising) have these; the others have zeros, or nothing."""
        return replace(self, tensors={name: _placed(one, index, size) for name, one in self.tensors.items()})


def _grouped(one: Outputs, counts: Tensor) -> Outputs:
    if isinstance(one, Ragged):
        return Ragged(values=one.values, lengths=torch.stack([part.sum() for part in one.lengths.split(counts.tolist())]))
    return one[counts.cumsum(0) - counts]


def _placed(one: Outputs, index: Tensor, size: int) -> Outputs:
    if isinstance(one, Ragged):
        lengths = one.lengths.new_zeros(size)
        lengths[index] = one.lengths
        return Ragged(values=one.values, lengths=lengths)
    out = one.new_zeros((size, *one.shape[1:]))
    out[index] = one
    return out
