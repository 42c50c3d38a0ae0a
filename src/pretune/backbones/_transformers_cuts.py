"""Language networks of `transformers` cut into stages: embeddings, each layer, the last norm.

A cut is compared with the whole network on a small padded batch when it is made; one that is not equal, or a network
nobody wrote a cut for, becomes one stage.

Shapes: B texts, T tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones._base import Backbone, Builder, Readout, Scoring, TensorStage
from pretune.modalities.text import Text
from pretune.types import Features

Stages = dict[str, nn.Module]
_ROTARY = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3", "smollm3", "granite", "stablelm", "gemma", "ministral")
_CLOSE = 1e-4
"""Largest difference of features, relative to their size, that counts as equal."""


def cut(network: Any, text: Text) -> Backbone:
    """Return a network as a backbone; the builder is the caller's to set."""
    if hasattr(network, "pooler"):
        network.pooler = None  # nothing reads it
    settings = network.config
    stages = _equal_cut(network.eval())
    decoder = bool(getattr(settings, "is_decoder", False)) or settings.model_type in (*_ROTARY, "gpt2", "gpt_neo", "gpt_neox", "opt")
    backbone = Backbone(
        stages=(stages or {"network": _Whole(network)}).items(),
        modality=text,
        layout="sequence",
        width=settings.hidden_size,
        builder=Builder(id=""),
        readout=Readout(
            pooling="last" if decoder else "mean", layered=stages is not None, probing="layers" if stages is not None else None
        ),
    )
    backbone.causal = decoder
    backbone.scoring = Scoring(
        tied=bool(getattr(settings, "tie_word_embeddings", True)),
        shape=(settings.vocab_size, settings.hidden_size),
        scale=float(getattr(settings, "logit_scale", None) or 1.0) / float(getattr(settings, "logits_scaling", None) or 1.0),
        capped=getattr(settings, "final_logit_softcapping", None) is not None,
    )
    return backbone


def _equal_cut(network: Any) -> Stages | None:
    """Return the stages of a network where their features are equal to its own."""
    kind = network.config.model_type
    make: Callable[[Any], Stages] | None = _rotary if kind in _ROTARY else _CUTS.get(kind)
    if make is None:
        return None
    ids = torch.arange(24).view(2, 12) % (network.config.vocab_size - 1)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    features = Features(tensor=ids, layout="raw", mask=mask)
    stages = make(network)
    with torch.no_grad():
        whole = _Whole(network)(features).tensor[mask]
        for stage in stages.values():
            features = stage(features)
    off = (features.tensor[mask] - whole).abs().max()
    return stages if off <= _CLOSE * whole.abs().max().clamp(min=1e-6) else None


