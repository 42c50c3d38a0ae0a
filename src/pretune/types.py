"""The nouns that every layer shares: rows, batches, features, what a step returns.

Imports torch for typing only, so that the CLI and the configuration layer stay light.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

Target = str | tuple[str, ...] | float | None
"""A class name, the names of a multilabel item, a number, or None for an unlabelled item."""


class NotUsed(NamedTuple):
    """Why nothing reads a setting under the choices made."""

    by: str
    """What does not read it, as a person named it: 'schedule=cosine'."""
    instead: str = ""
    """What to do other than removing it: 'choose schedule=step'."""


Split = Literal["train", "val", "test"]
Layout = Literal["raw", "map", "sequence", "pooled"]


class Cell(Protocol):
    """A file that lies inside a table; it is read like a path."""

    def read_bytes(self) -> bytes:
        """Return the file's bytes.

        Raises:
            BadItem: the cell is empty.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One item of a data set, before anything is decoded."""

    id: str
    """Unique and readable: the path relative to the data root with '/', or 'data.csv:17'."""
    path: Path | Cell | None = None
    """The file that holds the content; None where `text` holds it."""
    text: tuple[str, ...] | None = None
    """Inline content: one string, or two for a sentence pair."""
    target: Target = None
    split: Split | None = None
    """None where the source does not say; the splitter decides."""
    group: str | None = None
    """Items of one group never fall on two sides of a split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """One item at working size: what the store keeps."""

    array: np.ndarray
    """image: uint8 (H, W, 3); audio: float32 (T,); text: int32 (T,)."""
    info: dict[str, int | float | str]
    """Facts the audit reads, JSON-ready: width, height, format, dhash; sample_rate, rms; tokens …"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One item that was dropped or repaired, and why."""

    item: str
    action: Literal["dropped", "repaired"]
    reason: str
    """A slug that groups entries: 'unreadable', 'blank_label', 'missing_file' …"""
    detail: str
    """A sentence a person can act on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing the audit has to say about the data as a whole."""

    kind: str
    """A slug: 'leak', 'near_duplicate', 'contradiction', 'imbalance', 'lookalike_classes', 'confound' …"""
    severity: Literal["warning", "note"]
    message: str
    """A sentence with the figures and what to do."""
    items: tuple[str, ...] = ()
    """Ids (or class names) concerned, the first few hundred at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """A named tensor between two stages of a model.

    Layouts: raw (B, …) as collated; map (B, C, H, W); sequence (B, T, D); pooled (B, D).
    """

    tensor: torch.Tensor
    layout: Layout
    mask: torch.Tensor | None = None
    """(B, T) bool, True where a sequence position is real; None where all are."""
    heard: bool = False
    """True where the network sees what is not real as well (silence after a sound): only pooling leaves that out, and a cache keeps it."""

    collected: torch.Tensor | None = None
    """(B, k·D) means of the stages so far, where pooling takes those of all stages."""

    def with_tensor(self, tensor: torch.Tensor, layout: Layout | None = None) -> Features:
        """Return the same features with another tensor (and layout)."""
        return replace(self, tensor=tensor, layout=layout or self.layout)

    def take(self, index: slice | torch.Tensor) -> Features:
        """Return some of the batch's examples."""
        mask, collected = (None if one is None else one[index] for one in (self.mask, self.collected))
        return replace(self, tensor=self.tensor[index], mask=mask, collected=collected)

    def to(self, device: torch.device) -> Features:
        """Return the same features on a device."""
        tensors = (None if one is None else one.to(device, non_blocking=True) for one in (self.mask, self.collected))
        mask, collected = tensors
        return replace(self, tensor=self.tensor.to(device, non_blocking=True), mask=mask, collected=collected)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ragged:
    """One tensor an example, of lengths that differ; all of them lie one after the other."""

    values: torch.Tensor
    """(sum of lengths, …)."""
    lengths: torch.Tensor
    """(N,) int64."""

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor]) -> Ragged:
        """Return tensors (L_i, …) of N >= 1 examples as one."""
        import torch

        return cls(values=torch.cat(list(tensors)), lengths=torch.tensor([len(one) for one in tensors], device=tensors[0].device))

    @classmethod
    def unpadded(cls, padded: torch.Tensor, mask: torch.Tensor) -> Ragged:
        """Return what is real of (N, T, …): where the mask (N, T) is True."""
        return cls(values=padded[mask], lengths=mask.sum(1))

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, index: slice | torch.Tensor) -> Ragged:
        """Return some examples, in the order of the index: a slice, or positions (K,) int64."""
        import torch

        lengths, starts = self.lengths[index], (self.lengths.cumsum(0) - self.lengths)[index]
        within = torch.arange(int(lengths.sum()), device=lengths.device) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return Ragged(values=self.values[starts.repeat_interleave(lengths) + within], lengths=lengths)

    def to(self, device: torch.device) -> Ragged:
        """Return the same on a device."""
        return Ragged(values=self.values.to(device, non_blocking=True), lengths=self.lengths.to(device, non_blocking=True))

    def split(self) -> tuple[torch.Tensor, ...]:
        """Return each example's tensor (L_i, …)."""
        return self.values.split(self.lengths.tolist())

    def padded(self, fill: float, width: int | None = None) -> torch.Tensor:
        """Return (N, width, …), `fill` behind what is shorter; `width` is the longest by default."""
        import torch

        width = int(self.lengths.max()) if width is None else width
        mask = torch.arange(width, device=self.lengths.device) < self.lengths[:, None]
        out = self.values.new_full((*mask.shape, *self.values.shape[1:]), fill)
        out[mask] = self.values
        return out


