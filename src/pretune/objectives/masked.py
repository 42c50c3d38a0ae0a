"""Predict what is hidden: tokens of texts, patches of images, stretches of log-mel spectrograms."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, ClassVar

from pretune import registry
from pretune.config import Within
from pretune.errors import SettingError
from pretune.objectives._base import Objective, PretextLearner, Suggested

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.modalities.text import Text

_LEARNERS = {"text": "_masked_tokens", "image": "_masked_images", "audio": "_masked_audio"}
"""Module of each modality; its function `learner(backbone, objective)` builds what the loop trains."""


@dataclass(frozen=True, kw_only=True)
class Masked(Objective):
    """Hides a share of each example and predicts it from the rest."""

    streams: ClassVar[bool] = True
    suggested: ClassVar = {
        "text": Suggested(backbone="scratch:transformer,dropout=0.0", lr=2e-2, batch_size=16, epochs=10, optim="muon"),
        "image": Suggested(
            backbone="scratch:vit",
            lr=1e-2,
            batch_size=128,
            epochs=15,
            optim="muon",
            augment="light",
            continued_batch_size=32,
            continued_heads=10,
        ),
        "audio": Suggested(
            backbone="scratch:audiocnn", lr=1e-3, batch_size=32, epochs=20, augment="medium", continued_heads=10, continued_batch_size=16
        ),
    }

    share: Annotated[float | None, Within(0, 0.95, above=True)] = None
    """Fraction that is masked; auto depends on the modality."""
    whole_words: bool = False
    """Text: mask all pieces of a word or none."""

    verbatim: ClassVar[bool] = False
    """Whether a tokenizer made for it keeps case and spaces: only what writes texts needs them."""

    def block(self, text: Text) -> tuple[int, int]:
        """Return the length of a block of ids and how far apart two begin; the tokenizer's special tokens come around it."""
        return text.room, text.room

    def learner(self, backbone: Backbone) -> PretextLearner:
        """Return the learner for the network's modality."""
        kind = registry.name_of(backbone.modality)
        if self.whole_words and kind != "text":
            raise SettingError(f"objective.whole_words is for texts; {backbone.builder.id} takes {kind}. Leave it out.")
        return self._module(backbone).learner(backbone, self)

    def check(self, backbone: Backbone) -> None:
        """Refuse a network that does not suit, where that is known before any data are read."""
        if registry.name_of(backbone.modality) == "text":
            self._module(backbone).check(backbone)

    def _module(self, backbone: Backbone) -> ModuleType:
        return importlib.import_module(f"pretune.objectives.{_LEARNERS[registry.name_of(backbone.modality)]}")
