"""The learner of `autoencode`: encoder, codebook and decoder in its first phase, a prior over the codes in its second.

Shapes: B examples, T codes of each, E channels of a code, D channels of the encoder.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune import registry
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.objectives._codebook import Codebook, straight_through
from pretune.objectives._grid_decoders import AudioDecoder, ImageDecoder
from pretune.objectives._labels import KnowsClasses, asked
from pretune.objectives._prior import Prior
from pretune.objectives._sampling import Sample, Wanted
from pretune.types import Batch, Features, StepOutput

_SCARCE = 0.1
"""Share of the codebook in even use below which it has collapsed."""


class AutoencodeLearner(KnowsClasses):
    """Descends the error of what is decoded, then the nats a code of the prior."""

    generates: ClassVar[bool] = True
    phases: ClassVar[tuple[str, ...]] = ("autoencode", "prior")

    def __init__(self, backbone: Backbone, codes: int, code_width: int, commitment: float) -> None:
        super().__init__(backbone)
        self.input = backbone.modality.normaliser()
        self.narrow = nn.Linear(backbone.width, code_width)
        self.codebook = Codebook(codes, code_width)
        with torch.no_grad():
            decoder = {"audio": AudioDecoder, "image": ImageDecoder}[registry.name_of(backbone.modality)]
            self.decoder = decoder(backbone, code_width)
        self.commitment, self.phase = commitment, self.phases[-1]
        self.classes = ()

    def make_for(self, names: tuple[str, ...]) -> None:
        """Make the prior, whose first token is the class."""
        length = int(torch.tensor(self.decoder.shape).prod())
        self.prior = Prior(len(self.codebook.vectors), len(names), length).to(self.narrow.weight.device)

    def begin(self, phase: str) -> None:
        """Let either the prior learn, or all else."""
        self.phase = phase
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("prior.") == (phase == "prior"))

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of the phase; in eval mode also how far the codebook is used."""
        features = self._normalised(batch)
        if self.phase == "prior":
            with torch.no_grad():
                z_BTE = self._encoded(features)
                codes_BT = self._codes(z_BTE)
            loss = self.prior(codes_BT, batch.target)
            logs = {} if self.training else {**self._watched(features, codes_BT), "floor_unigram": self.codebook.unigram(codes_BT)}
            return StepOutput(loss=loss, size=batch.size, logs=logs)
        z_BTE = self._encoded(features)
        codes_BT = self._codes(z_BTE)
        if self.training:
            self.codebook.learn(z_BTE.detach().flatten(0, 1), codes_BT.flatten())
            codes_BT = self._codes(z_BTE)
        quantised_BTE = self.codebook.vectors[codes_BT]
        decoded = self.decoder(straight_through(z_BTE, quantised_BTE))
        error = F.mse_loss(decoded.float(), self.decoder.target(features))
        loss = error + self.commitment * F.mse_loss(z_BTE.float(), quantised_BTE)
        return StepOutput(loss=loss, size=batch.size, logs={} if self.training else self._watched(features, codes_BT))

    def predict(self, batch: Batch) -> Tensor:
        """Return the encoder's output."""
        return self.backbone(self._normalised(batch)).tensor

    def _normalised(self, batch: Batch) -> Features:
        return self.input(batch.inputs)

    def _encoded(self, features: Features) -> Tensor:
        x_BTD = self.backbone(features).tensor
        return self.narrow(x_BTD.flatten(2).transpose(1, 2) if x_BTD.ndim == 4 else x_BTD)

    def _codes(self, z_BTE: Tensor) -> Tensor:
        return self.codebook.codes(z_BTE.flatten(0, 1)).view(z_BTE.shape[:2])

    def _watched(self, features: Features, codes_BT: Tensor) -> dict[str, float]:
        """Return the error of what is decoded beside that of the mean, and how many codes are in use."""
        target, items = self.decoder.target(features), len(codes_BT)
        error = F.mse_loss(self.decoder(self.codebook.vectors[codes_BT]).float(), target)
        logs = {"error": float(error), "codes_in_use": self.codebook.perplexity()}
        if items > 1:  # each example taken for the mean of the others
            logs["floor_mean_error"] = float(target.var(0).mean()) * items / (items - 1)
        return logs

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where codes lie idle, or where either half learned nothing."""
        messages, codes, used = [], len(self.codebook.vectors), metrics["codes_in_use"]
        if used < _SCARCE * codes:
            messages.append(
                f"the codebook has collapsed: effective codebook usage is {used:.1f} of {codes}. "
                "Lower lr, or use fewer codes (objective.codes)."
            )
        if metrics["error"] >= floors.get("mean_error", math.inf):
            messages.append(
                f"decoding (error {metrics['error']:.3g}) is no better than the mean ({floors['mean_error']:.3g}): train longer."
            )
        if metrics["loss"] >= floors["unigram"]:
            messages.append(
                f"the prior ({metrics['loss']:.2f} nats a code) is no better than how often each code is used ({floors['unigram']:.2f})."
            )
        return messages

    @torch.no_grad()
    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return audio or images of codes that the prior draws."""
        if wanted.length is not None and len(self.decoder.shape) == 2:
            raise SettingError("length is for texts and sounds: pictures are as large as those learned from. Leave it out.")
        labels = asked(self.classes, wanted)
        none = len(self.classes)
        begin_B = torch.tensor([none if label is None else self.classes.index(label) for label in labels])
        self.eval()
        codes_BT = self.prior.draw(begin_B, wanted)
        return self.decoder.samples(self.decoder(self.codebook.vectors[codes_BT]), labels, wanted)
