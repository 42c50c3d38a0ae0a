"""Audio networks of `transformers` as backbones cut into stages: wav2vec 2.0 and its kin, AST, Whisper.

Whisper becomes the encoder of our own. The others keep the modules of `transformers`, called one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones._base import Backbone, Builder, Readout, TensorStage, load_matching
from pretune.backbones._whisper import assemble as assemble_whisper
from pretune.backbones._whisper import give_decoder
from pretune.errors import WeightsError
from pretune.modalities.audio import Audio
from pretune.types import Features

WAVEFORM = ("wav2vec2", "hubert", "data2vec-audio", "unispeech", "unispeech-sat")
"""Values of `model_type` that are convolutions over the waveform, then a transformer."""
SPECTROGRAM = "audio-spectrogram-transformer"
WHISPER = "whisper"
FAMILIES = (*WAVEFORM, SPECTROGRAM, WHISPER)

_PREFIXES = ("wav2vec2.", "hubert.", "data2vec_audio.", "unispeech.", "unispeech_sat.", "audio_spectrogram_transformer.")
_UNUSED = re.compile(
    r"^(lm_head|classifier|projector|quantizer|project_q|project_hid|final_proj|layer_weights|label_embs_concat|speaker_proj|tdnn|feature_extractor\.mask)\b"
)
_OLD_NORM = (("pos_conv_embed.conv.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
             ("pos_conv_embed.conv.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"))  # fmt: skip
_OLD_AST = (
    ("encoder.layer.", "layers."), ("attention.attention.query.", "attention.q_proj."), ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."), ("attention.output.dense.", "attention.o_proj."),
    ("intermediate.dense.", "mlp.fc1."), ("output.dense.", "mlp.fc2."),
)  # fmt: skip
"""Names in files saved by earlier versions of `transformers` -> names of today."""


def assemble(config: Mapping[str, Any], preprocessor: Mapping[str, Any], state: Mapping[str, Tensor] | None, origin: str) -> Backbone:
    """Return the backbone of a checkpoint, with randomly initialised weights where `state` is None.

    Args:
        config: content of config.json; its `model_type` is one of `FAMILIES`.
        preprocessor: content of preprocessor_config.json; may be empty.
        state: tensors by the checkpoint's names.
        origin: where they come from, for messages.

    Raises:
        WeightsError: the tensors do not fit, or the settings describe a network that is not built here.
    """
    kind = config["model_type"]
    if kind == WHISPER:
        backbone = _whisper(config, preprocessor, state, origin)
    else:
        network = _from_scratch(config)
        report = None if state is None else load_matching(network, _renamed(state, network, kind), source=origin)
        make = _spectrogram if kind == SPECTROGRAM else _waveform
        backbone = make(network, preprocessor)
        backbone.report = report
    backbone.builder = Builder(id="", settings={"config": dict(config), "preprocessor": dict(preprocessor)})
    return backbone


def _from_scratch(config: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModel

    settings = {key: value for key, value in config.items() if key not in ("architectures", "torch_dtype", "dtype")}
    settings |= {"apply_spec_augment": False, "layerdrop": 0.0} if config["model_type"] in WAVEFORM else {}
    return AutoModel.from_config(AutoConfig.for_model(**settings), attn_implementation="sdpa", trust_remote_code=False)


def _renamed(state: Mapping[str, Tensor], network: nn.Module, kind: str) -> dict[str, Tensor]:
    """Return tensors by the network's names; heads are left out, what the network does not train with may be missing."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
        for old, new in _OLD_AST if kind == SPECTROGRAM else _OLD_NORM:
            short = short.replace(old, new)
        if not _UNUSED.search(short):
            out[short] = tensor
    own = network.state_dict()
    if "masked_spec_embed" in own:  # stands for masked frames in pretraining only
        out.setdefault("masked_spec_embed", own["masked_spec_embed"])
    return out


# --- convolutions over the waveform, then a transformer ------------------------------------------


def _waveform(network: Any, preprocessor: Mapping[str, Any]) -> Backbone:
    config = network.config
    masked = (
        getattr(config, "feat_extract_norm", "layer") == "layer"
    )  # those normed over time were trained without masks, padding as silence
    late = bool(getattr(config, "do_stable_layer_norm", False))
    stages: dict[str, nn.Module] = {
        "convolutions": _Convolutions(network, attends_padding=not masked),
        "projection": _Projection(network, norm=None if late else network.encoder.layer_norm),
        **{f"layer{i + 1}": _EncoderLayer(layer) for i, layer in enumerate(network.encoder.layers)},
    }
    if late:
        stages["norm"] = TensorStage(network.encoder.layer_norm, "sequence")
    modality = Audio(
        sample_rate=int(preprocessor.get("sampling_rate", 16_000)),
        features="standardised" if preprocessor.get("do_normalize", True) else "waveform",
    )
    return Backbone(
        stages=stages.items(),
        modality=modality,
        layout="sequence",
        width=config.hidden_size,
        builder=Builder(id=""),
        readout=Readout(pooling="mean_std"),
    )


