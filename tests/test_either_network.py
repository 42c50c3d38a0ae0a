"""A task that writes with a language model or with a decoder beside an encoder: summaries by both, from one task."""

import json
from pathlib import Path
from typing import Any

import pytest

import pretune as pt
from pretune import backbones
from pretune.backbones import Backbone
from pretune.errors import SettingError
from pretune.models.heads.decoder import Decoder
from pretune.models.heads.vocabulary import Vocabulary
from pretune.tasks.summarisation import Summarisation
from tests.command_line import pretune
from tests.every_task import documents, summarised

ENCODER = "scratch:transformer,units=piece,vocabulary=300,width=32,layers=1,heads=2,max_tokens=48,dropout=0.0"
GPT = "scratch:gpt,width=16,layers=1,heads=2,max_tokens=120,units=character"
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 16, "precision": "float32", "threads": 1, "predictor": "network"}


@pytest.fixture(scope="module")
def encoder() -> Backbone:
    """A network without a decoder."""
    return backbones.load(ENCODER)


@pytest.fixture(scope="module")
def language_model() -> Backbone:
    """A causal network."""
    return backbones.load(GPT)


def test_the_backbone_decides_what_writes(encoder: Backbone, language_model: Backbone) -> None:
    by_decoder, by_language_model = Summarisation().on(encoder), Summarisation().on(language_model)
    assert isinstance(by_decoder.head(None), Decoder)
    assert isinstance(by_language_model.head(None), Vocabulary)
    assert (by_decoder.monitored, by_language_model.monitored) == ("token_loss", "character_loss")
    assert by_decoder.unread == Summarisation().unread == ("class_weights",), "label_smoothing may be read while the network is not known"
    assert by_language_model.unread == ("label_smoothing", "class_weights")
    assert by_decoder.batch != by_language_model.batch
    assert Summarisation(network="encoder_decoder").backbone.startswith("scratch:transformer")
    assert Summarisation().backbone is None


def test_what_does_not_go_with_the_network_is_refused(encoder: Backbone, language_model: Backbone) -> None:
    with pytest.raises(SettingError, match=r"task.network=encoder_decoder: scratch:gpt is a language model.*backbone=scratch:transformer"):
        Summarisation(network="encoder_decoder").on(language_model)
    with pytest.raises(SettingError, match=r"task.network=language_model: scratch:transformer is an encoder"):
        Summarisation(network="language_model").on(encoder)
    for network in (encoder, language_model):
        assert Summarisation(temperature=1.0).on(network).writer == Summarisation(temperature=1.0, beams=1).on(network).writer
        with pytest.raises(SettingError, match=r"task.temperature samples one token after the other"):
            assert Summarisation(beams=4, temperature=1.0).on(network).writer
    with pytest.raises(SettingError, match=r"task\.network=encoder_decoder"):
        Summarisation().on(language_model).head(Decoder())


def test_a_head_that_a_task_cannot_have_is_refused_before_data_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summarised(tmp_path)
    monkeypatch.setattr("pretune.runner.finetune.prepare", lambda *_: pytest.fail("data were decoded"))
    found = pretune("finetune", "data.jsonl", "task=summarisation", f"backbone={GPT}", "head=decoder", "strategy=scratch", code=2)
    assert "task.network=encoder_decoder" in found.stderr


def test_a_run_of_denoising_learns_to_summarise_and_its_run_writes(tmp_path: Path) -> None:
    summarised(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    (tmp_path / "texts.txt").write_text("".join(f"{one['document']}\n" for one in records * 4))
    pretrained = pt.pretrain(tmp_path / "texts.txt", objective="denoising", backbone=ENCODER, epochs=1, out=tmp_path / "denoising")
    task = Summarisation(max_new_tokens=4)
    run = pt.finetune(tmp_path / "data.jsonl", backbone=f"run:{pretrained.path}", task=task, out=tmp_path / "run", **SMALL)
    assert run.metrics["task"] == "summarisation"
    assert run.metrics["strategy"] == "full"
    assert {"rouge1", "token_loss", "length_ratio"} <= set(run.metrics["val"])
    assert set(run.metrics["floors"]) >= {"lead", "extraction"}
    notes = " ".join(run.metrics["notes"])
    assert "truncation to 48 loses" in notes, "what is cut off is reported"
    figures = pt.evaluate(run.path, tmp_path / "data.jsonl", part="val")["metrics"]
    assert figures["rouge1"] == pytest.approx(run.metrics["val"]["rouge1"], abs=1e-6)
    written = list(pt.predict(run.path, documents(tmp_path, True)))
    assert "error" in written[1]
    assert written[0]["document"].startswith("We met anna")