class _Whole(nn.Module):
    """A network as one stage: ids (B, T) -> sequence (B, T, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Features) -> Features:
        """Return the last hidden states."""
        mask = None if features.mask is None else features.mask.long()
        extra = {"use_cache": False} if hasattr(self.network.config, "use_cache") else {}
        return features.with_tensor(self.network(input_ids=features.tensor, attention_mask=mask, **extra).last_hidden_state, "sequence")


# --- decoders ------------------------------------------------------------------------------------
# Padding follows the tokens and no token sees what comes after it, so a causal mask is all that is needed.


def _gpt2(network: Any) -> Stages:
    layers = {f"layer{i + 1}": _CausalLayer(block, None) for i, block in enumerate(network.h)}
    return {"embeddings": _Gpt2Embeddings(network), **layers, "norm": TensorStage(network.ln_f, "sequence")}


class _Gpt2Embeddings(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.word, self.position, self.dropout = network.wte, network.wpe, network.drop

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        ids_BT = features.tensor
        return features.with_tensor(self.dropout(self.word(ids_BT) + self.position.weight[: ids_BT.shape[1]]), "sequence")


def _rotary(network: Any) -> Stages:
    layers = {f"layer{i + 1}": _CausalLayer(layer, network.rotary_emb) for i, layer in enumerate(network.layers)}
    return {"embeddings": TensorStage(network.embed_tokens, "sequence"), **layers, "norm": TensorStage(network.norm, "sequence")}


class _CausalLayer(nn.Module):
    """One layer of a decoder, with the rotation of its queries and keys where it has one."""

    def __init__(self, layer: nn.Module, rotary: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        x_BTD = features.tensor
        place = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
        extra = {} if self.rotary is None else {"position_embeddings": self.rotary(x_BTD, place)}
        out = self.layer(x_BTD, attention_mask=None, position_ids=place, use_cache=False, **extra)
        return features.with_tensor(out[0] if isinstance(out, tuple) else out)


# --- encoders ------------------------------------------------------------------------------------


def _modernbert(network: Any) -> Stages:
    layers = {f"layer{i + 1}": _ModernBertLayer(layer, network.rotary_emb, network.config) for i, layer in enumerate(network.layers)}
    return {"embeddings": TensorStage(network.embeddings, "sequence"), **layers, "norm": TensorStage(network.final_norm, "sequence")}


class _ModernBertLayer(nn.Module):
    """One layer that sees the whole text or a window of it."""

    def __init__(self, layer: Any, rotary: nn.Module, config: Any) -> None:
        super().__init__()
        self.layer, self.rotary, self.config, self.kind = layer, rotary, config, layer.attention_type

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

        x_BTD = features.tensor
        make = create_bidirectional_mask if self.kind == "full_attention" else create_bidirectional_sliding_window_mask
        seen = make(config=self.config, inputs_embeds=x_BTD, attention_mask=features.mask)
        place = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
        return features.with_tensor(self.layer(x_BTD, attention_mask=seen, position_embeddings=self.rotary(x_BTD, place, self.kind)))


def _t5(network: Any) -> Stages:
    stack = network.encoder
    bias = _RelativeBias(stack.block[0].layer[0].SelfAttention)
    layers = {f"layer{i + 1}": _T5Layer(block, bias, stack.config) for i, block in enumerate(stack.block)}
    embeddings = nn.Sequential(stack.embed_tokens, stack.dropout)
    last = nn.Sequential(stack.final_layer_norm, stack.dropout)
    return {"embeddings": TensorStage(embeddings, "sequence"), **layers, "norm": TensorStage(last, "sequence")}


class _RelativeBias(nn.Module):
    """What a T5 encoder adds to all attention scores for the distance of two tokens; its table is the first layer's."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.relative_attention_bias = attention.relative_attention_bias
        self.buckets = attention._relative_position_bucket
        self.count, self.farthest = attention.relative_attention_num_buckets, attention.relative_attention_max_distance

    def forward(self, length: int) -> Tensor:
        """Return (1, H, T, T)."""
        place = torch.arange(length, device=self.relative_attention_bias.weight.device)
        bucket_TT = self.buckets(place[None] - place[:, None], bidirectional=True, num_buckets=self.count, max_distance=self.farthest)
        return self.relative_attention_bias(bucket_TT).permute(2, 0, 1)[None]


class _T5Layer(nn.Module):
    """One block; it refers to the first one's bias table without owning it, so that freezing and saving see that table once."""

    def __init__(self, block: nn.Module, bias: _RelativeBias, config: Any) -> None:
        super().__init__()
        self.block, self.config = block, config
        self.bias = (bias,)  # in a tuple, which does not make it a child

    def forward(self, features: Features) -> Features:
        """Return (B, T, D)."""
        from transformers.masking_utils import create_bidirectional_mask

        x_BTD = features.tensor
        seen = create_bidirectional_mask(config=self.config, inputs_embeds=x_BTD, attention_mask=features.mask)
        return features.with_tensor(self.block(x_BTD, seen, self.bias[0](x_BTD.shape[1]).to(x_BTD.dtype))[0])


_CUTS: dict[str, Callable[[Any], Stages]] = {"gpt2": _gpt2, "modernbert": _modernbert, "t5": _t5, "mt5": _t5, "umt5": _t5}