class _Convolutions(nn.Module):
    """raw (B, T) -> sequence (B, F, C)."""

    def __init__(self, network: Any, *, attends_padding: bool) -> None:
        super().__init__()
        self.extractor = network.feature_extractor
        self.lengths = network._get_feat_extract_output_lengths
        self.attends_padding = attends_padding

    def forward(self, features: Features) -> Features:
        x_BFC = self.extractor(features.tensor).transpose(1, 2)
        mask = None
        if features.mask is not None:
            real_B = self.lengths(features.mask.sum(1)).clamp(min=1)
            mask = torch.arange(x_BFC.shape[1], device=x_BFC.device) < real_B[:, None]
        return Features(tensor=x_BFC, layout="sequence", mask=mask, attends_padding=self.attends_padding)


class _Projection(nn.Module):
    """Projects to the transformer's width and adds the convolutional position embedding."""

    def __init__(self, network: Any, *, norm: nn.Module | None) -> None:
        super().__init__()
        self.project = network.feature_projection
        self.position = network.encoder.pos_conv_embed
        self.norm = norm
        self.dropout = network.encoder.dropout

    def forward(self, features: Features) -> Features:
        projected = self.project(features.tensor)
        x_BFD = projected[0] if isinstance(projected, tuple) else projected
        if features.mask is not None and not features.attends_padding:
            x_BFD = x_BFD.masked_fill(~features.mask[..., None], 0.0)
        x_BFD = x_BFD + self.position(x_BFD)
        return features.with_tensor(self.dropout(x_BFD if self.norm is None else self.norm(x_BFD)))


class _EncoderLayer(nn.Module):
    """A transformer layer of `transformers`; padding is not attended to."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Features) -> Features:
        seen = None if features.mask is None or features.attends_padding else features.mask[:, None, None, :]
        out = self.layer(features.tensor, attention_mask=seen)
        return features.with_tensor(out[0] if isinstance(out, tuple) else out)


# --- Audio Spectrogram Transformer ---------------------------------------------------------------


def _spectrogram(network: Any, preprocessor: Mapping[str, Any]) -> Backbone:
    config = network.config
    modality = Audio(
        sample_rate=int(preprocessor.get("sampling_rate", 16_000)),
        features="kaldi",
        fft=512,
        mels=config.num_mel_bins,
        mean=float(preprocessor.get("mean", -4.2677393)),
        std=float(preprocessor.get("std", 4.5689974)),
        longest=config.max_length / 100,
    )
    layers = {f"layer{i + 1}": _EncoderLayer(layer) for i, layer in enumerate(network.layers)}
    stages = {"patches": _Patches(network.embeddings), **layers, "norm": _TwoTokens(network.layernorm)}
    return Backbone(stages=stages.items(), modality=modality, layout="pooled", width=config.hidden_size, builder=Builder(id=""))


class _Patches(nn.Module):
    """Patches of the spectrogram with two leading tokens; the position table is cut to the window."""

    def __init__(self, embeddings: Any) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.grid = embeddings.get_shape(embeddings.config)

    def forward(self, features: Features) -> Features:
        """Return sequence (B, 2 + patches, D); silence is among the patches, as in training."""
        own, count = self.embeddings, len(features.tensor)
        patches_BPD = own.patch_embeddings(features.tensor)
        high, wide = self.grid
        table_1PD = own.position_embeddings
        cut_PD = table_1PD[0, 2:].unflatten(0, (high, wide))[:, : patches_BPD.shape[1] // high].flatten(0, 1)
        tokens_1PD = torch.cat([own.cls_token, own.distillation_token], 1) + table_1PD[:, :2]
        x_BPD = torch.cat([tokens_1PD.expand(count, -1, -1), patches_BPD + cut_PD], 1)
        return Features(tensor=own.dropout(x_BPD), layout="sequence")


class _TwoTokens(nn.Module):
    """The norm, then the mean of the two leading tokens."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: Features) -> Features:
        """Return pooled (B, D)."""
        return Features(tensor=self.norm(features.tensor[:, :2]).mean(1), layout="pooled")


# --- Whisper -------------------------------------------------------------------------------------

_WHISPER = {
    "self_attn_layer_norm": "attention_norm", "self_attn.out_proj": "out", "final_layer_norm": "feed_norm", "fc1": "up", "fc2": "down",
}  # fmt: skip


