"""Whisper's encoder and other networks of sound against the implementations their weights come from."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretune import backbones
from pretune.architectures.whisper_encoder import WhisperEncoder
from pretune.backbones import Backbone, _ctranslate2, _whisper
from pretune.backbones._transformers_audio import assemble
from pretune.data.dataset import FeatureView
from pretune.errors import SettingError, WeightsError
from pretune.modalities.audio import Audio
from pretune.models.pooling import Pool
from pretune.storage.store import StoreWriter
from pretune.types import Features
from tests.audio_files import RATE, tone, write_tones

TINY = {"mels": 20, "width": 32, "layers": 2, "heads": 2, "positions": 60}


def attends_padding(backbone: Backbone, seconds: float) -> Audio:
    """The backbone's preprocessing with a window."""
    assert isinstance(backbone.modality, Audio)
    return replace(backbone.modality, seconds=seconds)


def theirs() -> Any:
    """A tiny Whisper of `transformers` with random weights."""
    from transformers.models.whisper.configuration_whisper import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperForConditionalGeneration

    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=128,
            decoder_ffn_dim=64, num_mel_bins=20, max_source_positions=60, vocab_size=50, pad_token_id=0, bos_token_id=0, eos_token_id=0,
            decoder_start_token_id=0,
        )
    ).eval()  # fmt: skip


def as_ctranslate2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Whisper's tensors by the names CTranslate2 gives them."""
    part = {
        "self_attn_layer_norm": "self_attention/layer_norm",
        "self_attn.out_proj": "self_attention/linear_1",
        "final_layer_norm": "ffn/layer_norm",
        "fc1": "ffn/linear_0",
        "fc2": "ffn/linear_1",
    }
    out = {"decoder/layer_norm/gamma": torch.zeros(3), "encoder/num_heads": torch.tensor(2)}
    for name, tensor in state.items():
        name = name.removeprefix("model.encoder.")
        kind = {"weight": "gamma", "bias": "beta"}[name.rpartition(".")[2]] if "layer_norm" in name else name.rpartition(".")[2]
        if name == "embed_positions.weight":
            out["encoder/position_encodings/encodings"] = tensor
        elif name.startswith(("conv", "layer_norm")):
            out[f"encoder/{name.rpartition('.')[0]}/{kind}"] = tensor
        elif "q_proj" in name:
            keys = [state.get("model.encoder." + name.replace("q_proj", k), torch.zeros_like(tensor)) for k in ("k_proj", "v_proj")]
            out[f"encoder/layer_{name.split('.')[1]}/self_attention/linear_0/{kind}"] = torch.cat([tensor, *keys])
        elif "k_proj" not in name and "v_proj" not in name:
            out[f"encoder/layer_{name.split('.')[1]}/{part[name.split('.', 2)[2].rpartition('.')[0]]}/{kind}"] = tensor
    return out


