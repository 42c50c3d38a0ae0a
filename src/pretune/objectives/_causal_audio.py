"""Predict the next sample of a clip, as one of 256 mu-law classes.

A. van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016.

Shapes: B clips, T samples, D channels.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.memory import remembering
from pretune.architectures.layers.mu_law import CLASSES, from_mu_law, mu_law
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.audio import Audio
from pretune.models.sampling import sample_index
from pretune.models.token_loss import linear_cross_entropy
from pretune.objectives._base import PretextLearner
from pretune.objectives._labels import KnowsClasses, asked
from pretune.objectives._sampling import Sample, Wanted
from pretune.types import Batch, Features, StepOutput

_SILENCE = int(mu_law(torch.zeros(())))


def learner(backbone: Backbone) -> PretextLearner:
    """Return the learner.

    Raises:
        SettingError: the network does not take samples.
    """
    audio = backbone.modality
    assert isinstance(audio, Audio)
    if audio.features != "waveform" or backbone.layout != "sequence":
        raise SettingError(
            f"objective=causal predicts samples: it needs a network over them, such as scratch:wavenet, not over {audio.features}."
        )
    return CausalAudioLearner(backbone)


class CausalAudioLearner(KnowsClasses):
    """Scores each sample from those before it, and counts which class follows which: the floor."""

    generates: ClassVar[bool] = True

    counts: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = nn.Linear(backbone.width, CLASSES)
        self.conditions: nn.Embedding | None = None
        self.register_buffer("counts", torch.zeros(CLASSES, CLASSES))

    def make_for(self, names: tuple[str, ...]) -> None:
        """Make the vectors that say which class a clip is of."""
        if names:
            stages = list(self.backbone.stages.values())
            silence = Features(tensor=torch.zeros(1, 1, device=self.head.weight.device), layout="raw")
            self.conditions = nn.Embedding(len(names), stages[0](silence).tensor.shape[-1]).to(self.head.weight.device)
            nn.init.zeros_(self.conditions.weight)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss in nats a sample; padding is not scored."""
        x_BT, mask_BT = batch.inputs.tensor, batch.inputs.mask
        before_BT = F.pad(x_BT, (1, 0))[:, :-1]
        real_N = slice(None) if mask_BT is None else mask_BT.flatten().nonzero()[:, 0]
        features_ND = self._features(Features(tensor=before_BT, layout="raw"), batch.target).flatten(0, 1)[real_N]
        targets_N, previous_N = mu_law(x_BT).flatten()[real_N], mu_law(before_BT).flatten()[real_N]
        loss = linear_cross_entropy(features_ND, self.head.weight, targets_N, self.head.bias)
        if self.training:
            self._count(previous_N, targets_N)
            return StepOutput(loss=loss, size=batch.size)
        bits = {"bits_per_sample": float(loss) / math.log(2), "floor_first_order_bits": self._first_order(previous_N, targets_N)}
        return StepOutput(loss=loss, size=batch.size, logs=bits)

    def _features(self, features: Features, targets_B: Tensor | None) -> Tensor:
        first, *rest = self.backbone.stages.values()
        features = first(features)
        if self.conditions is not None and targets_B is not None:
            features = features.with_tensor(features.tensor + self.conditions(targets_B)[:, None])
        for stage in rest:
            features = stage(features)
        return features.tensor

    def _count(self, previous_N: Tensor, targets_N: Tensor) -> None:
        self.counts += torch.bincount(previous_N * CLASSES + targets_N, minlength=CLASSES**2).view(CLASSES, CLASSES)

    def _first_order(self, previous_N: Tensor, targets_N: Tensor) -> float:
        """Return bits per sample by how often each class followed the one before it, one added to each count."""
        p = (self.counts + 1) / (self.counts + 1).sum(1, keepdim=True)
        return float(-p[previous_N, targets_N].log2().mean())

    def predict(self, batch: Batch) -> Tensor:
        """Return the logits (B, 256) of the sample that follows the last one."""
        return self.head(self._features(batch.inputs, batch.target)[:, -1]).float()

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where counting pairs of samples is as good."""
        bits, floor = metrics["bits_per_sample"], floors["first_order_bits"]
        if bits < floor:
            return []
        baseline = f"the first-order baseline ({floor:.2f}), which counts which sample follows which"
        return [f"{bits:.2f} bits per sample are no better than {baseline}: train longer."]

    @torch.inference_mode()
    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return clips; each sample is computed once (the layers' queues are remembered)."""
        audio = self.backbone.modality
        assert isinstance(audio, Audio)
        labels = asked(self.classes, wanted)
        targets_B = torch.tensor([self.classes.index(label) for label in labels if label is not None]) if self.classes else None
        generator = torch.Generator().manual_seed(wanted.seed)
        new_B = torch.full((wanted.count,), _SILENCE)
        written = []
        self.eval()
        with remembering(self.backbone):
            for _ in range(wanted.length or audio.window):
                x_BT = from_mu_law(new_B)[:, None]
                features_BD = self._features(Features(tensor=x_BT, layout="raw"), targets_B)[:, -1]
                new_B = sample_index(self.head(features_BD), wanted, generator)
                written.append(from_mu_law(new_B))
        waveforms = torch.stack(written, 1).numpy()
        return [
            Sample(audio=waveform, sample_rate=audio.sample_rate, label=label) for waveform, label in zip(waveforms, labels, strict=True)
        ]
