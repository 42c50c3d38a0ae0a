"""Match the features of a larger network, which is taken from its own weights and never saved with the run.

G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; features as in A. Romero et al., "FitNets:
Hints for Thin Deep Nets", 2015.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretune import backbones, registry
from pretune.backbones import Backbone, Builder
from pretune.config import Within
from pretune.errors import SettingError
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.modalities.text import Text
from pretune.models.pooling import Pool
from pretune.objectives._base import Objective, Suggested
from pretune.objectives._items import ItemLearner, collapse, health
from pretune.types import Batch, Features, StepOutput

_PREFERRED = {"image": "package:efficientnet_lite0", "text": "package:minilm"}
"""Teacher where none is named."""


@dataclass(frozen=True, kw_only=True)
class Distillation(Objective):
    """A linear layer over the student's pooled features foretells the teacher's."""

    suggested: ClassVar = {
        "text": Suggested(backbone="scratch:transformer", lr=1e-3, batch_size=32, epochs=8, weight_decay=0.01, continued_heads=10),
        "image": Suggested(
            backbone="scratch:cnn", lr=2e-3, batch_size=64, epochs=20, weight_decay=0.01, augment="light", continued_heads=10
        ),
        "audio": Suggested(
            backbone="scratch:audiocnn", lr=2e-3, batch_size=32, epochs=20, weight_decay=0.01, augment="light", continued_heads=10
        ),
    }

    teacher: str | None = None
    """Teacher network, SOURCE:NAME, with its weights on this machine; auto is package:efficientnet_lite0, for text package:minilm."""
    loss: Literal["cosine", "smooth_l1"] = "cosine"
    """Distance of the two features; each channel of the teacher's is standardised first."""
    teacher_size: Annotated[int | None, Within(8, 4096)] = None
    """Images: side of the teacher's square input in pixels; auto is what it was trained with. Smaller is faster."""

    def fitted(self, backbone: Backbone) -> Backbone:
        """Return the student; an untrained one over texts is built again over the teacher's tokenizer, so that both read the same ids."""
        text = backbone.modality
        if not isinstance(text, Text) or text.tokenizer:
            return backbone
        theirs = self._read("text").modality
        if not isinstance(theirs, Text) or not theirs.tokenizer:
            return backbone  # refused below
        settings = {**backbone.builder.settings, "vocabulary": theirs.size}
        made = backbones.build(Builder(id=backbone.builder.id, settings=settings))
        made.modality = replace(theirs, max_tokens=min(text.max_tokens, theirs.max_tokens), positions=text.positions)
        return made

    def learner(self, backbone: Backbone) -> DistillationLearner:
        """Return the learner; the teacher is read from its weights."""
        teacher = self._read(registry.name_of(backbone.modality))
        _require_same_input(teacher, backbone)
        return DistillationLearner(backbone, teacher, self.loss)

    def _read(self, kind: str) -> Backbone:
        name = self.teacher or _PREFERRED.get(kind)
        if name is None:
            example = ", such as package:whisper_base" if kind == "audio" else ""
            raise SettingError(f"objective=distillation needs objective.teacher=source:name, a pretrained network for {kind}{example}.")
        if self.teacher_size is not None and kind != "image":
            raise SettingError(f"objective.teacher_size is for images; the student takes {kind}. Leave it out.")
        return backbones.load(name, offline=True, image_size=self.teacher_size)


def _require_same_input(teacher: Backbone, student: Backbone) -> None:
    """Refuse a teacher that cannot see or hear what the student does."""
    kinds = [registry.name_of(one.modality) for one in (teacher, student)]
    if kinds[0] != kinds[1]:
        raise SettingError(f"the teacher {teacher.builder.id} takes {kinds[0]} and the student {student.builder.id} {kinds[1]}.")
    theirs, ours = teacher.modality, student.modality
    if isinstance(theirs, Text) and isinstance(ours, Text) and theirs.tokenizer != ours.tokenizer:
        raise SettingError(
            f"the teacher {teacher.builder.id} and the student {student.builder.id} cut texts into different tokens. "
            "Take a fresh student, such as scratch:transformer: it takes over the teacher's tokenizer."
        )
    if isinstance(theirs, Audio) and isinstance(ours, Audio) and theirs.sample_rate != ours.sample_rate:
        raise SettingError(
            f"the teacher {teacher.builder.id} hears {theirs.sample_rate} Hz and the student {student.builder.id} {ours.sample_rate} Hz. "
            f"Set sample_rate={theirs.sample_rate}."
        )


class DistillationLearner(ItemLearner):
    """Student, a linear layer, and the scale of the teacher's channels; shapes: B examples, D teacher channels."""

    def __init__(self, backbone: Backbone, teacher: Backbone, loss: str) -> None:
        super().__init__(backbone)
        self.loss = loss
        self._teacher = [_Teacher(teacher)]  # in a list, so that it is in no checkpoint: it never changes
        width = self._teacher[0].width
        self.head = nn.Linear(backbone.width, width)
        self.scale = nn.BatchNorm1d(width, affine=False)

    def forward(self, batch: Batch) -> StepOutput:
        """Return how far the student's features are from the teacher's; in eval mode also how they are spread."""
        wanted_BD = self.scale(self._teacher[0].on(batch.index.device)(batch.inputs))
        pooled_BD = self.pooled(batch.inputs)
        student_BD = self.head(pooled_BD).float()
        loss = self._apart(student_BD, wanted_BD)
        logs: dict[str, float] = {}
        if not self.training:
            nothing = self._apart(torch.zeros_like(wanted_BD), wanted_BD)
            logs = health(pooled_BD) | {"floor_mean": float(nothing)}
        return StepOutput(loss=loss, size=batch.size, logs=logs)

    def _apart(self, student_BD: Tensor, wanted_BD: Tensor) -> Tensor:
        if self.loss == "cosine":
            return 1 - F.cosine_similarity(student_BD, wanted_BD, dim=1).mean()
        return F.smooth_l1_loss(student_BD, wanted_BD)

    def verdict(self, metrics: dict[str, float], floors: dict[str, float]) -> list[str]:
        """Report where features collapsed, or the teacher's mean would have done as well."""
        messages = collapse(metrics)
        if metrics["loss"] > 0.98 * floors["mean"]:
            messages.append(
                "The student does not match the teacher: "
                f"the loss is {metrics['loss']:.3f}, and predicting the teacher's mean features gives {floors['mean']:.3f}. "
                "Train longer or raise lr."
            )
        return messages


class _Teacher(nn.Module):
    """A frozen network with its own preprocessing, over the student's raw batches."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.normaliser = backbone, backbone.modality.normaliser()
        self.pool = Pool(backbone.pooling)
        self.size = backbone.modality.size if isinstance(backbone.modality, Image) else None
        self.width = backbone.width * (2 if backbone.layout != "pooled" and backbone.pooling == "mean_std" else 1)
        self.requires_grad_(False).eval()

    def on(self, device: torch.device) -> _Teacher:
        """Move it to where the batch is; it is no part of the learner that the runner moves."""
        return self.to(device)

    @torch.no_grad()
    def forward(self, raw: Features) -> Tensor:
        """Return pooled features (B, D), float32."""
        return self.pool(self.backbone(self.normaliser(self._resized(raw)))).tensor

    def _resized(self, raw: Features) -> Features:
        if self.size is None or raw.tensor.shape[-1] == self.size:
            return raw
        x_BCHW = F.interpolate(raw.tensor.float(), size=(self.size, self.size), mode="bilinear", antialias=True)
        return replace(raw, tensor=x_BCHW.clamp_(0, 255))