@dataclass(frozen=True, slots=True)
class Labels:
    """What is to be predicted for some examples: tensors by name, one row an example, ragged where examples have several.

    A task that predicts one thing has one tensor, `target`; boxes are `{"boxes": Ragged, "classes": Ragged}`.
    """

    tensors: Mapping[str, torch.Tensor | Ragged]

    @classmethod
    def of(cls, target: torch.Tensor | Ragged) -> Labels:
        """Return the labels of a task that predicts one thing."""
        return cls({"target": target})

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(next(iter(self.tensors.values())))

    @property
    def only(self) -> torch.Tensor:
        """The one tensor, of labels that are one: (N,) int64 classes, (N, C) multi-hot or soft classes, (N,) float32 numbers."""
        (target,) = self.tensors.values()
        if isinstance(target, Ragged):
            raise TypeError("these labels are ragged: an example has several")
        return target

    @property
    def value(self) -> Any:
        """What a loss takes: the one tensor where that is all, else these labels."""
        one = next(iter(self.tensors.values()))
        return self if len(self.tensors) > 1 or isinstance(one, Ragged) else one

    def __getitem__(self, name: str) -> torch.Tensor | Ragged:
        return self.tensors[name]

    def take(self, index: slice | torch.Tensor) -> Labels:
        """Return those of some examples, in the order of the index."""
        return Labels({name: one.take(index) if isinstance(one, Ragged) else one[index] for name, one in self.tensors.items()})

    def to(self, device: torch.device) -> Labels:
        """Return the same on a device."""
        moved = {n: one.to(device) if isinstance(one, Ragged) else one.to(device, non_blocking=True) for n, one in self.tensors.items()}
        return Labels(moved)

    def placed(self, index: torch.Tensor, size: int) -> Labels:
        """Return labels of `size` examples of which those at `index` (rising) have these; the others have zeros, or nothing."""
        return Labels({name: _placed(one, index, size) for name, one in self.tensors.items()})


def _placed(one: torch.Tensor | Ragged, index: torch.Tensor, size: int) -> torch.Tensor | Ragged:
    if isinstance(one, Ragged):
        lengths = one.lengths.new_zeros(size)
        lengths[index] = one.lengths
        return Ragged(values=one.values, lengths=lengths)
    out = one.new_zeros((size, *one.shape[1:]))
    out[index] = one
    return out


@dataclass(kw_only=True, slots=True)
class Batch:
    """What the loader yields and a Learner eats."""

    inputs: Features
    """Raw collated input, or cached features of the stage the model starts from."""
    labels: Labels | None
    """Aligned with the inputs; None unlabelled."""
    index: torch.Tensor
    """(B,) int64 position of each item in its data view; results are aligned by it."""

    @property
    def size(self) -> int:
        """Number of items."""
        return int(self.index.shape[0])

    @property
    def target(self) -> torch.Tensor | None:
        """The one tensor that the labels are; None unlabelled."""
        return None if self.labels is None else self.labels.only

    def take(self, index: slice | torch.Tensor) -> Batch:
        """Return some of its examples."""
        labels = None if self.labels is None else self.labels.take(index)
        return Batch(inputs=self.inputs.take(index), labels=labels, index=self.index[index])

    def to(self, device: torch.device) -> Batch:
        """Return it with inputs and labels on a device; its index stays."""
        if device.type == "cpu":
            return self
        return replace(self, inputs=self.inputs.to(device), labels=None if self.labels is None else self.labels.to(device))


@dataclass(kw_only=True, slots=True)
class StepOutput:
    """What a Learner's forward returns: a mean loss to descend and numbers to log."""

    loss: torch.Tensor
    size: int
    """Items the loss is a mean over."""
    logs: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One process's part of what several do together."""

    rank: int = 0
    """Of this process, from 0."""
    world: int = 1
    """Number of processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamGroup:
    """Parameters that learn alike, by name; the optimizer's and the checkpoint's unit."""

    name: str
    params: tuple[tuple[str, torch.nn.Parameter], ...]
    lr_scale: float = 1.0
    """Multiplies the schedule's learning rate."""
    decay: bool = True
    """False for biases and norms."""
    hidden: bool = False
    """True for matrices between hidden layers, which Muon makes orthogonal; False for tables, heads and vectors."""

    def __iter__(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return iter(self.params)