def model_bin(tensors: dict[str, Tensor], version: int = 6) -> bytes:
    """A CTranslate2 file."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    body = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        data = tensor.numpy().astype("<f4").tobytes()
        body += text(name) + struct.pack("<B", tensor.ndim) + b"".join(struct.pack("<I", n) for n in tensor.shape)
        body += struct.pack("<BI", 0, len(data)) + data
    return body + struct.pack("<I", 0)


@torch.inference_mode()
def test_our_encoder_equals_that_of_transformers_from_split_files(tmp_path: Path) -> None:
    model = theirs()
    state = {k: v for k, v in model.state_dict().items() if k.startswith("model.encoder.")}
    data = model_bin(as_ctranslate2(state))
    parts = (tmp_path / "model.bin.part1", tmp_path / "model.bin.part2")
    for path, piece in zip(parts, (data[:5000], data[5000:]), strict=True):
        path.write_bytes(piece)
    backbone = _whisper.assemble(_whisper.read_whisper(parts), "a file", **TINY).eval()
    assert str(backbone.report).startswith("31 tensors matched, 0 missing, 0 unexpected")
    mels = torch.randn(2, 20, 120)
    ours = backbone(Features(tensor=mels.transpose(1, 2), layout="sequence")).tensor
    assert torch.allclose(ours, model.model.encoder(mels).last_hidden_state, atol=1e-5)
    from_transformers = assemble(model.config.to_dict(), {}, model.state_dict(), "a file").eval()
    assert torch.equal(from_transformers(Features(tensor=mels.transpose(1, 2), layout="sequence")).tensor, ours)


@torch.inference_mode()
def test_a_short_window_costs_its_own_length() -> None:
    network = WhisperEncoder(**TINY).build().eval()  # type: ignore[arg-type]
    short = network(Features(tensor=torch.randn(1, 30, 20), layout="sequence"))
    assert short.tensor.shape == (1, 15, 32)
    with pytest.raises(ValueError, match="more than the table's 60"):
        network(Features(tensor=torch.randn(1, 122, 20), layout="sequence"))


def test_files_that_are_cut_or_of_another_version_are_refused() -> None:
    data = model_bin({"encoder/a": torch.zeros(4)})
    assert list(_ctranslate2.read_ctranslate2(data, "it", lambda name: True)) == ["encoder/a"]
    with pytest.raises(WeightsError, match="cut off"):
        _ctranslate2.read_ctranslate2(data[:-12], "it", lambda name: True)
    with pytest.raises(WeightsError, match="version 9"):
        _ctranslate2.read_ctranslate2(model_bin({}, version=9), "it", lambda name: True)


@torch.inference_mode()
def test_silence_is_heard_but_not_pooled_and_cached_layers_give_the_same(tmp_path: Path) -> None:
    audio = Audio(seconds=1.0, mels=20)
    torch.manual_seed(0)
    stages = list(WhisperEncoder(**TINY).build().eval().stages.values())  # type: ignore[arg-type]
    clips = [tone(440, 0.4).astype(np.float16), tone(880, 1.0).astype(np.float16)]

    def run(features: Features, some: list[Any]) -> Features:
        for stage in some:
            features = stage(features)
        return features

    whole = run(audio.normaliser()(audio.collate(clips)), stages)
    alone = run(audio.normaliser()(audio.collate(clips[:1])), stages)
    assert whole.mask is not None
    assert whole.mask.sum(1).tolist() == [20, 50]
    pool = Pool("mean_std")
    assert torch.allclose(pool(whole).tensor[0], pool(alone).tensor[0], atol=1e-5)
    assert torch.allclose(pool(alone).tensor[0, :32], alone.tensor[0, :20].mean(0), atol=1e-5)
    middle = run(audio.normaliser()(audio.collate(clips)), stages[:2])
    assert middle.mask is not None
    writer = StoreWriter(tmp_path / "features")
    for tensor, mask in zip(middle.tensor, middle.mask, strict=True):
        writer.append(tensor.numpy(), {"real": int(mask.sum())})
    cached = FeatureView(writer.close({"layout": "sequence"}), np.arange(2), "sequence", None).batch(np.arange(2), 0)
    assert torch.allclose(pool(run(cached.inputs, stages[2:])).tensor, pool(whole).tensor, atol=1e-5)


@torch.inference_mode()
def test_the_default_audio_weights_load_and_tell_high_from_low(tmp_path: Path) -> None:
    backbone = backbones.load("package:whisper_base", offline=True).eval()
    assert str(backbone.report).startswith("79 tensors matched, 0 missing, 0 unexpected")
    assert backbone.report is not None
    assert backbone.report.licence == "MIT"
    assert backbones.default("audio") == "package:whisper_base"
    audio = attends_padding(backbone, 0.6)
    low, high, high2 = backbone(audio.normaliser()(audio.collate([tone(h).astype(np.float16) for h in (220, 880, 900)]))).tensor.mean(1)
    distance = torch.nn.functional.pairwise_distance
    assert distance(high, high2) < 0.5 * distance(high, low)


@torch.inference_mode()
def test_crepe_hears_pitch() -> None:
    backbone = backbones.load("package:crepe_tiny", offline=True).eval()
    assert backbone.classifier is not None
    t = np.arange(RATE // 2) / RATE
    for hertz in (110.0, 440.0):
        sound = sum(np.sin(2 * np.pi * hertz * k * t) / (2 * k) for k in range(1, 6))
        audio = attends_padding(backbone, 0.5)
        pitch = backbone.classifier(backbone(audio.normaliser()(audio.collate([np.asarray(sound, np.float16)]))).tensor).argmax(-1)
        assert 10 * 2 ** ((1997.3794 + 20 * float(pitch.median())) / 1200) == pytest.approx(hertz, rel=0.02)


@torch.inference_mode()
def test_resemblyzer_equals_its_published_form() -> None:
    backbone = backbones.load("package:resemblyzer", offline=True).eval()
    audio = attends_padding(backbone, 1.6)
    loud, soft = tone(200, 1.0).astype(np.float16), (0.05 * tone(200, 1.0)).astype(np.float16)
    embeddings = backbone(audio.normaliser()(audio.collate([loud, np.concatenate([soft, np.zeros(3000, np.float16)]), soft]))).tensor
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert (embeddings >= 0).all()
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    own = backbone.stages.state_dict()
    lstm.load_state_dict(
        {f"{kind}_l{i}": own[f"layer{i + 1}.lstm.{kind}_l0"] for i in range(3) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    )
    mels = audio.normaliser()(audio.collate([loud]))
    assert mels.mask is not None
    _, (hidden, _) = lstm(mels.tensor[:, : int(mels.mask.sum())])
    expected = torch.nn.functional.normalize((hidden[-1] @ own["embedding.linear.weight"].T + own["embedding.linear.bias"]).relu(), dim=-1)
    assert torch.allclose(embeddings[:1], expected, atol=1e-5)


SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 12,
    "num_feat_extract_layers": 3,
    "conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 8),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Wav2Vec2ForCTC", {}),
        ("Wav2Vec2Model", STABLE),
        ("HubertModel", {}),
        ("HubertForCTC", STABLE),
        ("Data2VecAudioModel", {}),
        ("UniSpeechSatModel", {}),
    ],
)
@torch.inference_mode()
def test_waveform_networks_equal_transformers_own(name: str, settings: dict[str, Any]) -> None:
    import transformers

    cls = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(**SMALL, **settings)).eval()
    base = getattr(model, model.base_model_prefix, model)
    backbone = assemble(model.config.to_dict(), {"do_normalize": True}, model.state_dict(), "a folder").eval()
    assert list(backbone.stages)[:4] == ["convolutions", "projection", "layer1", "layer2"]
    assert attends_padding(backbone, 1.0).features == "standardised"
    mask = torch.arange(4000) < torch.tensor([4000, 2500])[:, None]
    samples = torch.randn(2, 4000) * mask
    ours = backbone(Features(tensor=samples, layout="raw", mask=mask))
    assert ours.mask is not None
    expected = base(samples, attention_mask=None if ours.attends_padding else mask.long()).last_hidden_state
    assert torch.allclose(ours.tensor[ours.mask], expected[ours.mask], atol=1e-5)
    assert ours.mask.sum(1).tolist() == model._get_feat_extract_output_lengths(mask.sum(1)).tolist()


@torch.inference_mode()
def test_ast_equals_transformers_own_and_is_cut_to_the_window() -> None:
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_length": 128,
        "num_mel_bins": 64,
    }
    model = ASTForAudioClassification(ASTConfig(**settings)).eval()
    torch.nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings)
    backbone = assemble(model.config.to_dict(), {"mean": -4.0, "std": 4.0}, model.state_dict(), "a folder").eval()
    frames = torch.randn(2, 128, 64)
    expected = model.audio_spectrogram_transformer(frames).pooler_output
    assert torch.allclose(backbone(Features(tensor=frames, layout="sequence")).tensor, expected, atol=1e-5)
    assert backbone(Features(tensor=frames[:, :60], layout="sequence")).tensor.shape == (2, 32)
    with pytest.raises(SettingError, match=r"at most 1\.28"):
        attends_padding(backbone, 2.0)


def test_an_image_network_learns_from_spectrograms(home: Path) -> None:
    import pretune as pt

    write_tones(home / "sounds", 8)
    run = pt.finetune(home / "sounds", backbone="package:efficientnet_lite0", image_size=64, epochs=10, precision="float32", seconds=0.6)
    assert run.metrics["val"]["accuracy"] == 1.0
    assert [row["prediction"] for row in run.predict(home / "sounds" / "high")] == ["high"] * 8
