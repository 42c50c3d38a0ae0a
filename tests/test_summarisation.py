"""Summaries: what is read, what extraction finds, which of two models a run becomes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pretune.deploy._scorers import NetworkScorer
from pretune.errors import DataError
from pretune.evaluation import extraction, overlap
from pretune.evaluation.extraction import Extractor, Pairs
from pretune.evaluation.sentences import clauses, sentences
from pretune.modalities.text import Text
from pretune.runner import Silent, own_baseline, writing
from pretune.sources import sources
from pretune.sources.conversation import SUMMARISATION, Conversation
from pretune.sources.table import Columns
from pretune.tasks import Examples
from pretune.tasks._rendering import Answer
from pretune.tasks._summaries import SummaryExtraction, document_of, references_of
from pretune.tasks.summarisation import Summarisation, SummarySpace
from pretune.training.plan import Precision
from pretune.types import Row
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

THINGS = ["sun", "moon", "tree", "river", "stone", "bird", "cloud", "rain", "snow", "wind", "fish", "leaf"]


def document(i: int) -> tuple[str, str]:
    """Return a document whose third sentence holds its summary."""
    one, two = THINGS[i % 12], THINGS[(5 * i + 1) % 12]
    parts = [
        f"The {two} was there on day {i}.",
        "It was a long and quiet day.",
        f"We show that the {one} is near the {two}.",
        "Nobody came.",
    ]
    return " ".join(parts[i % 2 :]), f"the {one} is near the {two}"


def lines(path: Path, records: list[Any]) -> Path:
    """Write a JSON object a line."""
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records), encoding="utf-8")
    return path


def target(row: Row) -> Conversation:
    """Return the target of a row that was read."""
    assert isinstance(row.target, Conversation)
    return row.target


# --- sentences -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One is here. Two, e.g. this (Fig. 3), too! Is it? Yes.", ["One is here.", "Two, e.g. this (Fig. 3), too!", "Is it?", "Yes."]),
        ("J. Smith saw 3.5 of them. Then he left", ["J. Smith saw 3.5 of them.", "Then he left"]),
        (
            "采用参数建立模型；利用方程建立系统.仿真结果表明,它简化了设计。",
            ["采用参数建立模型；", "利用方程建立系统.", "仿真结果表明,它简化了设计。"],
        ),
        ("a line\nanother line\n\n…", ["a line", "another line"]),
        ("", []),
    ],
)
def test_sentences_end_where_people_end_them(text: str, found: list[str]) -> None:
    assert sentences(text) == found


def test_clauses_stand_between_commas_and_numbers_stay_whole() -> None:
    assert clauses("目的:了解情况,并研究趋势.") == ["目的", "了解情况", "并研究趋势"]
    assert clauses("With 1,000 words, we show it: it works.") == ["With 1,000 words", "we show it", "it works"]


def test_sentences_are_joined_as_their_script_is_written() -> None:
    for text in ("The word 猫 is short. Nobody knew.", "첫 문장이다. 둘째 문장이다.", "这是一。那是二。"):
        assert extraction.joined(sentences(text)) == text


# --- ROUGE ---------------------------------------------------------------------------------------


def test_each_metric_takes_its_best_reference_and_chinese_counts_letters() -> None:
    found = overlap.rouge(["the cat sat on it"], [("it on sat cat the", "the cat sat")])[0]
    assert found.tolist() == pytest.approx([1.0, 2 * 2 / (4 + 2), 2 * 3 / (5 + 3)])
    tokens = [overlap.Words().tokenize(text) for text in ("高血压药的应用", "抗高血压药应用")]
    alone = overlap.rouge(["高血压药的应用"], [("抗高血压药应用",)])[0]
    assert alone[0] == pytest.approx(2 * 6 / 14)
    assert overlap.quick_rouge(tokens[0], [tokens[1]]) == pytest.approx(alone.mean())


# --- extraction ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Documents with summaries."""
    found = [document(i) for i in range(40)]
    return Pairs(texts=[text for text, _ in found], references=[(summary,) for _, summary in found])


@pytest.fixture(scope="module")
def extractor(pairs: Pairs) -> Extractor:
    """What was learned of them."""
    found = extraction.fit(pairs, Text())
    assert found is not None
    return found


def test_extraction_learns_which_sentence_is_the_summary(pairs: Pairs, extractor: Extractor) -> None:
    lead = extraction.lead(pairs)
    new = [document(i)[0] for i in range(50, 60)]
    assert all("We show that" in text for text in extractor.summaries(new))
    assert lead.summaries(new) != extractor.summaries(new)
    assert extractor.summaries([""]) == [""]
    assert extraction.fit(pairs.take(range(4)), Text()) is None, "too few to learn from"


