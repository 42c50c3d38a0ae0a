"""BERT and its closest relatives in the form `transformers` saves them, as the Bert of our own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretune.architectures.bert import Bert
from pretune.backbones._architectures import Unfilled, wrap
from pretune.backbones._base import Backbone, load_matching
from pretune.backbones._states import read_state
from pretune.errors import WeightsError

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert")
"""Values of `model_type` whose networks this is."""
_PREFIXES = ("bert.", "roberta.", "distilbert.", "model.")
_UNUSED = re.compile(
    r"position_ids$|token_type_ids$|^pooler\.|^cls\.|^lm_head\.|^vocab_|^classifier\.|^pre_classifier\.|^qa_outputs\.|^dropout\."
)
_QKV = ("query", "key", "value")
_LAYER = {
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "feed_norm",
}
_EMBEDDINGS = {
    "word_embeddings.weight": "word.weight",
    "position_embeddings.weight": "position.weight",
    "token_type_embeddings.weight": "segment.weight",
    "LayerNorm.weight": "norm.weight",
    "LayerNorm.bias": "norm.bias",
}
_DISTIL = (
    ("transformer.layer.", "encoder.layer."),
    (".attention.q_lin.", ".attention.self.query."),
    (".attention.k_lin.", ".attention.self.key."),
    (".attention.v_lin.", ".attention.self.value."),
    (".attention.out_lin.", ".attention.output.dense."),
    (".sa_layer_norm.", ".attention.output.LayerNorm."),
    (".ffn.lin1.", ".intermediate.dense."),
    (".ffn.lin2.", ".output.dense."),
    (".output_layer_norm.", ".output.LayerNorm."),
)
"""DistilBERT's names -> BERT's."""


def sizes_of(config: Mapping[str, Any], *, separator: int | None, max_tokens: int) -> Bert | None:
    """Return the sizes in a `config.json`, or None where the network is not a Bert.

    Args:
        config: the file's content.
        separator: id of the token between two texts.
        max_tokens: tokens a text is cut to, as far as the network has positions.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES or not _is_plain(config):
        return None
    distil = kind == "distilbert"
    dropped = 0 if distil or kind == "bert" else int(config.get("pad_token_id", 1)) + 1
    positions = int(config.get("max_position_embeddings", 512)) - dropped
    names = ("dim", "n_layers", "n_heads", "hidden_dim")
    if not distil:
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return Bert(
        vocabulary=int(config["vocab_size"]), positions=positions, max_tokens=min(max_tokens, positions), separator=separator,
        width=int(config[names[0]]), layers=int(config[names[1]]), heads=int(config[names[2]]), hidden=int(config[names[3]]),
        types=0 if distil else int(config.get("type_vocab_size", 2)),
        dropout=float(config.get("dropout" if distil else "hidden_dropout_prob", 0.1)),
        epsilon=1e-12 if distil else float(config.get("layer_norm_eps", 1e-12)),
    )  # fmt: skip


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether nothing in the settings changes what a Bert computes."""
    activation = config.get("activation" if config["model_type"] == "distilbert" else "hidden_act", "gelu")
    dropouts = {config.get(k, 0.1) for k in ("dropout", "attention_dropout")} if config["model_type"] == "distilbert" else {
        config.get(k, 0.1) for k in ("hidden_dropout_prob", "attention_probs_dropout_prob")
    }  # fmt: skip
    variants = config.get("is_decoder") or config.get("add_cross_attention") or config.get("sinusoidal_pos_embds")
    return activation == "gelu" and config.get("position_embedding_type", "absolute") == "absolute" and not variants and len(dropouts) == 1


def read_bert(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by our names."""
    return renamed(read_state(shards[0]).tensors, str(shards[0]))


def renamed(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Return tensors by our names, query, key and value joined; what no encoder needs (pooler, heads) is left out."""
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
        short = name.removeprefix(prefix)
        for theirs, ours in _DISTIL:
            short = short.replace(theirs, ours)
        if not _UNUSED.search(short):
            plain[short.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    out: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        key = _place(name)
        if key is not None:
            out[key] = tensor if ".qkv." not in key else _joined(plain, name, origin)
    return out


def _place(name: str) -> str | None:
    """Return our name of a tensor; key and value go with their query."""
    if name.startswith("embeddings."):
        part = name.removeprefix("embeddings.")
        return f"stages.embeddings.{_EMBEDDINGS.get(part, part)}"
    match = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        return name
    number, part, kind = int(match[1]) + 1, match[2], match[3]
    if part.startswith("attention.self."):
        return f"stages.layer{number}.qkv.{kind}" if part.endswith("query") else None
    return f"stages.layer{number}.{_LAYER.get(part, part)}.{kind}"


def _joined(state: Mapping[str, Tensor], query: str, origin: str) -> Tensor:
    names = [query.replace(".query.", f".{part}.") for part in _QKV]
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(f"{origin} lacks {', '.join(missing)}: it is cut off or no BERT.")
    return torch.cat([state[name] for name in names])


def assemble(state: Mapping[str, Tensor] | None, origin: str, **settings: Any) -> Backbone:
    """Return the backbone, with randomly initialised weights where `state` is None."""
    sizes = Bert(**settings)
    with Unfilled() if state is not None else nullcontext():
        network = sizes.build()
    report = None
    if state is not None:
        state = dict(state)
        position = state.get("stages.embeddings.position.weight")
        if position is not None and 0 < len(position) - sizes.positions <= 2:  # RoBERTa's first rows stand for padding
            state["stages.embeddings.position.weight"] = position[len(position) - sizes.positions :]
        report = load_matching(network, state, source=origin)
    return wrap(sizes, network, report=report)
