"""Hide patches of a log-mel spectrogram and predict them from the rest.

P.-Y. Huang et al., "Masked Autoencoders that Listen", 2022; here hidden patches are filled with their bands' means, so that
networks of every kind can be pretrained, convolutional ones included.

Shapes: B clips, F frames, M mel bands, P positions of the network, D channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pretune.errors import SettingError
from pretune.modalities.audio import Audio
from pretune.objectives._base import PretextLearner
from pretune.objectives._items import ItemLearner, collapse, health
from pretune.types import Batch, Features, StepOutput

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.objectives.masked import Masked

_SHARE = 0.5
"""Share of the patches that is hidden."""
_FRAMES, _BANDS = 8, 4
"""Frames of a patch, and patches side by side over all bands."""
_HIDDEN = 256
"""Channels between the network's output and the frames it predicts."""


def learner(backbone: Backbone, objective: Masked) -> PretextLearner:
    """Return the learner.

    Raises:
        SettingError: the network does not take a spectrogram.
    """
    audio = backbone.modality
    assert isinstance(audio, Audio)
    if audio.features in ("waveform", "standardised", "picture") or backbone.layout != "sequence":
        raise SettingError(
            f"objective=masked hides patches of spectrograms and needs a sequence of frames, as scratch:audiocnn gives; "
            f"{backbone.builder.id} takes {audio.features} and gives a {backbone.layout}."
        )
    return MaskedAudioLearner(backbone, _SHARE if objective.share is None else objective.share)


class MaskedAudioLearner(ItemLearner):
    """Predicts hidden patches in units of each band's deviation; only hidden patches of sound, not of padding, are scored.

    On a network that came with weights the decoder adds to the mean of what is visible of the clip's band and begins with nothing, so
    that few steps are enough to clear that floor: a Whisper encoder needed more than 800 clips. Untrained networks learned no less without.
    """

    heads = ("head", "decoder")
    seen: Tensor
    mean: Tensor
    square: Tensor
    from_mean: Tensor
    """1 where the decoder adds to the visible mean, 0 where it predicts all; a buffer, as a run that is extended is loaded with weights."""

    def __init__(self, backbone: Backbone, share: float) -> None:
        super().__init__(backbone)
        self.share = share
        audio = backbone.modality
        assert isinstance(audio, Audio)
        training = backbone.training
        with torch.no_grad():
            silence = self.normaliser(Features(tensor=torch.zeros(1, audio.window), layout="raw"))
            positions = backbone.eval()(silence).tensor.shape[1]
        backbone.train(training)
        frames, bands = silence.tensor.shape[1:]
        self.ratio = -(-frames // positions)
        """Frames that one position of the network stands for."""
        last = nn.Conv1d(_HIDDEN, self.ratio * bands, 1)
        came_with_weights = backbone.report is not None
        for parameter in last.parameters() if came_with_weights else ():
            nn.init.zeros_(parameter)
        self.decoder = nn.Sequential(nn.Conv1d(backbone.width, _HIDDEN, 3, padding=1), nn.GELU(), last)
        self.register_buffer("from_mean", torch.tensor(float(came_with_weights)))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("square", torch.ones(bands))

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean squared error of what is hidden, in units of the bands' variances."""
        features = self.normaliser(batch.inputs)
        x_BFM = features.tensor
        real_BFM = torch.ones_like(x_BFM, dtype=torch.bool) if features.mask is None else features.mask[..., None].expand_as(x_BFM)
        if self.training:
            self._follow(x_BFM.detach()[real_BFM[..., 0]])
        hidden_BFM = self._hidden(x_BFM)
        out = self.backbone(features.with_tensor(torch.where(hidden_BFM, self.mean.to(x_BFM.dtype), x_BFM)))
        target_BFM, scored_BFM = self._standardised(x_BFM), hidden_BFM & real_BFM
        mean_B1M = _visible_mean(target_BFM, real_BFM & ~hidden_BFM)
        loss = _error(self.from_mean * mean_B1M + self._decoded(out, x_BFM.shape[1]), target_BFM, scored_BFM)
        if self.training:
            return StepOutput(loss=loss, size=batch.size)
        floor = float(_error(mean_B1M, target_BFM, scored_BFM))
        pooled_BD = self.pool(self.backbone(features)).tensor
        logs = {"floor_visible_mean": floor} | health(pooled_BD)
        return StepOutput(loss=loss, size=batch.size, logs=logs)

    def _follow(self, real_NM: Tensor) -> None:
        """Take a batch's frames into the mean and square of each band: the mean of all at first, then a moving average."""
        self.seen += 1
        weight = max(1 / float(self.seen), 0.01)
        self.mean.lerp_(real_NM.float().mean(0), weight)
        self.square.lerp_(real_NM.float().square().mean(0), weight)

    def _standardised(self, x_BFM: Tensor) -> Tensor:
        variance_M = (self.square - self.mean.square()).clamp(min=1e-6)
        return (x_BFM.float() - self.mean) * variance_M.rsqrt()

    def _hidden(self, x_BFM: Tensor) -> Tensor:
        """Return what is hidden: patches of some frames and a quarter of the bands; the grid begins elsewhere for each batch."""
        batch, frames, bands = x_BFM.shape
        wide = -(-bands // _BANDS)
        late, high = int(torch.randint(_FRAMES, ())), int(torch.randint(wide, ()))
        grid = torch.rand(batch, frames // _FRAMES + 2, _BANDS + 1, device=x_BFM.device) < self.share
        return grid.repeat_interleave(_FRAMES, 1).repeat_interleave(wide, 2)[:, late : late + frames, high : high + bands]

    def _decoded(self, out: Features, frames: int) -> Tensor:
        """Return the predicted frames (B, F, M)."""
        y_BXP = self.decoder(out.tensor.transpose(1, 2))
        return y_BXP.transpose(1, 2).unflatten(2, (self.ratio, -1)).flatten(1, 2)[:, :frames].float()

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where features have collapsed, or the visible means would have done as well."""
        messages = collapse(metrics)
        if metrics["loss"] >= floors["visible_mean"]:
            messages.append(
                f"the loss, {metrics['loss']:.3f}, is no better than the mean of what is visible, {floors['visible_mean']:.3f}."
            )
        return messages


def _error(predicted_BFM: Tensor, target_BFM: Tensor, scored_BFM: Tensor) -> Tensor:
    """Return the mean squared error where it is scored."""
    return ((predicted_BFM - target_BFM).square() * scored_BFM).sum() / scored_BFM.sum().clamp(min=1)


def _visible_mean(target_BFM: Tensor, visible_BFM: Tensor) -> Tensor:
    """Return each clip's mean of every band over its visible frames, 0 where there is none, (B, 1, M)."""
    return (target_BFM * visible_BFM).sum(1, keepdim=True) / visible_BFM.sum(1, keepdim=True).clamp(min=1)