def test_a_saved_extraction_is_the_same_and_a_damaged_one_is_refused(extractor: Extractor, pairs: Pairs) -> None:
    settings = json.loads(json.dumps(extractor.settings()))
    again = Extractor.read(settings, extractor.arrays(), Text())
    assert again.summaries(pairs.texts) == extractor.summaries(pairs.texts)
    with pytest.raises(ValueError, match="shapes"):
        Extractor.read(settings, extractor.arrays() | {"weight": np.zeros((3, 1), np.float32)}, Text())
    with pytest.raises(ValueError, match="chooses"):
        Extractor.read(settings | {"count": 99}, extractor.arrays(), Text())


def test_intervals_resample_documents_where_only_some_are_shared() -> None:
    groups = [f"document {i // 5}" for i in range(100)]
    written = ["the sun" if (i // 5) % 3 else "a moon" for i in range(100)]
    target = Answer(scored=(1,), prompt="x", answer="the sun")
    widths = []
    for own in ([None, *groups[1:]], [None] * 100):
        rows = [Row(id=str(i), text=("x", "the sun"), target=target, group=group) for i, group in enumerate(own)]
        low, high = writing.measure(Summarisation(), rows, written, ())["interval"]["rouge1"]
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("document", "summary"), ("article", "highlights"), ("dialogue", "summary"), ("source", "target"), ("text", "tldr")]
)
def test_tables_of_summaries_are_recognised_by_names_and_lengths(names: tuple[str, str], tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", [dict(zip(names, document(i), strict=True)) for i in range(12)])
    table = sources.read(path)
    assert table.task == "summarisation"
    assert [document_of(row) for row in table.rows] == [document(i)[0] for i in range(12)]


def test_bad_rows_are_named_by_line_and_a_list_is_several_references(tmp_path: Path) -> None:
    good = [{"source": document(i)[0], "target": document(i)[1]} for i in range(10)]
    odd = [
        {"source": "x y z", "target": ""},
        {"source": "short", "target": "much longer than the source"},
        {"source": "no target"},
        {"source": "two refs", "target": ["a", "b"]},
        {"source": "the same", "target": "the same"},
    ]
    table = sources.read(lines(tmp_path / "data.jsonl", good + odd), target=SUMMARISATION)
    assert {entry.item: entry.reason for entry in table.ledger} == {
        "data.jsonl:11": "blank_target",
        "data.jsonl:13": "blank_target",
        "data.jsonl:15": "target_is_source",
    }
    assert target(table.rows[-1]).others == ("b",)
    assert any("; 1 has several references" in line for line in table.messages)
    longer = next(one for one in table.findings if one.kind == "long_targets")
    assert "data.jsonl:12" in longer.message


def test_short_summaries_with_a_number_are_texts(tmp_path: Path) -> None:
    records = [{"source": f"A long story number {i} about a dog and a cat that went out.", "target": f"Story {i}"} for i in range(12)]
    assert sources.read(lines(tmp_path / "data.jsonl", [*records, {"source": "x", "target": ""}])).task == "summarisation"


def test_a_column_of_all_references_stands_beside_one_target(tmp_path: Path) -> None:
    records = [{"source": document(i)[0], "target": document(i)[1], "targets": [document(i)[1], f"summary {i}"]} for i in range(8)]
    table = sources.read(lines(tmp_path / "data.jsonl", records))
    assert [target(row).others for row in table.rows] == [(f"summary {i}",) for i in range(8)]


def test_what_may_be_a_label_too_is_not_guessed(tmp_path: Path) -> None:
    records = [{"text": document(i)[0], "summary": document(i)[1], "score": i % 5} for i in range(10)]
    path = lines(tmp_path / "data.jsonl", records)
    with pytest.raises(DataError, match=r"task=summarisation, or label=score text=text"):
        sources.read(path)
    assert sources.read(path, Columns(label="score", text="text")).task != "summarisation"
    assert sources.read(path, target=SUMMARISATION).task == "summarisation"
    several = lines(tmp_path / "two.jsonl", [{"text": "a b", "headline": "a", "title": "b"}])
    with pytest.raises(DataError, match="label=headline or label=title"):
        sources.read(several, target=SUMMARISATION)


def test_translations_and_classes_are_not_summaries(tmp_path: Path) -> None:
    same = lines(tmp_path / "same.jsonl", [{"source": f"a text of {i}", "target": f"ein Text von {i}"} for i in range(10)])
    assert sources.read(same).task != "summarisation"
    classes = lines(tmp_path / "classes.jsonl", [{"text": document(i)[0], "target": "ab"[i % 2]} for i in range(10)])
    assert sources.read(classes).task == "classification"


@pytest.mark.parametrize("layout", ["beside", "folders"])
def test_documents_beside_their_summaries(layout: str, tmp_path: Path) -> None:
    for i in range(5):
        names = (f"{i}.txt", f"{i}.summary") if layout == "beside" else (f"documents/{i}.txt", f"summaries/{i}.txt")
        for name, text in zip(names, document(i), strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text if i or text != document(i)[1] else "")
    table = sources.read(tmp_path)
    assert table.task == "summarisation"
    assert [target(row).turns[-1].content for row in table.rows] == [document(i)[1] for i in range(1, 5)]
    assert [entry.reason for entry in table.ledger] == ["blank_target"], "the empty summary"


def test_a_second_file_of_one_name_is_reported(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"summary{i}.txt").write_text(document(i)[0] if i else "")
        (tmp_path / f"summary{i}.sum").write_text(document(i)[1])
    (tmp_path / "summary1.md").write_text("another text")
    table = sources.read(tmp_path)
    assert [row.id for row in table.rows] == ["summary1.md", "summary2.txt"]
    assert [(entry.item, entry.reason) for entry in table.ledger] == [("summary1.txt", "ambiguous"), ("summary0.txt", "empty")]
    found = sources.read_unlabelled(tmp_path, "text", target=SUMMARISATION)
    assert {row.id for row in found.rows} == {"summary1.md", "summary1.txt", "summary2.txt"}, "each document can be predicted"


def test_rows_of_one_document_stay_together(tmp_path: Path) -> None:
    records = [{"document": document(i // 2)[0], "summary": f"{document(i)[1]} {i}"} for i in range(12)]
    table = sources.read(lines(tmp_path / "data.jsonl", records))
    assert [row.group for row in table.rows[:4]] == ["document of data.jsonl:1"] * 2 + ["document of data.jsonl:3"] * 2


# --- the task ------------------------------------------------------------------------------------


def test_the_length_of_summaries_is_that_of_training(tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", [{"document": document(i)[0], "summary": document(i)[1]} for i in range(20)])
    table = sources.read(path)
    task = Summarisation()
    text = task.render(table, Text(units="character", vocabulary=60, max_tokens=120))
    assert table.target_type is not None
    fitted = task.suited(table.target_type)
    longest = max(len(text.ids(references_of(row)[0])) for row in table.rows)
    again = sources.read(path)
    again.rows = [replace(row, split="train" if i < 19 else "val") for i, row in enumerate(again.rows)]
    held_out = target(again.rows[-1])
    short = target(again.rows[0])
    again.rows[0] = replace(again.rows[0], target=replace(short, turns=(*short.turns[:-1], replace(short.turns[-1], content="x"))))
    longer = replace(held_out, turns=(*held_out.turns[:-1], replace(held_out.turns[-1], content="x" * 100)))
    again.rows[-1] = replace(again.rows[-1], target=longer)
    task.render(again, text)
    assert again.target_type is not None
    assert longest < (task.suited(again.target_type).max_new_tokens or 0) < 2 * longest, "of the longest in training alone"
    assert isinstance(fitted, Summarisation)
    assert longest < (fitted.max_new_tokens or 0) < 2 * longest
    assert Summarisation(max_new_tokens=7).suited(table.target_type) == Summarisation(max_new_tokens=7)
    assert SummaryExtraction.fit(table.rows, None, text, 0) is not None


def summarised(count: int = 4, **others: Any) -> list[Row]:
    """Return rendered rows with summaries of the documents."""
    found = [document(i) for i in range(count)]
    return [Row(id=str(i), target=Answer(scored=(1,), prompt=text, answer=own), **others) for i, (text, own) in enumerate(found)]


def test_figures_of_summaries_are_those_of_their_texts() -> None:
    rows = [Row(id="a", target=Answer(scored=(1,), prompt="x", answer="one two three four"))]
    figures = Summarisation().text_metrics(rows, ["three one"], ())
    assert figures["rouge1"] == pytest.approx(2 * 2 / 6)
    assert figures["rougeL"] == pytest.approx(2 * 1 / 6)
    assert (figures["length_ratio"], figures["copied"]) == (0.5, 0.0)
    assert Summarisation().text_scores(rows, ["three one"]) == pytest.approx([2 / 3])
    assert Summarisation().badness({"prediction": "three one", "target": "one two three four"}) == pytest.approx(1 / 3)


def test_summaries_that_are_copied_are_reported() -> None:
    rows = summarised()
    copies = [document_of(row).split(". ")[-1] for row in rows]
    assert any("word for word" in line for line in Summarisation().faults(rows, copies))
    assert not any("word for word" in line for line in Summarisation().faults(rows, [*copies[:2], "a b", "c d"]))
    assert Summarisation().text_metrics(rows, copies, ())["copied"] == 1


def test_the_lead_is_chosen_on_training() -> None:
    first = [
        Row(id=str(i), target=Answer(scored=(1,), prompt=f"The {one} is. Two are. Three.", answer=f"the {one} is"))
        for i, one in enumerate(THINGS)
    ]
    rest = [
        Row(id=str(i), target=Answer(scored=(1,), prompt=f"A. The {one}. B c d.", answer=f"a the {one} b c d"))
        for i, one in enumerate(THINGS)
    ]
    train, held_out = Examples(rows=first, truth=None), Examples(rows=rest, truth=None)
    assert Summarisation().floors(train, held_out, SummarySpace(), None)["lead"]["rouge1"] < 0.7, "one sentence, as in training"
    assert Summarisation().floors(held_out, held_out, SummarySpace(), None)["lead"]["rouge1"] == pytest.approx(1)


def test_held_out_documents_that_are_trained_on_are_reported() -> None:
    rows = [*summarised(4, split="train"), *(replace(row, id=f"test {row.id}") for row in summarised(2, split="test"))]
    (finding,) = Summarisation().findings(rows, SummarySpace())
    assert finding.message.startswith("2 of 2 test documents are in train too")
    assert Summarisation().findings([*rows[2:4], *rows[4:]], SummarySpace()) == []


@pytest.mark.parametrize(("selects", "predictor", "asked"), [("val", None, [3, 4]), (None, None, None), ("val", "network", None)])
def test_the_examples_of_the_score_choose_no_model(
    selects: str | None, predictor: str | None, asked: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(writing, "write", lambda state, positions, **_: written.append(positions.tolist()) or writing.WrittenAnswers())
    splits = {"train": np.arange(3), "val": np.array([3, 4]), "test": np.array([5])}
    data = SimpleNamespace(selects=selects, score="test", splits=splits)
    state: Any = SimpleNamespace(data=data, own=object(), recipe=SimpleNamespace(predictor=predictor))
    own_baseline.selecting(state)
    assert written == ([] if asked is None else [asked])


def test_a_model_that_a_person_names_is_the_run() -> None:
    state: Any = SimpleNamespace(recipe=SimpleNamespace(predictor="baseline"), run=SimpleNamespace(reporter=None))
    found = own_baseline._selected(state, Summarisation(), cast("Any", None), writing.WrittenAnswers())
    assert (found.model, found.asked) == ("baseline", True)


@pytest.mark.parametrize(("gain", "taken"), [(0.2, "network"), (0.01, "baseline"), (-0.2, "baseline")])
def test_the_network_is_the_run_where_it_is_better_by_more_than_chance(gain: float, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = np.random.default_rng(0).random(20) / 2
    network = baseline + gain + np.tile([0.1, -0.1], 10)
    lines: list[str] = []
    data = SimpleNamespace(rows=list(range(20)), units=np.arange(20))
    state: Any = SimpleNamespace(
        recipe=SimpleNamespace(predictor=None), data=data, run=SimpleNamespace(reporter=SimpleNamespace(say=lines.append))
    )
    task: Any = SimpleNamespace(primary="rouge1", text_scores=lambda rows, texts: np.array([float(text) for text in texts]))
    own: Any = SimpleNamespace(name="extraction", predict=lambda rows: list(map(str, baseline)))
    monkeypatch.setattr(own_baseline, "split_in_words", lambda data: "the split val")
    chosen = writing.WrittenAnswers(texts=dict(enumerate(map(str, network))))
    assert own_baseline._selected(state, task, own, chosen).model == taken
    assert ("within one standard error" in lines[0]) == (gain == 0.01)


def test_texts_are_written_in_the_precision_of_the_run_and_in_that_again_when_it_is_saved() -> None:
    seen: list[bool] = []

    class Noting(Summarisation):
        def write(self, model: Any, rows: Any, modality: Any, *, seed: int = 0) -> list[str]:
            seen.append(torch.is_autocast_enabled("cpu"))
            return ["a"] * len(rows)

    rows = [*summarised(2, split="train"), *summarised(2, split="test")]
    run = SimpleNamespace(
        deadline=SimpleNamespace(clock=SimpleNamespace(seconds=0.0), remaining=float("inf"), total=None),
        reporter=Silent(),
        device=SimpleNamespace(device=torch.device("cpu")),
    )
    data = SimpleNamespace(task=Noting(), rows=rows, modality=None, splits={"train": np.arange(2)}, score="test")
    for bfloat16 in (True, False):
        precision, recipe = Precision(bfloat16=bfloat16), SimpleNamespace(training=SimpleNamespace(seed=0))
        state: Any = SimpleNamespace(data=data, run=run, recipe=recipe, precision=precision, model=None)
        assert len(writing.write(state, np.array([2, 3]), check_faults=False).texts) == 2
        scorer: Any = SimpleNamespace(_rest=precision, device=torch.device("cpu"), model=None, modality=None)
        assert NetworkScorer.write(scorer, Noting(), rows[:1]) == ["a"]
    assert seen == [True, True, False, False]


def test_a_saved_run_asks_as_it_was_trained(tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", [{"document": document(i)[0], "summary": document(i)[1]} for i in range(20)])
    first, again = sources.read(path), sources.read(path)
    text = Summarisation().render(first, Text(units="character", vocabulary=60, max_tokens=120))
    assert Summarisation().render(again, text).chat_template == text.chat_template != "", "a run keeps its template"
    assert [row.text for row in again.rows] == [row.text for row in first.rows], "no instruction that training did not have"


def test_a_long_document_keeps_its_beginning_where_the_summary_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "data.jsonl", [{"document": document(i)[0] * 3, "summary": document(i)[1]} for i in range(20)])
    table = sources.read(path)
    task = Summarisation(max_new_tokens=50)
    text = task.render(table, Text(units="character", vocabulary=60, max_tokens=120, positions=120), answered=False)
    prompts: list[list[int]] = []
    monkeypatch.setattr("pretune.tasks._language.write", lambda model, ids, **_: prompts.extend(ids) or [[] for _ in ids])
    row = table.rows[0]
    task.write(None, [row], text)
    whole = "".join(row.text or ())
    (found,) = map(text.text_of, prompts)
    assert len(prompts[0]) <= 70 < len(whole)
    assert found[:40] == whole[:40], "the beginning of the document"
    assert found[-2:] == whole[-2:] == "\n\n", "what stands before a summary"


def test_the_commands_of_the_guide_run_and_the_better_model_is_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "papers.jsonl", [{"document": document(i)[0], "summary": document(i)[1]} for i in range(60)])
    lines(tmp_path / "new.jsonl", [{"document": document(70)[0]}, {"document": ""}])
    small = ["precision=float32", "threads=1", "epochs=1", "batch_size=16", "task.max_new_tokens=4"]
    for line in commands(ROOT / "docs" / "tasks" / "summarisation.md"):
        arguments = shlex.split(line)
        if "task.network=encoder_decoder" in line:
            small_encoder = "backbone=scratch:transformer,units=piece,vocabulary=300,width=16,layers=1,heads=2,max_tokens=48"
            pretune(*arguments, *small, small_encoder, "predictor=network")
        elif arguments[0] == "finetune":
            small_model = "backbone=scratch:gpt,width=16,layers=1,heads=2,max_tokens=120,units=character"
            pretune(*arguments[:2], "task=summarisation", *arguments[2:], *small, small_model)
        else:
            pretune(*arguments)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["model"] == metrics["selection"]["model"] == "baseline"
    assert metrics["selection"]["baseline"] > metrics["selection"]["network"]
    assert metrics["primary"]["value"] == metrics["val"]["rouge1"] == metrics["floors"]["extraction"]["value"]
    assert set(metrics["val"]["interval"]) == {"rouge1", "rouge2", "rougeL"}
    assert "rouge1" in metrics["network"]["val"]
    assert "lead" in metrics["floors"]
    extracted, written = ((tmp_path / name).read_text().splitlines() for name in ("summaries.jsonl", "written.jsonl"))
    assert "We show that" in json.loads(extracted[0])["prediction"]
    assert "empty document" in json.loads(extracted[1])["error"]
    assert json.loads(written[0])["prediction"] != json.loads(extracted[0])["prediction"]


def test_a_summary_does_not_begin_with_white_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sources.read(lines(tmp_path / "data.jsonl", [{"document": document(i)[0], "summary": document(i)[1]} for i in range(20)]))
    text = Summarisation().render(table, Text(units="character", vocabulary=60, max_tokens=120), answered=False)
    barred: list[int] = []
    monkeypatch.setattr("pretune.tasks._language.write", lambda model, ids, blank=(), **_: barred.extend(blank) or [[] for _ in ids])
    Summarisation(max_new_tokens=9).write(None, table.rows[:1], text)
    assert {int(text.ids(space)[0]) for space in (" ", "\n")} <= set(barred)
