"""The CTC head that wav2vec 2.0 and its kin were pretrained with: used by the names of its characters, or reported as not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune import backbones
from pretune.errors import SettingError
from pretune.models import Model
from pretune.models.heads.convolution import Convolution
from pretune.models.heads.pretrained_ctc import PretrainedCTC
from pretune.tasks._characters import sources_of
from pretune.tasks._spoken import SpeechSpace
from pretune.tasks.speech_recognition import SpeechRecognition
from pretune.types import Features
from tests import spoken_data
from tests.command_line import pretune

VOCABULARY = {"<pad>": 0, "<s>": 1, "|": 2, "I": 3, "H": 4, "O": 5, "L": 6, "M": 7}
SPACE = SpeechSpace(units="characters", symbols=(" ", "h", "i", "l", "o", "\u00e9"))


def theirs(kind: str = "wav2vec2") -> Any:
    """A tiny recogniser of `transformers` with random weights."""
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertForCTC
    from transformers.models.wav2vec2.configuration_wav2vec2 import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2ForCTC

    config, model = {"wav2vec2": (Wav2Vec2Config, Wav2Vec2ForCTC), "hubert": (HubertConfig, HubertForCTC)}[kind]
    torch.manual_seed(0)
    settings = config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16), conv_kernel=(10, 64),
        conv_stride=(5, 64), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        vocab_size=len(VOCABULARY), pad_token_id=0, feat_extract_norm="layer", do_stable_layer_norm=kind == "wav2vec2",
    )  # fmt: skip
    made = model(settings).eval()
    torch.nn.init.normal_(made.lm_head.bias)
    return made


def saved(folder: Path, kind: str = "wav2vec2", vocabulary: Any = VOCABULARY) -> Path:
    """A folder that save_pretrained wrote, with the vocabulary."""
    theirs(kind).save_pretrained(folder)
    if vocabulary:
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000, "do_normalize": True}))
    return folder


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@torch.inference_mode()
def test_the_head_writes_what_the_network_was_pretrained_to_write(kind: str, tmp_path: Path) -> None:
    backbone, task = backbones.load(f"transformers:{saved(tmp_path, kind)}"), SpeechRecognition()
    head, message = task.head_for(None, backbone, SPACE)
    assert (head, message) == (PretrainedCTC(), "")
    model = Model(backbone, head, task.outputs(SPACE), layout="sequence").eval()
    told = task.start(model, backbone, iter(()), SPACE)
    assert told == "the CTC head of the weights is used: 5 of 6 characters are in its vocabulary; new: '\u00e9'."
    sound = torch.randn(1, 8000)
    expected = theirs(kind)((sound - sound.mean()) / sound.std(correction=0)).logits
    found = model(Features(tensor=sound, layout="raw"))
    assert torch.allclose(found[..., :6], expected[..., [0, 2, 4, 3, 6, 5]], atol=1e-4)
    assert (found[..., 6] < expected.mean()).all(), "a character that is new is not written yet"
    assert task.measures(model.head)


def test_characters_are_found_by_name_whatever_their_case_and_never_by_position() -> None:
    assert sources_of(("a", "B", "c", "\u00df"), ("", "A", "b", "C", "c", " ")) == [1, 2, 4, None]
    assert sources_of(("x",), ("X", "x")) == [1]
    assert sources_of(("\u0131", "d"), ("D", "d\u0327")) == [None, 0]


def test_a_head_that_is_not_used_is_reported(tmp_path: Path) -> None:
    task = SpeechRecognition()
    backbone = backbones.load(f"transformers:{saved(tmp_path / 'a')}")
    head, message = task.head_for(Convolution(), backbone, SPACE)
    assert head == Convolution()
    assert "is not used: head=convolution was named" in message
    head, message = task.head_for(None, backbone, SpeechSpace(units="words", symbols=("lo", "hi")))
    assert head == Convolution()
    assert "task=speech_recognition task.units=characters uses it" in message
    for name, vocabulary in (("b", None), ("c", {"en": VOCABULARY}), ("d", {"A": 99})):
        backbone = backbones.load(f"transformers:{saved(tmp_path / name, vocabulary=vocabulary)}")
        head, message = task.head_for(None, backbone, SPACE)
        assert head == Convolution()
        assert "is not used" in message
        with pytest.raises(SettingError, match="cannot be used"):
            task.head_for(PretrainedCTC(), backbone, SPACE)
    with pytest.raises(SettingError, match="no CTC head"):
        task.head_for(PretrainedCTC(), backbones.load("scratch:audiolstm,units=8,layers=1,mels=20"), SPACE)


def test_a_recogniser_is_measured_trained_and_predicts(home: Path) -> None:
    spoken_data.manifest(home, 24)
    options = ("precision=float32", "threads=1", "epochs=2", "--offline", "--json", "out=run")
    named = ("task=speech_recognition", "task.units=characters", f"backbone=transformers:{saved(home / 'model')}")
    done = pretune("finetune", "metadata.csv", *named, *options)
    assert "the CTC head of the weights is used: 5 of 5 characters are in its vocabulary." in done.stderr
    figures = json.loads(done.stdout)
    assert "start" in figures["floors"]
    assert json.loads((home / "run" / "model.json").read_text())["head"]["name"] == "pretrained_ctc"
    again = json.loads(pretune("evaluate", "run", "metadata.csv", "part=val", "--offline", "--json").stdout)
    assert again["metrics"]["cer"] == pytest.approx(figures["val"]["cer"])
    assert "error" not in json.loads(pretune("predict", "run", "wav/000.wav", "--offline", "--json").stdout)["predictions"][0]
