"""Causal networks, what they remember, the head over tokens, Muon, and whether pretraining is measured honestly."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from pretune import api, backbones
from pretune.architectures.layers.attention import attend
from pretune.architectures.layers.memory import Grown, remembering
from pretune.cli.main import main
from pretune.corpus.resemblance import EQUAL
from pretune.errors import DataError, RequestError, SettingError
from pretune.evaluation.pretraining_gain import interval, summary
from pretune.modalities.text import Text
from pretune.models import token_loss
from pretune.models.sampling import sample_index
from pretune.objectives._sampling import Wanted
from pretune.pretraining import Pretraining
from pretune.runner.gain import read_task
from pretune.training.muon import orthogonal
from pretune.training.optim import Optim
from pretune.types import Features, ParamGroup
from tests.test_flows import pretune

CAUSAL = (
    "scratch:gpt,vocabulary=40,width=16,layers=2,heads=2,max_tokens=24",
    "scratch:lstm,vocabulary=40,embedding=8,hidden=16",
    "scratch:llama,vocabulary=40,width=16,layers=2,heads=4,groups=2,hidden=24",
)


def ids(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, 40, (2, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_network_looks_back_only_and_remembers_what_it_saw(name: str) -> None:
    network = backbones.load(name).eval()
    assert network.causal
    tokens = ids(12)
    with torch.no_grad():
        whole = network(Features(tensor=tokens, layout="raw")).tensor
        short = network(Features(tensor=tokens[:, :7], layout="raw")).tensor
        with remembering(network):
            pieces = [network(Features(tensor=part, layout="raw")).tensor for part in (tokens[:, :5], tokens[:, 5:6], tokens[:, 6:])]
    torch.testing.assert_close(short, whole[:, :7])
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-4)


def test_what_grows_holds_all_that_was_appended_and_the_rows_that_are_taken() -> None:
    whole = torch.randn(2, 3, 100, 4)
    parts = whole.split([7, *[1] * 90, 3], 2)
    kept = Grown(parts[0], 2)
    for end, part in enumerate(parts[1:], 1):
        assert torch.equal(kept.append(part), torch.cat(parts[: end + 1], 2))
    assert kept.length == 100
    taken = kept.take(torch.tensor([1, 1, 0]))
    assert torch.equal(taken.append(whole[[1, 1, 0], :, :1]), torch.cat([whole[[1, 1, 0]], whole[[1, 1, 0], :, :1]], 2))
    assert torch.equal(kept.append(whole[:, :, :1])[:, :, :100], whole), "rows that are taken are a copy"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_written_out_has_the_gradient_of_torchs_own(masked: bool, causal: bool) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 6, 3 * 8)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    plain, written = (qkv.to(kind).detach().clone().requires_grad_() for kind in (torch.float32, torch.bfloat16))
    outs = [attend(x, 2, mask if masked else None, 0.0, causal=causal) for x in (plain, written)]
    for out in outs:
        (out.float()[:, :4] ** 2).sum().backward()
    assert plain.grad is not None
    assert written.grad is not None
    for short, whole in ((outs[1], outs[0]), (written.grad, plain.grad)):
        assert (short.float() - whole).norm() < 0.02 * whole.norm(), "bfloat16 has 8 bits"


def test_the_loss_in_chunks_is_the_loss_and_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight, bias, targets = torch.randn(10, 4), torch.randn(7, 4), torch.randn(7), torch.randint(0, 7, (10,))
    leaves = [[t.clone().requires_grad_() for t in (x, weight, bias)] for _ in range(2)]
    F.cross_entropy(F.linear(*leaves[0]), targets).mul(3).backward()
    monkeypatch.setattr(token_loss, "CHUNK", 21)
    chunked = token_loss.linear_cross_entropy(leaves[1][0], leaves[1][1], targets, leaves[1][2])
    chunked.mul(3).backward()
    for whole, part in zip(*leaves, strict=True):
        torch.testing.assert_close(part.grad, whole.grad)


def test_muon_takes_orthogonal_steps_for_hidden_matrices_and_adamws_for_the_rest() -> None:
    torch.manual_seed(0)
    steps = orthogonal(torch.randn(3, 8, 20)).float()
    assert torch.linalg.svdvals(steps).sub(1).abs().max() < 0.5
    hidden, other, twin = nn.Parameter(torch.randn(12, 6)), nn.Parameter(torch.randn(5, 3)), None
    twin = nn.Parameter(other.detach().clone())
    muon = Optim(name="muon").build(
        [ParamGroup(name="h", params=(("h", hidden),), hidden=True), ParamGroup(name="o", params=(("o", other),))], 0.01, 0.1
    )
    adamw = Optim(name="adamw", beta2=0.95).build([ParamGroup(name="o", params=(("o", twin),))], 0.01, 0.1)
    before = hidden.detach().clone()
    for _ in range(3):
        hidden.grad, other.grad = torch.randn_like(hidden), torch.randn_like(other)
        twin.grad = other.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(other, twin)
    assert 0 < (hidden - before).abs().max() < 3 * 0.01 * 0.2 * 12**0.5 + 0.01


def test_draws_keep_to_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0, 8.5]])
    generator = torch.Generator().manual_seed(0)
    assert sample_index(logits, Wanted(temperature=0), generator).tolist() == [3]
    many = logits.repeat(200, 1)
    assert set(sample_index(many, Wanted(temperature=5, top_k=2), generator).tolist()) == {3, 4}
    assert set(sample_index(many, Wanted(top_p=0.5), generator).tolist()) == {3}


def test_a_gain_is_said_only_where_it_is_one() -> None:
    mean, half = interval([0.5, 0.6, 0.7])
    assert (round(mean, 6), round(half or 0, 3)) == (0.6, 0.248)
    shared = {"labels": 9, "metric": "accuracy", "higher_is_better": True}
    kinds = ("pretrained", "from scratch, same fine-tuning budget", "from scratch, same total budget")
    bases = dict(zip(kinds, (0.6, 0.5, 0.61), strict=True))
    rows: list[dict[str, Any]] = [
        {**shared, "kind": kind, "value": base + 0.01 * seed} for seed in range(3) for kind, base in bases.items()
    ]
    helped, harmed = summary(rows)["messages"]
    assert "+0.1000" in helped
    assert "Pretraining helped" in helped
    assert "did not help" in harmed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("patience=3", "for fine-tuning"),
        ("class_weights=true", "for fine-tuning"),
        ("seeds=2", "then="),
        ("pooling=max", "for fine-tuning"),
    ],
)
def test_settings_that_nothing_reads_are_refused(setting: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Pretraining.from_settings("corpus.txt", setting)


def test_what_a_task_holds_out_is_known_in_every_form(home: Path) -> None:
    rows = [f"text number {i},{'odd' if i % 2 else 'even'}" for i in range(20)]
    (home / "d.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    task = read_task(Pretraining.from_settings("corpus.txt", "then=d.csv"))
    texts = [row.text[0] for row in task.rows if row.split != "train" and row.text]
    assert texts
    assert {hashlib.sha256(text.encode()).hexdigest() for text in texts} == task.held_out.hashes
    assert task.held_out.documents is not None
    assert all(found.tolist() == [EQUAL] for found in task.held_out.documents.found([[f" {text.upper()}!"] for text in texts]))


def test_mistakes_in_a_task_are_told_before_anything_is_learned(home: Path) -> None:
    rows = [f"text number {i},{'odd' if i % 2 else 'even'}" for i in range(20)]
    (home / "d.csv").write_text("\n".join(["text,label", *rows, '"",odd']) + "\n")
    with pytest.raises(DataError, match="labels=1 is fewer than the 2 classes"):
        read_task(Pretraining.from_settings("corpus.txt", "then=d.csv", "labels=4,1"))
    messages = read_task(Pretraining.from_settings("corpus.txt", "then=d.csv", "labels=4,99")).warnings()
    assert any("dropped d.csv:22" in line for line in messages)
    assert any("labels=99: only 16 are there" in line for line in messages)


def test_pretrain_then_fine_tune_and_write(home: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshr", k=3 + i % 5)) for i in range(60)]
    good, bad = ("fine", "great", "lovely"), ("awful", "grim", "sad")
    lines = ["text,label"]
    for i in range(120):
        filler = " ".join(rng.choices(words, k=8))
        lines.append(f"{filler} {(good if i % 2 else bad)[i % 3]} n{i},{'pos' if i % 2 else 'neg'}")
    (home / "more.txt").write_text("\n".join(line.rpartition(",")[0].upper() + " indeed!" for line in lines[1:]))
    (home / "d.csv").write_text("\n".join(lines) + "\n")
    sizes = "backbone=scratch:gpt,width=16,layers=1,heads=2"
    settings = ["units=word", "max_tokens=16", "epochs=2", "then=d.csv", "labels=10", "seeds=1", "then_epochs=1", "out=run"]
    metrics = json.loads(pretune("pretrain", "d.csv", "also=more.txt", "objective=causal", sizes, *settings, "--json").stdout)
    assert metrics["held"]["loss"] > 0
    assert metrics["floors"]["unigram"] > 0
    assert any("24 documents are not used: they are held-out" in note for note in metrics["notes"])
    assert any("24 lines are not used: they resemble held-out" in note for note in metrics["notes"])
    assert metrics["gain"]["table"][0]["kind"] == "pretrained"
    assert {row["labels"] for row in metrics["gain"]["runs"]} == {10}
    learned = load_file("run/backbone/weights.safetensors")
    frozen = ("backbone=run:run", "epochs=1", "lr=1e-12", "precision=float32", "--json")
    for strategy, fresh in (("scratch", True), ("full", False)):
        told = json.loads(pretune("finetune", "d.csv", f"strategy={strategy}", f"out={strategy}", *frozen).stdout)
        assert any("randomly initialised weights" in note for note in told["notes"]) is fresh
        after = load_file(f"{strategy}/backbone/weights.safetensors")
        moved = max(float((after[name] - tensor).abs().max()) for name, tensor in learned.items())
        assert (moved > 0.01) is fresh, "what is called from scratch must not know what was learned before"
    assert json.loads(pretune("finetune", "d.csv", "backbone=run:run", "out=default", "--json").stdout)["strategy"] == "linear_probe"
    wrote = json.loads(pretune("generate", "run", "the cat", "length=8", "count=2", "--json").stdout)
    assert len(wrote["samples"]) == 2
    assert all(sample["text"].startswith("the cat") for sample in wrote["samples"])


def test_a_stable_run_can_be_extended(home: Path) -> None:
    (home / "corpus.txt").write_text("the cat sat on the mat and the dog ran to the tree. " * 60)
    words = ("pretrain", "corpus.txt", "max_tokens=16", "batch_size=8", "--json")
    fresh = ("backbone=scratch:gpt,width=16,layers=1,heads=2", "units=character")
    first = json.loads(pretune(*words, *fresh, "epochs=2", "out=first").stdout)
    longer = json.loads(pretune(*words, "epochs=4", "out=longer", "extend=first").stdout)
    steps = [json.loads(line) for line in (home / "longer" / "events.jsonl").read_text().splitlines()]
    started = next(event for event in steps if event["event"] == "started")
    assert 0 < started["step"] < started["steps"]
    assert longer["held"]["loss"] < first["held"]["loss"]
    assert "Give more epochs" in pretune(*words, "epochs=1", "out=short", "extend=first", code=2).stderr


def test_networks_without_units_of_their_own_begin_from_scratch_on_pieces(home: Path) -> None:
    (home / "a.txt").write_text("the cat sat on the mat and the dog ran to the tree. " * 40)
    sizes = "layers=1,width=16,heads=2,hidden=24,vocabulary=300"
    settings: dict[str, Any] = {"max_tokens": 16, "epochs": 1, "batch_size": 8, "threads": 1}
    for name, objective in (("llama", "causal"), ("bert", "masked")):
        more = ",groups=1" if name == "llama" else ""
        run = api.pretrain("a.txt", objective=objective, backbone=f"scratch:{name},{sizes}{more}", out=name, **settings)
        text = backbones.load(f"run:{run.path}").modality
        assert isinstance(text, Text)
        assert text.units == "piece"
    settings_of = json.loads((home / "bert" / "recipe.json").read_text())["resolved"]["backbone_settings"]
    assert settings_of["separator"] == text.separator, "not the id that another tokenizer had"


def test_a_network_that_does_not_suit_is_refused_before_the_corpus_is_read(home: Path) -> None:
    (home / "a.txt").write_bytes(b"\x89PNG would be refused itself")
    cases = {"causal": "transformer", "masked": "gpt", "denoising": "lstm"}
    for objective, name in cases.items():
        with pytest.raises(SettingError, match="needs a network that looks"):
            api.pretrain("a.txt", objective=objective, backbone=f"scratch:{name}")


@pytest.mark.parametrize("setting", ["augment=light", "text=body", "split=part", "also=./a.txt"])
def test_what_a_stream_of_text_does_not_read_is_refused(home: Path, setting: str) -> None:
    (home / "a.txt").write_text("a b c " * 200)
    with pytest.raises(SettingError, match=r"Leave it out|Name it once"):
        api.run_pretraining(Pretraining.from_settings("a.txt", setting))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows a handful of words."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": "the cat sat on the mat"}) + "\n" for _ in range(60)))
    sizes = "scratch:gpt,width=16,layers=1,heads=2"
    settings: dict[str, Any] = {"units": "word", "max_tokens": 16, "batch_size": 8, "epochs": 60, "threads": 1}
    return api.pretrain(folder / "a.jsonl", objective="causal", backbone=sizes, out=str(folder / "run"), cache=str(folder), **settings).path


def test_an_extension_goes_on_with_the_runs_objective_and_optimizer(writer: Path, tmp_path: Path) -> None:
    corpus = str(writer.parent / "a.jsonl")
    settings: dict[str, Any] = {"extend": str(writer), "threads": 1, "cache": str(tmp_path), "out": str(tmp_path / "on")}
    with pytest.raises(SettingError, match=r"goes on with what .* was learning \(objective=causal\)"):
        api.pretrain(corpus, objective="masked", epochs=99, **settings)
    with pytest.raises(SettingError, match=r"state of the optimizer .* muon"):
        api.pretrain(corpus, optim="adamw", epochs=99, **settings)
    with pytest.raises(RequestError, match="is not a finished run"):
        api.pretrain(corpus, **(settings | {"extend": str(tmp_path)}))
    run = api.pretrain(corpus, epochs=61, max_tokens=16, batch_size=8, lr=1e-3, **settings)
    assert any("extend: lr is 0.001 here and was auto" in note for note in run.metrics["notes"])
    assert not any("extend: batch_size" in note for note in run.metrics["notes"])


def test_what_a_prompt_loses_is_said(writer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(writer), "the 汉字 cat", "length=3"]) == 0
    assert "2 of the prompt's 6 tokens are unknown" in capsys.readouterr().err
    assert main(["generate", str(writer), "the " * 30, "length=3"]) == 0
    assert "60 tokens, and the network has positions for 16: only the last 8 are looked at" in capsys.readouterr().err
    assert main(["generate", str(writer), "half \udce9", "length=3"]) == 0
    assert capsys.readouterr().out.startswith("half \ufffd")


def test_a_text_ends_with_its_document(writer: Path) -> None:
    made = api.generate(writer, "the cat", length=60, temperature=0)[0].text
    assert made == "the cat sat on the mat"


def test_prompts_that_look_like_settings_and_texts_that_are_kept(writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(writer), "a=b"]) == 2
    assert "generate has no setting 'a'" in (message := capsys.readouterr().err)
    assert message.rstrip().endswith("-- a=b")
    assert main(["generate", str(writer), "length=2", "--", "a=b"]) == 0
    assert capsys.readouterr().out.startswith("a=b")
    assert main(["generate", str(writer), "the", f"out={tmp_path}", "length=60", "temperature=0"]) == 0
    assert (tmp_path / "sample-000.txt").read_text() == "the cat sat on the mat"
