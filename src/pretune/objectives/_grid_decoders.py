"""From codes back to what was encoded: log-mel frames and their sound, or images.

Shapes: B examples, T codes, E channels of a code, F frames, M mel bands.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune.architectures.layers.residual import Residual
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.modalities.transforms.griffin_lim import griffin_lim
from pretune.modalities.transforms.spectrum import LogMel
from pretune.objectives._sampling import Sample, Wanted
from pretune.types import Features

_WIDEST = 256
"""Channels of a decoder at most: networks that were made to classify have thousands, too many to convolve at full size."""
_LAYERS = 2
"""Residual blocks of a decoder."""


class GridDecoder(nn.Module):
    """What both decoders share: `shape` of the grid of codes, `network` from codes to the target, and its scale."""

    def __init__(self, shape: tuple[int, ...], code_width: int, width: int, outputs: int, halvings: int) -> None:
        super().__init__()
        self.shape, planar, width = shape, len(shape) == 2, min(width, _WIDEST)
        convolution, transposed = (nn.Conv2d, nn.ConvTranspose2d) if planar else (nn.Conv1d, nn.ConvTranspose1d)
        rising: list[nn.Module] = []
        for _ in range(halvings):
            rising += [nn.GELU(), transposed(width, width, 4, 2, 1)]
        self.network = nn.Sequential(
            convolution(code_width, width, 3, padding=1),
            *(Residual(width, planar=planar) for _ in range(_LAYERS)),
            *rising,
            nn.GELU(),
            convolution(width, outputs, 3, padding=1),
        )

    def forward(self, codes_BTE: Tensor) -> Tensor:
        """Return what was encoded, channels first."""
        return self.network(codes_BTE.transpose(1, 2).unflatten(2, self.shape))


class AudioDecoder(GridDecoder):
    """Codes (B, T, E) -> log-mel (B, M, F), in units in which its deviation is about one."""

    def __init__(self, backbone: Backbone, code_width: int) -> None:
        audio = backbone.modality
        assert isinstance(audio, Audio)
        if audio.features != "log_mel":
            raise SettingError(f"objective=autoencode takes sounds as log-mel, as scratch:audiovqvae does; got {audio.features}.")
        spectrum = audio.normaliser()
        assert isinstance(spectrum, LogMel)
        silence = spectrum(Features(tensor=torch.zeros(1, audio.window), layout="raw"))
        encoded = backbone(silence).tensor
        frames, length = silence.tensor.shape[1], encoded.shape[1]
        halvings = round(math.log2(frames / length))
        super().__init__((length,), code_width, backbone.width, audio.mels, halvings)
        self.audio, self.spectrum, self.frames = audio, spectrum, frames

    def forward(self, codes_BTE: Tensor) -> Tensor:
        """Return (B, M, F)."""
        y_BMF = super().forward(codes_BTE)[..., : self.frames]
        return y_BMF if y_BMF.shape[2] == self.frames else F.interpolate(y_BMF, self.frames, mode="linear")

    def target(self, features: Features) -> Tensor:
        """Return what is to be decoded of the encoder's input."""
        return features.tensor.transpose(1, 2) * 2

    def samples(self, decoded_BMF: Tensor, labels: list[str | None], wanted: Wanted) -> list[Sample]:
        """Return clips."""
        waveforms_BT = griffin_lim(decoded_BMF.float().transpose(1, 2) / 2, self.spectrum.bank, self.spectrum.hop, wanted.seed)
        waveforms = waveforms_BT[:, : wanted.length].clamp(-1, 1).numpy()
        return [Sample(audio=one, sample_rate=self.audio.sample_rate, label=label) for one, label in zip(waveforms, labels, strict=True)]


class ImageDecoder(GridDecoder):
    """Codes (B, T, E) -> images (B, 3, H, W), normalised as the encoder's input."""

    def __init__(self, backbone: Backbone, code_width: int) -> None:
        image = backbone.modality
        assert isinstance(image, Image)
        if backbone.layout != "map":
            raise SettingError(
                f"objective=autoencode needs a network that keeps a map, such as scratch:vqvae; {backbone.builder.id} does not."
            )
        encoded = backbone(Features(tensor=torch.zeros(1, 3, image.size, image.size), layout="map")).tensor
        halvings = round(math.log2(image.size / encoded.shape[-1]))
        super().__init__(tuple(encoded.shape[2:]), code_width, backbone.width, 3, halvings)
        self.image = image

    def forward(self, codes_BTE: Tensor) -> Tensor:
        """Return (B, 3, H, W); sizes that do not halve evenly come out a little larger or smaller, and are resized."""
        y_BCHW = super().forward(codes_BTE)
        size = (self.image.size, self.image.size)
        return y_BCHW if y_BCHW.shape[2:] == size else F.interpolate(y_BCHW, size, mode="bilinear")

    def target(self, features: Features) -> Tensor:
        """Return what is to be decoded of the encoder's input."""
        return features.tensor

    def samples(self, decoded_BCHW: Tensor, labels: list[str | None], wanted: Wanted) -> list[Sample]:
        """Return images."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image.mean, self.image.std))
        pixels = ((decoded_BCHW.float() * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        return [Sample(image=one, label=label) for one, label in zip(pixels, labels, strict=True)]
