"""Whisper's encoder as a backbone, and the names its tensors go by in a CTranslate2 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretune.architectures.whisper_encoder import WhisperEncoder
from pretune.backbones._architectures import wrap
from pretune.backbones._base import Backbone, load_matching
from pretune.backbones._ctranslate2 import read_ctranslate2 as read_tensors

_SIDE = "encoder/"
_LAYER_NAMES = {
    "self_attention/layer_norm": "attention_norm",
    "self_attention/linear_0": "qkv",
    "self_attention/linear_1": "out",
    "ffn/layer_norm": "feed_norm",
    "ffn/linear_0": "up",
    "ffn/linear_1": "down",
}
_KINDS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def read_whisper(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return the encoder's tensors in float32 by our names, from the parts of a `model.bin`."""
    joined = b"".join(shard.read_bytes() for shard in shards)
    tensors = read_tensors(joined, shards[0].name, lambda name: name.startswith(_SIDE))
    return {
        _renamed(name.removeprefix(_SIDE)): torch.from_numpy(values.astype(np.float32)) for name, values in tensors.items() if values.ndim
    }


def assemble(state: dict[str, Tensor] | None, origin: str, **settings: Any) -> Backbone:
    """Return the encoder, with randomly initialised weights where `state` is None."""
    sizes = WhisperEncoder(**settings)
    network = sizes.build()
    report = None if state is None else load_matching(network, state, source=origin)
    return wrap(sizes, network, report=report)


def _renamed(name: str) -> str:
    """Return our name of a tensor: 'layer_3/ffn/linear_0/weight' becomes 'stages.layer4.up.weight'."""
    if name == "position_encodings/encodings":
        return "stages.stem.table"
    path, _, kind = name.rpartition("/")
    kind = _KINDS.get(kind, kind)
    if path.startswith("conv"):
        return f"stages.stem.{path}.{kind}"
    if path == "layer_norm":
        return f"stages.norm.norm.{kind}"
    layer, _, part = path.partition("/")
    return f"stages.layer{int(layer.removeprefix('layer_')) + 1}.{_LAYER_NAMES.get(part, part)}.{kind}"
