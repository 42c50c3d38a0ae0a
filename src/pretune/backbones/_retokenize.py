"""Another vocabulary for a network that knows one: each token keeps its vector, new ones begin at the mean of all."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretune.backbones._base import Backbone, Builder
from pretune.backbones._load import build
from pretune.errors import SettingError
from pretune.modalities.text import Text
from pretune.modalities.transforms import tokenizing

_OTHERS = re.compile("pos|wpe|segment|type")
"""In the names of tables that are not of tokens; the one of positions may be the largest where tokens are characters."""


def token_table(backbone: Backbone) -> nn.Embedding:
    """Return the embedding of token ids: the largest table of the first stage that has one, those of positions and types aside.

    Raises:
        SettingError: the network has none, so it does not take tokens.
    """
    for stage in backbone.stages.values():
        tables = [module for name, module in stage.named_modules() if isinstance(module, nn.Embedding) and not _OTHERS.search(name)]
        if tables:
            return max(tables, key=lambda table: table.num_embeddings)
    raise SettingError(f"{backbone.builder.id} has no table of tokens, so it cannot learn to predict them.")


def retokenized(backbone: Backbone, tokenizer: str) -> Backbone:
    """Return the network over another tokenizer's ids.

    Args:
        backbone: over texts, with a tokenizer.
        tokenizer: content of a tokenizer.json, e.g. the network's own with further tokens.

    Raises:
        SettingError: the table would have to grow, and the network's sizes cannot be chosen.
    """
    text = cast("Text", backbone.modality)
    if tokenizer == text.tokenizer:
        return backbone
    sources, size = _rows(text.tokenizer, tokenizer), tokenizing.load(tokenizer).get_vocab_size()
    table = token_table(backbone)
    stays = bool((sources[sources >= 0] == torch.arange(size)[sources >= 0]).all())
    if stays and size <= table.num_embeddings:  # rows that no token had are there already
        backbone.modality = replace(text, tokenizer=tokenizer)
        with torch.no_grad():
            table.weight[:size][sources < 0] = table.weight[: text.size].mean(0)
        return backbone
    made = _rebuilt(backbone, size, sources)
    made.modality = replace(text, tokenizer=tokenizer, vocabulary=max(text.vocabulary, size))
    return made


def _rows(old: str, new: str) -> Tensor:
    """Return the old id of each new token by its name, -1 where it is new."""
    known = tokenizing.load(old).get_vocab()
    names = tokenizing.load(new).get_vocab()
    rows = torch.full((len(names),), -1)
    for name, place in names.items():
        rows[place] = known.get(name, -1)
    return rows


def _rebuilt(backbone: Backbone, size: int, sources: Tensor) -> Backbone:
    """Return the same network with a table of `size` rows, all its other tensors copied."""
    settings = backbone.builder.settings
    if "vocabulary" not in settings:
        raise SettingError(f"the tokenizer of {backbone.builder.id} lacks a token that is needed, and its table of tokens cannot grow.")
    changed: dict[str, Any] = {**settings, "vocabulary": size}
    if settings.get("separator") is not None:
        changed["separator"] = int((sources == settings["separator"]).nonzero()[0, 0])
    made = build(Builder(id=backbone.builder.id, settings=changed))
    old, state = token_table(backbone).weight.detach(), dict(backbone.stages.state_dict())
    name = next(key for key, value in state.items() if value.data_ptr() == old.data_ptr())
    rows = torch.where((sources >= 0)[:, None], old[sources.clamp(min=0)], old.mean(0))
    made.stages.load_state_dict({**state, name: rows})
    made.pooling, made.report = backbone.pooling, backbone.report
    return made
