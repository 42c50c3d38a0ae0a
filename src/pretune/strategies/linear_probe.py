"""Train only the head on frozen features, which are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pretune.strategies._base import Defaults, Phase, Strategy, groups, open_last
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Strategy):
    """The head alone learns; one forward pass over the data, whatever the number of epochs."""

    defaults: ClassVar[Defaults] = Defaults(lr=1e-3, epochs=50, weight_decay=0.1, augment="none")
    by_modality: ClassVar[Mapping[str, Defaults]] = {"text": Defaults(lr=1e-3, epochs=30, weight_decay=1.0, augment="none")}

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """One phase, all stages frozen."""
        return (Phase(name="probe", open=0, share=1.0),)

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Freeze the backbone; the head is the one group."""
        open_last(model, 0)
        return tuple(groups("head", model.head, "stages.head"))
