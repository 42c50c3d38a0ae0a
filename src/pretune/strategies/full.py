"""Full fine-tuning with lower learning rates for earlier layers; it starts from a linear probe (LP-FT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pretune.config import Within
from pretune.strategies._base import PROBE, Defaults, Phase, Strategy, open_last, staged_groups
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Full(Strategy):
    """All stages learn, with discriminative learning rates."""

    defaults: ClassVar[Defaults] = Defaults(lr=3e-4, epochs=5, weight_decay=0.05, augment="light")
    by_modality: ClassVar[Mapping[str, Defaults]] = {"text": Defaults(lr=2e-4, epochs=3, weight_decay=0.01, augment="none")}
    lr_decay: Annotated[float, Within(0, 1, above=True)] = 0.8
    """Factor of the learning rate from each stage to the one before it."""
    probe_first: bool = True
    """Train the head on frozen features first."""
    freeze_norms: bool = True
    """Keep the pretrained running statistics of batch norms."""

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """A probe (cached, seconds), then everything."""
        whole = Phase(name="full", open=None, share=1.0)
        return (PROBE, whole) if self.probe_first else (whole,)

    def prepare(self, model: Model) -> None:
        """Keep or move norm statistics."""
        model.freeze_norms = self.freeze_norms

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Open the stages of the phase."""
        return staged_groups(model, open_last(model, phase.open), self.lr_decay, 1.0)
