"""A recipe's wishes for what the model is shown, put into the preprocessing its weights carry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.recipe import Inputs


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
