"""What the model is shown: a recipe's wishes put into the preprocessing, and small pictures not enlarged for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pretune import backbones
from pretune.backbones import Backbone
from pretune.data.streaming import read
from pretune.errors import BadItem, SettingError
from pretune.modalities.image import Image, shorter_side
from pretune.recipe import Inputs
from pretune.types import Row

_LOOKED_AT = 200
"""Pictures whose sizes are read from their files' first bytes."""
_MUCH = 1.5
"""How many times as wide as the pictures a network's input must be for them to be much enlarged."""
_STEP, _LEAST = 8, 16
"""Sizes of inputs are multiples of the one and no smaller than the other, so that halvings fit."""


def set_inputs(backbone: Backbone, inputs: Inputs) -> None:
    """Change the preprocessing as asked; the image size is the backbone source's business.

    Raises:
        SettingError: the setting does not apply to what this backbone takes.
    """
    for key in ("max_tokens", "seconds"):
        value = getattr(inputs, key)
        if value is not None and not hasattr(backbone.modality, key):
            raise SettingError(f"{key}={value} does not apply: {backbone.builder.id} takes {backbone.modality.unit}s.")
        if value is not None:
            settings: Any = backbone.modality
            backbone.modality = replace(settings, **{key: value})


def is_fresh(backbone: Backbone) -> bool:
    """Tell whether nothing was loaded: a run's network is built like a fresh one, but holds what the run learned."""
    return backbone.report is None and backbone.builder.id.startswith("scratch:")


def fitted_to_small(backbone: Backbone, rows: Sequence[Row], *, named: str | None, inputs: Inputs, seed: int) -> tuple[Backbone, str]:
    """Return a fresh network of our own that sees small pictures at about their size, and a sentence; else the same one.

    Pictures of 32 pixels enlarged to 64 take four times as long and tell nothing new. Weights that were trained at a size
    keep it; so does whoever names a size.

    Args:
        backbone: as its name made it.
        rows: what will be learned from.
        named: the backbone as the recipe names it; one with `size=` keeps it.
        inputs: the recipe's; `image_size` is kept.
        seed: of the fresh weights.
    """
    image, settings = backbone.modality, backbone.builder.settings
    asked = inputs.image_size is not None or ",size=" in (named or "")
    if asked or not is_fresh(backbone) or not isinstance(image, Image) or "size" not in settings:
        return backbone, ""
    looked = (rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), _LOOKED_AT)).astype(int)) if rows else ()
    sides = [side for row in looked if (side := _side(row)) is not None]
    half = int(np.median(sides)) if sides else image.size
    fitting = max(_LEAST, -(-half // _STEP) * _STEP)
    if _MUCH * fitting > image.size:
        return backbone, ""
    torch.manual_seed(seed)
    smaller = backbones.build(replace(backbone.builder, settings={**settings, "size": fitting}))
    return smaller, (
        f"half of the pictures are at most {half} pixels wide or high: the fresh network sees them at {fitting} "
        f"(image_size={image.size} would enlarge them, at {(image.size / fitting) ** 2:.0f} times the cost)"
    )


def _side(row: Row) -> int | None:
    """Return a picture's shorter side; None where it cannot be read, which is said when all are decoded."""
    try:
        return shorter_side(read(row))
    except (OSError, BadItem):
        return None
