"""Predict the next token of a text (a transformer or an LSTM) or the next sample of a clip (WaveNet).

A. Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune import registry
from pretune.architectures.layers.memory import remembering
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.models.sampling import sample_index
from pretune.objectives import _causal_audio
from pretune.objectives._base import Objective, PretextLearner, Suggested
from pretune.objectives._sampling import Sample, Wanted
from pretune.objectives._vocabulary import TokenHead, above_trigram
from pretune.types import Batch, Features, StepOutput

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Causal(Objective):
    """Next-token prediction over packed blocks; next-sample prediction over windows of clips."""

    requires_targets: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    suggested: ClassVar = {
        "text": Suggested(backbone="scratch:gpt", lr=1e-2, width=128, batch_size=16, epochs=5, optim="muon"),
        "audio": Suggested(backbone="scratch:wavenet", lr=4e-3, batch_size=4, epochs=2, weight_decay=0.0, augment="light"),
    }

    def block(self, text: Text) -> tuple[int, int]:
        """Return a block's ids: one more than the network sees, shared with the next block, so that each is predicted once."""
        return text.max_tokens + 1, text.max_tokens

    def learner(self, backbone: Backbone) -> PretextLearner:
        """Return the learner; the network must look back only."""
        self.check(backbone)
        return _causal_audio.learner(backbone) if registry.name_of(backbone.modality) == "audio" else CausalLearner(backbone)

    def check(self, backbone: Backbone) -> None:
        """Refuse a network that looks ahead."""
        if not backbone.causal:
            fitting = self.suggested[registry.name_of(backbone.modality)].backbone
            raise SettingError(f"objective=causal needs a network that looks back only, such as {fitting}; {backbone.builder.id} does not.")


class CausalLearner(PretextLearner):
    """Scores each token from those before it; shapes: B blocks, T positions."""

    generates: ClassVar[bool] = True

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = TokenHead(backbone)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats per token of ids (B, T + 1)."""
        ids_BT = batch.inputs.tensor
        x_BTD = self.backbone(batch.inputs.with_tensor(ids_BT[:, :-1])).tensor
        return StepOutput(loss=self.head.loss(x_BTD.flatten(0, 1), ids_BT[:, 1:].flatten()), size=batch.size)

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report it where counting is as good."""
        return above_trigram(metrics["loss"], floors)

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits (B, V) of what follows the last id."""
        return self.next_logits(batch.inputs.tensor)

    @torch.no_grad()
    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return texts that go on from the prompt to the end of its document; each token is computed once (keys and values are remembered).

        Where the network's positions are full, it begins again with the later half of what was written.
        """
        text = self.backbone.modality
        assert isinstance(text, Text)
        start = text.ids(wanted.prompt) if wanted.prompt else np.array([text.separator or 0], np.int32)
        length, most = wanted.length or 256, text.positions or math.inf
        generator = torch.Generator().manual_seed(wanted.seed)
        ids_BT = torch.from_numpy(start.astype(np.int64)).repeat(wanted.count, 1)
        self.eval()
        ended = torch.zeros(wanted.count, dtype=torch.bool)
        while ids_BT.shape[1] < len(start) + length and not ended.all():
            kept = ids_BT if ids_BT.shape[1] < most else ids_BT[:, -int(most) // 2 :]
            room = min(length + len(start) - ids_BT.shape[1], int(min(most - kept.shape[1], 1 << 30)))
            with remembering(self.backbone):
                new = kept
                for _ in range(room):
                    new = sample_index(self.next_logits(new), wanted, generator)[:, None]
                    ids_BT = torch.cat([ids_BT, new], 1)
                    ended |= new[:, 0] == text.separator
                    if ended.all():
                        break
        note = " ".join(_notes(text, start, most)) if wanted.prompt else ""
        return [Sample(text=wanted.prompt + text.text_of(_document(row[len(start) :].tolist(), text)), note=note) for row in ids_BT]

    def next_logits(self, ids_BT: Tensor) -> Tensor:
        """Return the logits (B, V) of the next token; with a memory, `ids_BT` are those since the last call."""
        return self.head.logits(self.backbone(Features(tensor=ids_BT, layout="raw")).tensor[:, -1])


def _document(ids: list[int], text: Text) -> list[int]:
    """Return what was written up to the end of the document."""
    return ids[: ids.index(text.separator)] if text.separator in ids else ids


def _notes(text: Text, prompt: Ids, most: float) -> list[str]:
    """Return a message about a prompt that the network does not read as it is written."""
    messages = text.unknown_note(prompt)
    if len(prompt) >= most:
        messages.append(
            f"The prompt has {len(prompt):,} tokens, and the network has positions for {most:,}: "
            f"only the last {int(most) // 2:,} are looked at."
        )
    return messages
