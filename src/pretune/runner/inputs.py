"""What the model is shown: a recipe's wishes put into the preprocessing, and small images not enlarged for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pretune import backbones, config
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.modalities.image import Image
from pretune.recipe import Inputs
from pretune.storage.image_sizes import sizes_of
from pretune.types import Row

_TOO_LONG, _MANY = 2, 0.25
"""Long over short side from which a centre crop hides most of an image, and the share of such images from which it is not used."""
_MUCH = 1.5
"""How many times as wide as the images a network's input must be for them to be much enlarged."""
_TIMES, _LEAST_OF_PRETRAINED, _WORTHWHILE = 4, 128, 0.75
"""A probe sees small images at some times their size, at no fewer pixels than that, where it is that share of the weights' size at most."""
_OF_OBJECTS = 320
"""Pixels at which a network that was pretrained on whole images looks for objects in them."""
_STEP, _LEAST = 8, 16
"""Sizes of inputs are multiples of the one and no smaller than the other, so that halvings fit."""


def set_inputs(backbone: Backbone, inputs: Inputs) -> None:
    """Change the preprocessing as asked; the image size is the backbone source's business.

    Raises:
        SettingError: the setting does not apply to what this backbone takes.
    """
    for key in ("max_tokens", "seconds"):
        value = getattr(inputs, key)
        if value is not None and key not in config.keys(type(backbone.modality)):
            raise SettingError(f"{key}={value} does not apply: {backbone.builder.id} takes {backbone.modality.unit}s.")
        if value is not None:
            settings: Any = backbone.modality
            backbone.modality = replace(settings, **{key: value})
    if inputs.fit is not None:
        if not isinstance(backbone.modality, Image):
            raise SettingError(f"fit={inputs.fit} does not apply: {backbone.builder.id} takes {backbone.modality.unit}s.")
        backbone.modality = backbone.modality.fitted(inputs.fit)


def fitted_to_small(backbone: Backbone, rows: Sequence[Row], *, named: str | None, inputs: Inputs, seed: int) -> tuple[Backbone, str]:
    """Return a network of our own from scratch that sees small images at about their size, and a sentence; else the same one.

    Images of 32 pixels enlarged to 64 take four times as long and tell nothing new. Weights that were trained at a size
    keep it; so does whoever names a size.

    Args:
        backbone: as its name made it.
        rows: what will be learned from.
        named: the backbone as the recipe names it; one with `size=` keeps it.
        inputs: the recipe's; `image_size` is kept.
        seed: of the randomly initialised weights.
    """
    image, settings = backbone.modality, backbone.builder.settings
    asked = inputs.image_size is not None or ",size=" in (named or "")
    if asked or not backbone.is_untrained or not isinstance(image, Image) or "size" not in settings:
        return backbone, ""
    sides = [min(size) for size in sizes_of(rows)]
    half = int(np.median(sides)) if sides else image.size
    fitting = max(_LEAST, -(-half // _STEP) * _STEP)
    if _MUCH * fitting > image.size:
        return backbone, ""
    torch.manual_seed(seed)
    smaller = backbones.build(replace(backbone.builder, settings={**settings, "size": fitting}))
    if isinstance(smaller.modality, Image):
        smaller.modality = smaller.modality.fitted(image.fit)
    return smaller, (
        f"half of the images are at most {half} pixels wide or high: the network from scratch sees them at {fitting} "
        f"(image_size={image.size} would enlarge them, at {(image.size / fitting) ** 2:.0f} times the cost)"
    )


def fitted_to_probe(backbone: Backbone, rows: Sequence[Row], inputs: Inputs) -> str:
    """Let a linear probe on packaged weights see small images at four times their size; return a sentence on it.

    Measured on images of 32 pixels (docs/log.md): at 128 pixels a probe is as good as at 224, at a third of the cost. Fine-tuning keeps
    the size that the weights were trained at; so does whoever names a size.

    Args:
        backbone: its preprocessing is changed.
        rows: what will be learned from.
        inputs: the recipe's.
    """
    image = backbone.modality
    packaged = backbone.builder.id.startswith("package:") and backbone.layout == "map"
    if inputs.image_size is not None or not packaged or not isinstance(image, Image) or not (sizes := sizes_of(rows)):
        return ""
    side = int(np.median([min(size) for size in sizes]))
    wanted = max(_LEAST_OF_PRETRAINED, -(-_TIMES * side // 32) * 32)
    if wanted > _WORTHWHILE * image.size:
        return ""
    backbone.modality = backbones.resized(backbone, wanted)
    return (
        f"half of the images are at most {side} pixels wide or high: a probe sees them at {wanted} pixels "
        f"(image_size={image.size}, the size of the weights, costs {(image.size / wanted) ** 2:.1f} times as much)"
    )


def fitted_to_boxes(backbone: Backbone, inputs: Inputs) -> str:
    """Let a network that is to find objects see whole images, at a size at which small ones can be found; return a sentence on it.

    A pretrained detector keeps the size of its weights, a network from scratch its own; so does whoever names a size or a fit.

    Args:
        backbone: its preprocessing is changed.
        inputs: the recipe's.
    """
    image = backbone.modality
    if not isinstance(image, Image) or backbone.detector is not None:
        return ""
    if inputs.image_size is None and not backbone.is_untrained and image.size < _OF_OBJECTS:
        image = backbone.modality = backbones.resized(backbone, _OF_OBJECTS)
    if inputs.fit is None:
        image = backbone.modality = image.fitted("pad")
    return f"the network sees whole images at {image.size} pixels, fit={image.fit} (image_size= and fit= change that)"


def fitted_to_shape(backbone: Backbone, rows: Sequence[Row], inputs: Inputs) -> str:
    """Let the whole of long images be seen where a centre crop would hide most of many of them; return a sentence on it.

    Measured (docs/images.md): where a quarter of the images are longer than 2:1, squashing them to a square gave 0.65 instead of
    0.44 of accuracy; for photographs, which are not that long, it gave nothing. Whoever sets `fit=` decides.

    Args:
        backbone: its preprocessing is changed.
        rows: what will be learned from.
        inputs: the recipe's.
    """
    image = backbone.modality
    if inputs.fit is not None or not isinstance(image, Image) or image.fit != "crop":
        return ""
    sizes = sizes_of(rows)
    long = [size for size in sizes if max(size) > _TOO_LONG * min(size)]
    if not long or len(long) < _MANY * len(sizes):
        return ""
    hidden = 1 - float(np.median([image.shown(size) for size in long]))
    backbone.modality = image.fitted("squash")
    return (
        f"{len(long) / len(sizes):.0%} of the images are longer than {_TOO_LONG}:1, and a centre crop would leave out {hidden:.0%} of such "
        "an image: whole images are scaled to a square instead (fit=squash). fit=crop cuts, fit=pad keeps their proportions."
    )
