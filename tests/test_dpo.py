"""Preference tuning: pairs of answers as people publish them, the loss of Rafailov et al. 2023, and the reference beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretune import backbones
from pretune.errors import DataError
from pretune.labels import Labels
from pretune.modalities.text import Text
from pretune.models import Model, token_loss
from pretune.sources import sources
from pretune.sources.conversation import Turn
from pretune.sources.preferences import PREFERENCES, Preference
from pretune.sources.table import Columns, Table
from pretune.strategies.full import Full
from pretune.strategies.lora import LoRA
from pretune.tasks._base import Examples
from pretune.tasks._language import NONE
from pretune.tasks._preference import PreferenceLearner
from pretune.tasks.dpo import DPO, AnswerPair
from pretune.types import Batch, Row
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

WORDS = "sun moon tree river stone bird cloud rain snow wind"
GPT = "scratch:gpt,width=16,layers=2,heads=2,max_tokens=64,units=character"


def write_lines(path: Path, records: list[Any]) -> Path:
    """Write a JSON object a line."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def pair_of(prompt: str, chosen: str, rejected: str, split: Any = "train") -> Row:
    """Return a pair as a layout reads it."""
    target = Preference(turns=(Turn("user", prompt), Turn("assistant", chosen)), rejected=rejected)
    return Row(id=f"{prompt} {chosen}", text=(prompt,), target=target, split=split)


ROWS = [
    pair_of("say sun", "sun", "moon and tree"),
    pair_of("say a river", "river it is", "no"),
    pair_of("wind", "the wind of snow", "rain"),
    pair_of("name a bird", "a bird", "stone"),
]


def rendered(rows: list[Row], text: Text, task: DPO | None = None) -> tuple[list[Row], Text]:
    """Return rows in the words that the network reads, and its preprocessing."""
    table = Table(rows=list(rows), modality="text", target_type=PREFERENCES, root=Path("data"), layout="")
    text = (task or DPO()).render(table, text)
    return table.rows, text


# --- reading -------------------------------------------------------------------------------------


USER, GOOD, BAD = (
    {"role": "user", "content": "Say {}"},
    {"role": "assistant", "content": "so {}"},
    {"role": "assistant", "content": "no {}"},
)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Say {}", "chosen": "so {}", "rejected": "no {}"},
        {"question": "Say {}", "chosen": "so {}", "rejected": "no {}", "score_chosen": 3},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Say {}", "prompt_id": "{}", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]},
        {"chosen": "\n\nHuman: Say {}\n\nAssistant: so {}", "rejected": "\n\nHuman: Say {}\n\nAssistant: no {}"},
        {"chosen": "Say {} so {}", "rejected": "Say {} no {}"},
    ],
)
def test_preferences_as_trl_takes_them_are_recognised_without_a_task(record: Any, tmp_path: Path) -> None:
    filled = [json.loads(json.dumps(record).replace("{}", str(number))) for number in range(6)]
    table = sources.read(write_lines(tmp_path / "data.jsonl", filled))
    assert table.task == "dpo"
    assert len(table.rows) == 6
    found = table.rows[3].target
    assert isinstance(found, Preference)
    assert [turn.content for turn in found.turns] == ["Say 3", "so 3"]
    assert found.rejected == "no 3"
    assert "'chosen' is preferred to 'rejected'" in table.messages[1]
    assert sources.read(tmp_path / "data.jsonl", target=PREFERENCES).rows == table.rows


def test_what_is_no_preference_goes_to_the_ledger_with_its_reason(tmp_path: Path) -> None:
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    other = {"chosen": [{**USER, "content": "q"}, GOOD], "rejected": [USER, BAD]}
    records = [{**good, "rejected": ""}, {**good, "rejected": None}, {**good, "prompt": ""}, {**good, **other}, good]
    table = sources.read(write_lines(tmp_path / "data.jsonl", records))
    assert [entry.reason for entry in table.ledger] == ["empty_answer", "no_answer", "empty_text", "other_prompt"]
    assert len(table.rows) == 1
    assert PREFERENCES.fault(pair_of("p", "same", " same ")) == ("same_answers", "has the same answer as preferred and as rejected")
    assert PREFERENCES.fault(table.rows[0]) is None


