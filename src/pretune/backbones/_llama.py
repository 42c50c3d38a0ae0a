"""Llama out of a GGUF file, with its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretune.architectures.llama import Llama
from pretune.backbones import _gguf
from pretune.backbones._architectures import Unfilled, wrap
from pretune.backbones._base import Backbone, load_matching
from pretune.errors import WeightsError
from pretune.modalities.text import Text

_TOP = {"token_embd.weight": "embeddings.word.weight", "output_norm.weight": "norm.norm.weight"}
_LAYER = {"attn_norm": "attention_norm", "attn_output": "out", "ffn_norm": "feed_norm", "ffn_down": "down"}
_JOINED = {"attn_q": ("qkv", ("attn_q", "attn_k", "attn_v")), "ffn_gate": ("gate_up", ("ffn_gate", "ffn_up"))}
_PROJECTIONS = ("attn_k", "attn_v", "ffn_up")
_UNUSED = ("output.weight", "rope_freqs.weight")


def read_llama(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return a file's tensors by our names."""
    file = _gguf.read_gguf(shards[0])
    if file.settings.get("general.architecture") != "llama":
        raise WeightsError(f"{shards[0]} holds a {file.settings.get('general.architecture')} network, not a Llama.")
    query, key = (int(file.settings[f"llama.attention.head_count{suffix}"]) for suffix in ("", "_kv"))
    heads = {"attn_q": query, "attn_k": key}
    return renamed({name: _halved(tensor, heads.get(name.split(".")[-2], 0)) for name, tensor in file.tensors.items()})


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by our names, those that one matrix product needs joined."""
    out = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if match is None:
            if name not in _UNUSED:
                out[f"stages.{_TOP.get(name, name)}"] = tensor
            continue
        place, part = f"stages.layer{int(match[1]) + 1}", match[2]
        if part in _JOINED:
            joined, names = _JOINED[part]
            out[f"{place}.{joined}.weight"] = torch.cat([tensors[name.replace(part, other)] for other in names])
        elif part not in _PROJECTIONS:
            out[f"{place}.{_LAYER.get(part, part)}.weight"] = tensor
    return out


def _halved(weight: Tensor, heads: int) -> Tensor:
    """Undo GGUF's order of queries and keys, in which the two channels that turn together are neighbours."""
    if not heads:
        return weight
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def assemble(state: Mapping[str, Tensor] | None, origin: str, **settings: Any) -> Backbone:
    """Return the backbone, with randomly initialised weights where `state` is None."""
    sizes = Llama(**settings)
    with Unfilled() if state is not None else nullcontext():
        network = sizes.build()
    return wrap(sizes, network, report=None if state is None else load_matching(network, dict(state), source=origin))


def with_tokenizer(backbone: Backbone, files: dict[str, Path]) -> Backbone:
    """Return the backbone with the tokenizer of its GGUF file."""
    assert isinstance(backbone.modality, Text)
    settings = _gguf.read_gguf(files["tokenizer"], tensors=False).settings
    backbone.modality = replace(backbone.modality, tokenizer=_gguf.tokenizer(settings, str(files["tokenizer"])))
    return backbone
