"""Train everything from randomly initialised weights: what pretraining has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pretune.strategies._base import Defaults, Phase, Strategy, open_last, staged_groups
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Scratch(Strategy):
    """All parameters start from random weights and learn at one rate."""

    from_scratch: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults(lr=2e-3, epochs=30, weight_decay=0.05, augment="light", least_steps=200)
    by_modality: ClassVar[Mapping[str, Defaults]] = {
        "text": Defaults(lr=2e-3, epochs=8, weight_decay=0.05, augment="none", least_steps=200)
    }

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """One phase, everything open."""
        return (Phase(name="scratch", open=None, share=1.0),)

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Open everything at one rate."""
        return staged_groups(model, open_last(model, None), 1.0, 1.0)
