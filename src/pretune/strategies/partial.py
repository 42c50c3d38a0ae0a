"""Train the last stages and the head; what lies below is computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pretune.config import Within
from pretune.errors import SettingError
from pretune.strategies._base import PROBE, Defaults, Phase, Strategy, open_last, staged_groups
from pretune.types import NotUsed, ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Partial(Strategy):
    """The last `last` stages learn, at once or one after another from the top."""

    defaults: ClassVar[Defaults] = Defaults(lr=3e-4, epochs=8, weight_decay=0.05, augment="none")
    by_modality: ClassVar[Mapping[str, Defaults]] = {"text": Defaults(lr=2e-4, epochs=4, weight_decay=0.01, augment="none")}
    last: Annotated[int, Within(1)] = 2
    """Number of the backbone's last stages that are trained."""
    gradual: bool = False
    """Unfreeze one stage after another (gradual unfreezing, Howard & Ruder 2018)."""
    lr_decay: Annotated[float, Within(0, 1, above=True)] = 0.8
    """Factor of the learning rate from each stage to the one before it."""
    freeze_norms: bool = True
    """Keep the pretrained running statistics of batch norms."""

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """A probe, then the open stages; gradual: one phase a stage.

        Raises:
            SettingError: the backbone has fewer stages.
        """
        if self.last > stages:
            raise SettingError(f"strategy.last is {self.last}, but this backbone has {stages} stages. Take fewer, or strategy=full.")
        if not self.gradual:
            return (PROBE, Phase(name=f"last {self.last}", open=self.last, share=1.0))
        return (PROBE, *(Phase(name=f"last {k}", open=k, share=1 / self.last) for k in range(1, self.last + 1)))

    def unread(self) -> dict[str, NotUsed]:
        """One stage has none to open after it, and none to be slower than."""
        one = NotUsed("strategy.last=1, which opens one stage", "raise strategy.last")
        return {"gradual": one, "lr_decay": one} if self.last == 1 else {}

    def prepare(self, model: Model) -> None:
        """Keep or move norm statistics."""
        model.freeze_norms = self.freeze_norms

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Open the stages of the phase."""
        return staged_groups(model, open_last(model, phase.open), self.lr_decay, 1.0)
