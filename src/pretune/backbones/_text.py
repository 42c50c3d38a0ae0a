"""The tokenizer that comes with a set of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pretune.backbones._base import Backbone
from pretune.modalities.text import Text


def with_tokenizer(backbone: Backbone, files: dict[str, Path]) -> Backbone:
    """Return the backbone with its tokenizer, the `tokenizer.json` in `files`."""
    assert isinstance(backbone.modality, Text)
    backbone.modality = replace(backbone.modality, tokenizer=files["tokenizer"].read_text(encoding="utf-8"))
    return backbone