def test_columns_with_other_names_are_named_and_one_alone_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"q": "say", "better": "yes", "worse": "no"}] * 3)
    with pytest.raises(DataError, match="label=PREFERRED,REJECTED"):
        sources.read(path, target=PREFERENCES)
    with pytest.raises(DataError, match="two answers"):
        sources.read(path, Columns(text="q", label="better"), target=PREFERENCES)
    found = sources.read(path, Columns(text="q", label="better,worse"), target=PREFERENCES).rows[0].target
    assert isinstance(found, Preference)
    assert (found.turns[-1].content, found.rejected) == ("yes", "no")


def test_pairs_of_one_prompt_stay_together(tmp_path: Path) -> None:
    records = [{"prompt": f"p{number // 2}", "chosen": f"yes {number}", "rejected": "no"} for number in range(12)]
    groups = [row.group for row in sources.read(write_lines(tmp_path / "data.jsonl", records)).rows]
    assert groups[0] == groups[1] != groups[2]
    assert len(set(groups)) == 6


# --- rendering -----------------------------------------------------------------------------------


def test_both_answers_follow_the_same_prompt_which_is_cut_for_the_longer_one() -> None:
    text = Text(units="character", vocabulary=100, verbatim=True, max_tokens=40).learned_from([WORDS] * 2)
    rows = [pair_of("sun " * 20 + "moon", "tree", "rain and snow and wind"), pair_of("a", "sun", "wind " * 20)]
    table = Table(rows=rows, modality="text", target_type=PREFERENCES, root=Path("data"), layout="")
    text = DPO().render(table, text)
    assert [entry.reason for entry in table.ledger] == ["too_long"]
    (row,) = table.rows
    pair = row.target
    assert isinstance(pair, AnswerPair)
    assert row.text is not None
    assert (pair.answer, pair.other) == ("tree", "rain and snow and wind")
    place = pair.scored[-1]
    assert row.text[:place] == pair.rejected[:place]
    assert row.text[place + 1 :] == pair.rejected[place + 1 :]
    assert "".join(row.text).count("sun") < 20
    assert "moon" in "".join(row.text)
    assert len(text.segments(pair.rejected)[0]) <= 40


# --- loss and reference --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> Callable[[], tuple[Model, Text]]:
    """Build a small decoder and its tokenizer."""
    text = Text(units="character", vocabulary=100, verbatim=True, max_tokens=64, positions=64).learned_from([WORDS] * 2)

    def build() -> tuple[Model, Text]:
        torch.manual_seed(0)
        backbone = backbones.load(f"{GPT},vocabulary={text.size}")
        backbone.modality = text
        return Model(backbone, DPO().head(None), 2, layout="sequence"), text

    return build


def batch_of(rows: list[Row], text: Text) -> Batch:
    """Return rendered rows as a batch."""
    inputs = text.collate([text.decode(row.text or ()).array for row in rows])
    return Batch(inputs=inputs, labels=DPO().encode(rows, None, text), index=torch.arange(len(rows)))  # type: ignore[arg-type]


def likelihood_alone(model: Model, segments: tuple[str, ...], place: int, text: Text) -> Tensor:
    """Return the log-likelihood of one segment, and of the mark that ends it, from all logits of this text alone."""
    ids, owners = text.segments(segments)
    tensor = torch.from_numpy(ids.astype(np.int64))
    logits = model(text.collate([ids]))[0]
    nats = F.cross_entropy(logits[:-1], tensor[1:], reduction="none")
    learned = [at for at in range(1, len(ids)) if owners[at] == place or (owners[at] > place and ids[at] in text.special)]
    return -sum((nats[at - 1] for at in learned), torch.zeros(()))