def _whisper(config: Mapping[str, Any], preprocessor: Mapping[str, Any], state: Mapping[str, Tensor] | None, origin: str) -> Backbone:
    width = int(config["d_model"])
    if int(config["encoder_ffn_dim"]) != 4 * width or config.get("activation_function", "gelu") != "gelu":
        raise WeightsError(f"{origin}: only Whisper encoders with GELU and a feed-forward network of four times the width are built.")
    sizes = _decoder_sizes(config)
    backbone = assemble_whisper(
        None if state is None else _whisper_names(state), origin, mels=int(config["num_mel_bins"]), width=width,
        layers=int(config["encoder_layers"]), heads=int(config["encoder_attention_heads"]), positions=int(config["max_source_positions"]),
        decoder=sizes,
    )  # fmt: skip
    decoder = {} if state is None else _decoder_names(state)
    if decoder and sizes is not None:
        give_decoder(backbone, sizes, lambda: decoder)
    if "sampling_rate" in preprocessor:
        assert isinstance(backbone.modality, Audio)
        backbone.modality = replace(backbone.modality, sample_rate=int(preprocessor["sampling_rate"]))
    return backbone


def _whisper_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors by our names; the keys, which have no bias, get one of zeros."""
    encoder = {
        re.sub(r"^(model\.)?encoder\.", "", name): tensor for name, tensor in state.items() if re.match(r"(model\.)?encoder\.", name)
    }
    out = {}
    for name, tensor in encoder.items():
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            out[_whisper_top(name)] = tensor
        elif match[2] in _WHISPER:
            out[f"stages.layer{int(match[1]) + 1}.{_WHISPER[match[2]]}.{match[3]}"] = tensor
        elif match[2] == "self_attn.q_proj":
            key, value = (encoder.get(name.replace("q_proj", other), torch.zeros_like(tensor)) for other in ("k_proj", "v_proj"))
            out[f"stages.layer{int(match[1]) + 1}.qkv.{match[3]}"] = torch.cat([tensor, key, value])
    return out


def _whisper_top(name: str) -> str:
    if name.startswith("embed_positions."):
        return "stages.stem.table"
    return name.replace("layer_norm.", "stages.norm.norm.") if name.startswith("layer_norm.") else f"stages.stem.{name}"


# --- Whisper's decoder ---------------------------------------------------------------------------

_MULTILINGUAL = 51_865
"""Tokens from which a Whisper's vocabulary is that of several languages."""
_DECODER = {
    "self_attn_layer_norm": "attention_norm", "self_attn.out_proj": "attention.out", "encoder_attn_layer_norm": "cross_norm",
    "encoder_attn.q_proj": "cross.q", "encoder_attn.out_proj": "cross.out", "final_layer_norm": "feed_norm", "fc1": "up", "fc2": "down",
}  # fmt: skip
_JOINED = {
    "self_attn.q_proj": ("attention.qkv", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    "encoder_attn.v_proj": ("cross.kv", ("encoder_attn.k_proj", "encoder_attn.v_proj")),
}
"""Projections that are one matrix here, by one of them that has a bias."""
_TABLES = {"embed_tokens.weight": "token.weight", "embed_positions.weight": "position.weight"}


def _decoder_sizes(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the sizes of a checkpoint's decoder; None where it is built otherwise than here."""
    if config.get("scale_embedding") or not config.get("decoder_layers"):
        return None
    vocabulary = int(config["vocab_size"])
    return {
        "vocabulary": vocabulary,
        "width": int(config["d_model"]),
        "layers": int(config["decoder_layers"]),
        "heads": int(config["decoder_attention_heads"]),
        "hidden": int(config["decoder_ffn_dim"]),
        "positions": int(config["max_target_positions"]),
        "multilingual": vocabulary >= _MULTILINGUAL,
    }


def _decoder_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the decoder's tensors by our names; the keys, which have no bias, get one of zeros."""
    found = {re.sub(r"^(model\.)?decoder\.", "", name): one for name, one in state.items() if re.match(r"(model\.)?decoder\.", name)}
    out = {_TABLES.get(name, name.replace("layer_norm.", "norm.")): one for name, one in found.items() if not name.startswith("layers.")}
    for name, tensor in found.items():
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            continue
        layer, part, kind = match.groups()
        if part in _DECODER:
            out[f"layers.{layer}.{_DECODER[part]}.{kind}"] = tensor
        elif part in _JOINED:
            joined, pieces = _JOINED[part]
            tensors = [found.get(f"layers.{layer}.{piece}.{kind}", torch.zeros_like(tensor)) for piece in pieces]
            out[f"layers.{layer}.{joined}.{kind}"] = torch.cat(tensors)
    return out
