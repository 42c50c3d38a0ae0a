"""Use the pretrained model as it is: its own classes where they fit, otherwise a nearest-centroid classifier."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretune.errors import SettingError
from pretune.strategies._base import Defaults, Phase, Strategy, open_last
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.models.model import Model
    from pretune.tasks import Space


@dataclass(frozen=True, kw_only=True)
class Direct(Strategy):
    """No gradient at all: the head is computed from the training features."""

    trains: ClassVar[bool] = False
    defaults: ClassVar[Defaults] = Defaults(lr=1.0, epochs=0, weight_decay=0.0, augment="none")

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """One phase, everything frozen."""
        return (Phase(name="direct", open=0, share=1.0),)

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Freeze everything."""
        open_last(model, 0)
        model.requires_grad_(False)
        return ()

    def solve(self, model: Model, backbone: Backbone, features_ND: Tensor, encoded: Tensor, space: Space) -> str:
        """Compute the head and return a sentence on how.

        Where the pretrained classifier knows all class names, its rows are taken, by name. Else the nearest class
        mean on standardised features: argmin_c |z - m_c|² = argmax_c (m_c·z - |m_c|²/2), which is a linear head
        (Snell et al. 2017, "Prototypical Networks"). For numbers, ridge regression takes the means' place.
        """
        layer = model.head.layers
        if not isinstance(layer, nn.Linear):
            raise SettingError("strategy=direct computes a linear head; leave head out.")
        with torch.no_grad():
            if _knows(backbone, space.classes):
                _take_rows(model, layer, backbone, space.classes)
                return "direct: the pretrained classifier knows every class name and is used as it is"
            z_ND = (features_ND.float() - model.head.mean) * model.head.scale
            weight, bias = _ridge(z_ND, encoded) if not space.classes else _class_means(z_ND, encoded, len(space.classes))
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return (
            "direct: nearest class mean of the training features" if space.classes else "direct: ridge regression on the training features"
        )


def _knows(backbone: Backbone, classes: tuple[str, ...]) -> bool:
    known = {_plain(name) for name in backbone.classes or ()}
    return bool(classes) and all(_plain(name) in known for name in classes) and isinstance(backbone.classifier, nn.Linear)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().replace("_", " ").strip()


def _take_rows(model: Model, layer: nn.Linear, backbone: Backbone, classes: tuple[str, ...]) -> None:
    """Copy the pretrained classifier's rows of these classes, by name, and undo the head's standardisation."""
    index = {_plain(name): i for i, name in enumerate(backbone.classes or ())}
    rows = [index[_plain(name)] for name in classes]
    classifier = backbone.classifier
    assert isinstance(classifier, nn.Linear)
    model.head.mean.zero_()
    model.head.scale.fill_(1.0)
    layer.weight.copy_(classifier.weight[rows])
    layer.bias.copy_(classifier.bias[rows])


def _class_means(z_ND: Tensor, encoded: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return weight (C, D) and bias (C,), at the temperature that gives the training part the best log-likelihood."""
    onehot_NC = encoded.float() if encoded.ndim == 2 else F.one_hot(encoded, classes).float()
    mean_CD = (onehot_NC.T @ z_ND) / onehot_NC.sum(0)[:, None].clamp(min=1)
    bias_C = -0.5 * mean_CD.square().sum(1)
    score_NC = z_ND @ mean_CD.T + bias_C
    truth_NC = onehot_NC / onehot_NC.sum(1, keepdim=True).clamp(min=1)
    temperatures = torch.logspace(-4, 1, 26)
    best = min(temperatures.tolist(), key=lambda t: float(F.cross_entropy(score_NC * t, truth_NC)))
    return mean_CD * best, bias_C * best


def _ridge(z_ND: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return ridge weights (1, D) and bias (1,), penalty 0.1 on the mean kernel (dual form)."""
    gram_NN = z_ND @ z_ND.T / z_ND.shape[1]
    dual_N = torch.linalg.solve(gram_NN + 0.1 * torch.eye(len(z_ND)), y_N - y_N.mean())
    return (dual_N @ z_ND / z_ND.shape[1])[None], y_N.mean()[None]
