"""What parts that mix two examples share: partners, shares, and targets mixed by the same shares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.errors import SettingError
from pretune.labels import Labels


def draw_shares(size: int, alpha: float, probability: float, generator: torch.Generator) -> Tensor:
    """Return (B,) float32 in [0, 1], Beta(alpha, alpha): the share each example keeps of itself; 1 for those left whole."""
    # torch's own Beta takes no generator; numpy's is seeded by ours.
    seed = int(torch.randint(2**62, (), generator=generator))
    rng = np.random.default_rng(seed)
    shares = rng.beta(alpha, alpha, size) if alpha > 0 else np.ones(size)
    return torch.from_numpy(np.where(rng.random(size) < probability, shares, 1.0).astype(np.float32))


def mixed(labels: Labels | None, partner_B: Tensor, share_B: Tensor, classes: int | None) -> Labels | None:
    """Return labels mixed as the inputs were.

    Args:
        labels: of B examples: int64 classes (B,), multi-hot or soft classes (B, C), numbers (B,); or None.
        partner_B: (B,) int64 index of the example each one is mixed with.
        share_B: (B,) float share each example keeps of itself.
        classes: number of classes C, needed for int64 classes.

    Raises:
        SettingError: class indices without a number of classes, or labels of which an example has several.
    """
    if labels is None:
        return None
    if labels.several or labels.located:
        raise SettingError(
            "mixing two examples mixes their labels, and this task's examples have several each. Leave mixup and cutmix out."
        )
    targets = labels.only
    if not targets.is_floating_point():
        if classes is None:
            raise SettingError("mixing items mixes their classes, and the number of classes is not known here.")
        targets = F.one_hot(targets, classes).float()
    share = share_B.view(-1, *[1] * (targets.ndim - 1)).to(targets.dtype)
    return Labels.of(share * targets + (1 - share) * targets[partner_B])
