"""The CTC head of a wav2vec 2.0, HuBERT or like checkpoint, its outputs named by the vocabulary that lies beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pretune.backbones._base import Recogniser

_WEIGHT, _BIAS = "lm_head.weight", "lm_head.bias"
_VOCABULARY, _TOKENIZER = "vocab.json", "tokenizer_config.json"


def read_ctc_head(config: Mapping[str, Any], state: Mapping[str, Tensor], where: Path) -> Recogniser | None:
    """Return the CTC head of a checkpoint, or why it cannot be used; None where it has none.

    Args:
        config: content of config.json.
        state: tensors by the checkpoint's names.
        where: the folder, with vocab.json and tokenizer_config.json.
    """
    weight, bias = state.get(_WEIGHT), state.get(_BIAS)
    if weight is None or bias is None:
        return None
    if config.get("add_adapter") or weight.shape[1] != config.get("hidden_size"):
        return Recogniser(fault="it reads an adapter of its own, which is not built here")
    vocabulary = _read(where / _VOCABULARY)
    if not all(isinstance(number, int) and 0 <= number < len(weight) for number in vocabulary.values()):
        return Recogniser(fault=f"its {_VOCABULARY} has several languages, or outputs that it lacks")
    if not vocabulary:
        return Recogniser(fault=f"no {_VOCABULARY} lies beside the weights, so nobody knows what its outputs write")
    settings = _read(where / _TOKENIZER)
    names = {number: token for token, number in vocabulary.items()}
    blank, space = int(config.get("pad_token_id") or 0), _content(settings.get("word_delimiter_token")) or "|"
    symbols = tuple("" if number == blank else names.get(number, "") for number in range(len(weight)))
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return Recogniser(layer=layer, symbols=tuple(" " if one == space else one for one in symbols), blank=blank)


def _content(token: Any) -> Any:
    """Return a token of a tokenizer's settings, which may be a table."""
    return token.get("content") if isinstance(token, Mapping) else token


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
