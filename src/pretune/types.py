"""The nouns that every layer shares: rows, batches, features, what a step returns.

Imports torch for typing only, so that the CLI and the configuration layer stay light.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pretune.geometry import Geometry
    from pretune.labels import Labels


class Structured:
    """A target of several parts, such as boxes: a task derives a frozen dataclass, whose values can be compared and hashed."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that occur in it, each as often as it does."""
        return ()


Target = str | tuple[str, ...] | float | Structured | None
"""A class name, the names of a multilabel example or of a sequence, a number, what a task reads, or None for an unlabelled example."""


class NotUsed(NamedTuple):
    """Why nothing reads a setting under the choices made."""

    by: str
    """What does not read it, as a person named it: 'schedule=cosine'."""
    instead: str = ""
    """What to do other than removing it: 'choose schedule=step'."""


Split = Literal["train", "val", "test"]
Layout = Literal["raw", "map", "sequence", "pooled", "pyramid"]


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
    """One example of a data set, before anything is decoded."""

    id: str
    """Unique and readable: the path relative to the data root with '/', or 'data.csv:17'."""
    path: Path | Cell | None = None
    """The file that holds the content; None where `text` holds it."""
    text: tuple[str, ...] | None = None
    """Inline content: one string, or two for a sentence pair."""
    words: tuple[tuple[int, int], ...] | None = None
    """First character, and one past the last, of each word of a text whose source separates words; None where it does not."""
    target: Target = None
    split: Split | None = None
    """None where the source does not say; the splitter decides."""
    group: str | None = None
    """Examples of one group never fall on two sides of a split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """One example at working size: what the store keeps."""

    array: np.ndarray
    """image: uint8 (H, W, 3); audio: float32 (T,); text: int32 (T,)."""
    info: dict[str, int | float | str]
    """Facts the audit reads, JSON-ready: width, height, format, dhash; sample_rate, rms; tokens …"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One example that was dropped or repaired, and why."""

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

    Layouts: raw (B, …) as collated; map (B, C, H, W); sequence (B, T, D); pooled (B, D); pyramid (B, P), maps of several sizes
    one after the other.
    """

    tensor: torch.Tensor
    layout: Layout
    mask: torch.Tensor | None = None
    """(B, T) bool, True where a sequence position is real; None where all are."""
    attends_padding: bool = False
    """True where the network sees what is not real as well (silence after a clip): only pooling leaves that out, and a cache keeps it."""

    collected: torch.Tensor | None = None
    """(B, k·D) means of the stages so far, where pooling takes those of all stages."""
    levels: tuple[torch.Tensor, ...] = ()
    """Maps of the stages so far that a pyramid takes."""

    def with_tensor(self, tensor: torch.Tensor, layout: Layout | None = None) -> Features:
        """Return the same features with another tensor (and layout)."""
        return replace(self, tensor=tensor, layout=layout or self.layout)

    def take(self, index: slice | torch.Tensor) -> Features:
        """Return some of the batch's examples."""
        mask, collected = (None if one is None else one[index] for one in (self.mask, self.collected))
        levels = tuple(level[index] for level in self.levels)
        return replace(self, tensor=self.tensor[index], mask=mask, collected=collected, levels=levels)

    def to(self, device: torch.device) -> Features:
        """Return the same features on a device."""
        tensors = (None if one is None else one.to(device, non_blocking=True) for one in (self.mask, self.collected))
        mask, collected = tensors
        levels = tuple(level.to(device, non_blocking=True) for level in self.levels)
        return replace(self, tensor=self.tensor.to(device, non_blocking=True), mask=mask, collected=collected, levels=levels)


@dataclass(kw_only=True, slots=True)
class Batch:
    """What the loader yields and a Learner eats."""

    inputs: Features
    """Raw collated input, or cached features of the stage the model starts from."""
    labels: Labels | None
    """Aligned with the inputs; None unlabelled."""
    index: torch.Tensor
    """(B,) int64 position of each example in its data view; results are aligned by it."""
    geometry: Geometry | None = None
    """Where the coordinates of the files lie in the inputs; None where the labels locate nothing."""

    @property
    def size(self) -> int:
        """Number of examples."""
        return int(self.index.shape[0])

    @property
    def target(self) -> torch.Tensor | None:
        """The one tensor that the labels are; None unlabelled."""
        return None if self.labels is None else self.labels.only

    def take(self, index: slice | torch.Tensor) -> Batch:
        """Return some of its examples."""
        labels = None if self.labels is None else self.labels.take(index)
        geometry = None if self.geometry is None else self.geometry.take(index)
        return Batch(inputs=self.inputs.take(index), labels=labels, index=self.index[index], geometry=geometry)

    def located(self, geometry: Geometry) -> Batch:
        """Return it with labels where its inputs show what they locate, given where the files' coordinates lie in them."""
        return replace(self, labels=None if self.labels is None else self.labels.moved(geometry), geometry=geometry)

    def moved(self, inputs: Features, by: Geometry) -> Batch:
        """Return it with inputs that were moved, by maps from where things lay to where they lie now; located labels follow."""
        labels = None if self.labels is None else self.labels.moved(by)
        return replace(self, inputs=inputs, labels=labels, geometry=None if self.geometry is None else self.geometry.then(by))

    def to(self, device: torch.device) -> Batch:
        """Return it with inputs and labels on a device; its index and geometry stay."""
        if device.type == "cpu":
            return self
        return replace(self, inputs=self.inputs.to(device), labels=None if self.labels is None else self.labels.to(device))


@dataclass(kw_only=True, slots=True)
class StepOutput:
    """What a Learner's forward returns: a mean loss to descend and numbers to log."""

    loss: torch.Tensor
    size: int
    """Examples the loss is a mean over."""
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
