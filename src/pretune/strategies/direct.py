"""Use the pretrained model as it is: its own classes where they fit, else the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.strategies._base import Defaults, Phase, open_last
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Direct:
    """No gradient at all: the head is computed from the training features."""

    component: ClassVar[bool] = True
    trains: ClassVar[bool] = False
    defaults: ClassVar[Defaults] = Defaults(lr=1.0, epochs=0, weight_decay=0.0, augment="none")

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """One phase, everything frozen."""
        return (Phase(name="direct", open=0, share=1.0),)

    def prepare(self, model: Model) -> None:
        """Change nothing."""

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Freeze everything."""
        open_last(model, 0)
        model.requires_grad_(False)
        return ()

    def solve(self, features_ND: Tensor, targets: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
        """Return weight (C, D) and bias (C,) of the nearest-class-mean classifier on standardised features.

        argmin_c |x - m_c|² = argmax_c (m_c·x - |m_c|²/2), so that nearest mean is a linear head (Snell et al. 2017).
        Directions are compared (rows normalised), scaled so that softmax gives usable probabilities. For numbers, the
        ridge solution takes the means' place.
        """
        x_ND = F.normalize(features_ND, dim=1)
        if targets.ndim == 1 and not targets.is_floating_point():
            onehot_NC = F.one_hot(targets, outputs).float()
        elif targets.ndim == 2:
            onehot_NC = targets
        else:
            return _ridge(features_ND, targets)
        mean_CD = (onehot_NC.T @ x_ND) / onehot_NC.sum(0)[:, None].clamp(min=1)
        spread = (x_ND.square().sum(1).mean() - mean_CD.square().sum(1).mean()).clamp(min=1e-6)
        temperature = features_ND.shape[1] ** 0.5  # a standardised row is about sqrt(D) long; the head does not normalise
        weight_CD = mean_CD / spread / temperature * 2
        return weight_CD, -mean_CD.square().sum(1) / spread


def _ridge(x_ND: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return ridge weights (1, D) and bias (1,), penalty N·0.1 on standardised features (dual form)."""
    gram_NN = x_ND @ x_ND.T / x_ND.shape[1]
    dual_N = torch.linalg.solve(gram_NN + 0.1 * torch.eye(len(x_ND)), y_N - y_N.mean())
    return (dual_N @ x_ND / x_ND.shape[1])[None], y_N.mean()[None]