def shaken(model: Model, names: str = "") -> None:
    """Change what learns, as training does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and names in name:
                parameter.add_(0.3 * torch.randn_like(parameter))


def test_loss_and_gradient_are_those_of_the_paper_for_each_text_alone(made: Callable[[], tuple[Model, Text]]) -> None:
    model, text = made()
    before, _ = made()
    Full().apply(model, Full().phases(4)[-1])
    rows, text = rendered(ROWS, text)
    learner = PreferenceLearner(model, lambda *_: torch.zeros(()), 0.3)
    assert float(learner(batch_of(rows, text)).loss.detach()) == pytest.approx(np.log(2)), "the network is the reference at the start"
    shaken(model)

    expected = []
    for row in rows:
        pair = row.target
        assert isinstance(pair, AnswerPair)
        sides = (row.text or (), pair.rejected)
        now = [likelihood_alone(model, side, pair.scored[-1], text) for side in sides]
        then = [likelihood_alone(before, side, pair.scored[-1], text).detach() for side in sides]
        expected.append(-F.logsigmoid(0.3 * ((now[0] - then[0]) - (now[1] - then[1]))))
    torch.stack(expected).mean().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()

    out = learner(batch_of(rows, text))
    out.loss.backward()
    torch.testing.assert_close(out.loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)
    assert gradients
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5, msg=name)
    halves = [learner(batch_of(rows, text).take(slice(at, at + 2))).loss for at in (0, 2)]
    torch.testing.assert_close(torch.stack(halves).mean(), out.loss, rtol=1e-4, atol=1e-5)


def test_adapters_switched_off_are_the_reference_before_and_after_they_are_merged(made: Callable[[], tuple[Model, Text]]) -> None:
    model, text = made()
    before, _ = made()
    rows, text = rendered(ROWS, text)
    strategy = LoRA(rank=2, dropout=0.5)
    strategy.prepare(model)
    strategy.apply(model, strategy.phases(4)[-1])
    learner = PreferenceLearner(model, lambda *_: torch.zeros(()), 0.1)
    shaken(model, "lora_")
    batch = batch_of(rows, text)
    model.train()
    learner(batch).loss.backward()
    assert model.training
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "lora_" in name)
    model.eval()
    plain = PreferenceLearner(before, lambda *_: torch.zeros(()), 0.1).predict(batch)[:, :2]
    with torch.inference_mode():
        out = learner.predict(batch)
    torch.testing.assert_close(out[:, 2:], plain.detach(), rtol=1e-5, atol=1e-5)
    assert (out[:, :2] - out[:, 2:]).abs().max() > 0.01, "what is learned is no part of the reference"

    strategy.finish(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        merged = learner.predict(batch)
    torch.testing.assert_close(merged, out, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_finished_network_has_no_reference_and_no_rewards(made: Callable[[], tuple[Model, Text]]) -> None:
    model, text = made()
    rows, text = rendered(ROWS, text)
    learner = PreferenceLearner(model.eval().requires_grad_(False), lambda *_: torch.zeros(()), 0.1)
    batch, task = batch_of(rows, text), DPO()
    space = task.fit(rows, ())
    assert batch.labels is not None
    figures = task.metrics(task.decode(learner.predict(batch), space), task.truth(batch.labels, space), space)
    assert figures.keys() == {"preference_accuracy", "margin", "chosen_loss"}


def test_nats_of_tokens_have_their_gradient_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "CHUNK", 60)
    x, weight = torch.randn(7, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)
    targets = torch.arange(7)
    nats = token_loss.token_nats(x, weight, targets)
    expected = F.cross_entropy(x @ weight.T, targets, reduction="none")
    torch.testing.assert_close(nats, expected)
    scale = torch.linspace(-1, 2, 7)
    mine = torch.autograd.grad((nats * scale).sum(), [x, weight])
    torch.testing.assert_close(mine, torch.autograd.grad((expected * scale).sum(), [x, weight]))


# --- figures -------------------------------------------------------------------------------------


def test_figures_count_pairs_and_ties_half() -> None:
    task = DPO(beta=0.5)
    decoded = np.array([[-2.0, -5.0, -4.0, -4.0], [-9.0, -6.0, -9.0, -6.0]])
    figures = task.metrics(decoded, np.array([[2, 3], [4, 4]]), task.fit([], ()))
    expected = {"preference_accuracy": 0.5, "margin": 0.0, "reward_accuracy": 0.75, "reward_margin": 0.75, "chosen_loss": 11 / 6}
    expected["dpo_loss"] = float(np.mean(np.log1p(np.exp([-1.5, 0.0]))))
    assert figures == pytest.approx(expected)


def test_the_baseline_knows_length_alone_and_length_is_reported(made: Callable[[], tuple[Model, Text]]) -> None:
    text = made()[1]
    long = [pair_of(f"p{at}", "sun and moon", "no") for at in range(8)]
    mixed = [pair_of("q1", "sun and moon", "no"), pair_of("q2", "no", "sun and moon"), pair_of("q3", "no", "sun")]
    train, held_out = (Examples(rows=rendered(rows, text)[0], truth=None) for rows in (long, mixed))
    task = DPO()
    floor = task.floors(train, held_out, task.fit([], ()), None)["length"]
    assert (floor["what"], floor["preference_accuracy"]) == ("preferring the longer answer", pytest.approx(1 / 3))
    shorter = task.floors(held_out, held_out, task.fit([], ()), None)["length"]
    assert (shorter["what"], shorter["preference_accuracy"]) == ("preferring the shorter answer", pytest.approx(2 / 3))
    found = task.findings(train.rows, task.fit([], ()))
    assert ["longer one in 100%" in finding.message for finding in found] == [True]


def test_preferences_that_contradict_each_other_are_counted(made: Callable[[], tuple[Model, Text]]) -> None:
    rows = rendered([pair_of("p", "sun", "moon"), pair_of("p", "moon", "sun"), pair_of("p", "tree", "moon")], made()[1])[0]
    (finding,) = DPO().findings(rows, DPO().fit([], ()))
    assert (finding.kind, finding.severity, len(finding.items)) == ("contradiction", "warning", 2)


def test_only_the_answer_is_predicted_in_both_texts(made: Callable[[], tuple[Model, Text]]) -> None:
    rows, text = rendered(ROWS[:1], made()[1])
    labels: Labels = DPO().encode(rows, None, text)  # type: ignore[arg-type]
    asked = [labels[name].values for name in ("next", "rejected_next")]  # type: ignore[union-attr]
    assert ["".join(text.text_of(one[one != NONE].tolist())).strip() for one in asked] == ["sun", "moon and tree"]


def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = WORDS.split()
    pairs = [(one, other) for one in words for other in words if one != other][:48]
    records = [{"prompt": f"Say {one} {other}", "chosen": f"{one} it is", "rejected": f"not {other}"} for one, other in pairs]
    write_lines(tmp_path / "pairs.jsonl", records)
    write_lines(tmp_path / "new.jsonl", [{"prompt": "Say sun"}, {"prompt": ""}])
    for line in commands(ROOT / "docs" / "tasks" / "dpo.md"):
        arguments = shlex.split(line)
        if arguments[0] == "finetune":
            arguments = [word for word in arguments if not word.startswith("backbone=")]
            arguments += [f"backbone={'run:run' if 'out=run2' in arguments else GPT}", "precision=float32", "threads=1", "epochs=2"]
            arguments += ["lr=0.01", "task.max_new_tokens=4", *(["task=dpo"] if "out=run2" in arguments else [])]
        pretune(*arguments)
    metrics = json.loads((tmp_path / "run2" / "metrics.json").read_text())
    assert metrics["val"]["reward_accuracy"] > 0.5
    assert metrics["floors"]["start"]["preference_accuracy"] >= 0
    assert metrics["floors"]["start"]["reward_accuracy"] == 0.5
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert isinstance(answers[0]["prediction"], str)
    assert "error" in answers[1]
    page = (tmp_path / "run2" / "report.html").read_text()
    assert "preferred" in page
    assert "likelier by" in page
