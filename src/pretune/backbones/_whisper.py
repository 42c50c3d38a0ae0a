"""Whisper as a backbone: its encoder, beside it the decoder that it was pretrained with, and their tensors' names in a CTranslate2 file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretune.architectures.layers.speech_decoder import SpeechDecoder, SpeechDecoderSizes
from pretune.architectures.whisper_encoder import WhisperEncoder
from pretune.backbones._architectures import Unfilled, wrap
from pretune.backbones._base import Backbone, load_matching
from pretune.backbones._ctranslate2 import read_ctranslate2 as read_tensors
from pretune.backbones._packages import sha256
from pretune.modalities.audio import Audio
from pretune.modalities.transforms.speech_tokens import speech_tokens
from pretune.modalities.transforms.tokenizing import FILE

_ENCODER, _DECODER = "encoder/", "decoder/"
_LAYER_NAMES = {
    "self_attention/layer_norm": "attention_norm",
    "self_attention/linear_0": "qkv",
    "self_attention/linear_1": "out",
    "ffn/layer_norm": "feed_norm",
    "ffn/linear_0": "up",
    "ffn/linear_1": "down",
}
_DECODER_NAMES = {
    **_LAYER_NAMES,
    "self_attention/linear_0": "attention.qkv",
    "self_attention/linear_1": "attention.out",
    "attention/layer_norm": "cross_norm",
    "attention/linear_0": "cross.q",
    "attention/linear_1": "cross.kv",
    "attention/linear_2": "cross.out",
}
_KINDS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
TOKENIZERS = frozenset(
    (
        "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    )
)
"""SHA-256 of the tokenizers that lie beside the weights in packages."""


def read_whisper(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return the encoder's tensors in float32 by our names, from the parts of a `model.bin`."""
    return _read(shards, _ENCODER, _renamed)


def read_decoder(shards: Sequence[Path]) -> dict[str, Tensor]:
    """Return the tensors of the decoder in float32 by the names of `SpeechDecoder`."""
    return _read(shards, _DECODER, _decoder_name)


def _read(shards: Sequence[Path], side: str, rename: Callable[[str], str]) -> dict[str, Tensor]:
    joined = b"".join(shard.read_bytes() for shard in shards)
    tensors = read_tensors(joined, shards[0].name, lambda name: name.startswith(side))
    return {rename(name.removeprefix(side)): torch.from_numpy(values.astype(np.float32)) for name, values in tensors.items() if values.ndim}


def assemble(state: dict[str, Tensor] | None, origin: str, *, decoder: Mapping[str, Any] | None = None, **settings: Any) -> Backbone:
    """Return the encoder, with randomly initialised weights where `state` is None.

    Args:
        state: the encoder's tensors by our names.
        origin: where they come from, for messages.
        decoder: sizes of the decoder that it was pretrained with (`SpeechDecoderSizes`).
        settings: sizes of the encoder.
    """
    sizes = WhisperEncoder(**settings)
    network = sizes.build()
    report = None if state is None else load_matching(network, state, source=origin)
    backbone = wrap(sizes, network, report=report)
    if decoder is not None:
        give_decoder(backbone, decoder, None)
    return backbone


def give_decoder(backbone: Backbone, sizes: Mapping[str, Any], read: Callable[[], Mapping[str, Tensor]] | None) -> None:
    """Let the backbone have a decoder, which is built when something writes with it and its tokenizer is known.

    Args:
        backbone: whose preprocessing has, or will have, the tokenizer.
        sizes: of `SpeechDecoderSizes`.
        read: returns its tensors; None for random weights, as beside the encoder of a saved run.
    """

    def build() -> SpeechDecoder:
        assert isinstance(backbone.modality, Audio)
        known = SpeechDecoderSizes(**sizes)
        tokens = speech_tokens(backbone.modality.tokenizer, known.vocabulary, multilingual=known.multilingual)
        if read is None:
            return SpeechDecoder(known, tokens)
        with Unfilled():
            made = SpeechDecoder(known, tokens)
        load_matching(made, {**read(), "language": made.language}, source=f"the decoder of {backbone.builder.id}")
        return made

    backbone.late_decoder = build


def with_decoder(backbone: Backbone, shards: Sequence[Path], settings: Mapping[str, Any]) -> Backbone:
    """Return the backbone with the decoder that the same files hold, where its tokenizer lies beside them; `settings` are those of both."""
    tokenizer = next((path for shard in shards if (path := shard.with_name(FILE)).is_file()), None)
    if tokenizer is None or sha256(tokenizer) not in TOKENIZERS:
        backbone.late_decoder = None
        return backbone
    assert isinstance(backbone.modality, Audio)
    backbone.modality = replace(backbone.modality, tokenizer=tokenizer.read_text(encoding="utf-8"))
    give_decoder(backbone, settings["decoder"], lambda: read_decoder(shards))
    return backbone


def _renamed(name: str) -> str:
    """Return our name of a tensor of the encoder: 'layer_3/ffn/linear_0/weight' becomes 'stages.layer4.up.weight'."""
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


def _decoder_name(name: str) -> str:
    """Return our name of a tensor of the decoder: 'layer_3/attention/linear_1/weight' becomes 'layers.3.cross.kv.weight'."""
    if name in ("embeddings/weight", "position_encodings/encodings"):
        return "token.weight" if name.startswith("embeddings") else "position.weight"
    path, _, kind = name.rpartition("/")
    kind = _KINDS.get(kind, kind)
    if path == "layer_norm":
        return f"norm.{kind}"
    layer, _, part = path.partition("/")
    return f"layers.{layer.removeprefix('layer_')}.{_DECODER_NAMES.get(part, part)}.{kind}"
