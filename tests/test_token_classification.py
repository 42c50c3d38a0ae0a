"""Token classification, from spans or tags to entities: what is scored, what a report shows, what predict gives."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from pretune.errors import DataError
from pretune.evaluation import entities, tagger
from pretune.labels import Ragged
from pretune.modalities.text import Text
from pretune.sources.tags import TAGS, target_of
from pretune.sources.words import joined, words_of
from pretune.tasks import token_classification
from pretune.tasks._tags import NONE, TagSpace
from pretune.tasks._words import WordPlaces, places_of
from pretune.tasks.token_classification import TokenClassification
from pretune.types import Row
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

TYPES = ("X", "Y")
MARKS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def legal(draw: random.Random, length: int) -> list[str]:
    """Return random tags that IOB2 allows."""
    tags: list[str] = []
    for _ in range(length):
        before = tags[-1] if tags else "O"
        tags.append(draw.choice([*MARKS[:1], "B-X", "B-Y", *([f"I-{before[2:]}"] * 3 if before != "O" else [])]))
    return tags


def places(tags: list[str]) -> NDArray[Any]:
    return np.array([MARKS.index(tag) for tag in tags], dtype=np.int64)


def row_of(words: list[str], tags: list[str], scheme: Any = "iob2", item: str = "a") -> Row:
    text, spans = joined(words)
    return Row(id=item, text=(text,), words=spans, target=target_of(tags, spans, scheme))


# --- entities ------------------------------------------------------------------------------------


def test_figures_are_those_of_seqeval() -> None:
    draw = random.Random(3)
    true = [legal(draw, draw.randint(1, 12)) for _ in range(200)]
    told = [tags if draw.random() < 0.4 else legal(draw, len(tags)) for tags in true]
    counts = entities.counted([places(tags) for tags in true], [places(tags) for tags in told], MARKS, TYPES)
    found = entities.figures(counts, TYPES)
    strict = {"mode": "strict", "scheme": IOB2}
    assert found["entity_f1"] == pytest.approx(f1_score(true, told, **strict))
    assert found["precision"] == pytest.approx(precision_score(true, told, **strict))
    assert found["recall"] == pytest.approx(recall_score(true, told, **strict))
    assert found["macro_f1"] == pytest.approx(f1_score(true, told, average="macro", **strict))
    report = classification_report(true, told, output_dict=True, **strict)
    for name in TYPES:
        row = report[name]
        wanted = {"precision": row["precision"], "recall": row["recall"], "f1": row["f1-score"], "support": row["support"]}
        assert found["per_class"][name] == pytest.approx(wanted)
    (statistics,) = [entities.sums_of(counts, TYPES).statistics]
    assert float(statistics["entity_f1"](counts.sum(0)[None])[0]) == found["entity_f1"]


def test_without_entities_there_is_no_figure_and_without_predictions_it_is_zero() -> None:
    nothing, one = places(["O", "O"]), places(["O", "B-X"])
    assert entities.figures(entities.counted([nothing], [nothing], MARKS, TYPES), TYPES)["entity_f1"] is None
    found = entities.figures(entities.counted([one], [nothing], MARKS, TYPES), TYPES)
    assert (found["entity_f1"], found["precision"], found["recall"], found["per_class"]["Y"]["f1"]) == (0.0, None, 0.0, None)


def test_the_likeliest_tags_are_the_best_that_iob2_allows() -> None:
    draw = np.random.default_rng(0)
    scores = [draw.normal(size=(length, 5)) for length in (1, 4, 3, 5, 0)]
    first, after = entities.transitions(MARKS)
    for one, path in zip(scores, entities.likeliest(scores, MARKS), strict=True):
        best: tuple[float, tuple[int, ...]] = (-np.inf, ())
        for code in range(5 ** len(one)):
            tags = tuple(code // 5**at % 5 for at in range(len(one)))
            value = sum(one[at, tag] + (after[tags[at - 1], tag] if at else first[tag]) for at, tag in enumerate(tags))
            best = max(best, (float(value), tags))
        assert tuple(path) == best[1]
    many = [draw.normal(size=(3, 5)) for _ in range(entities._TOGETHER + 3)]
    assert [path.tolist() for path in entities.likeliest(many, MARKS)][-1] == entities.likeliest(many[-1:], MARKS)[0].tolist()


def test_a_linear_tagger_learns_words_shapes_and_neighbours() -> None:
    texts = [["we", "met", "Anna"], ["we", "saw", "houses"], ["in", "Oslo", "we", "met", "Bo"]] * 8
    tags = [places(["O", "O", "B-X"]), places(["O", "O", "O"]), places(["O", "B-Y", "O", "O", "B-X"])] * 8
    fitted = tagger.fit(texts, tags, len(MARKS))
    told = [MARKS[at] for at in fitted.probabilities([["we", "met", "Zoe", "in", "Oslo"]])[0].argmax(1)]
    assert told == ["O", "O", "B-X", "O", "B-Y"]
    assert fitted.words == 88
    again = tagger.fit(texts, tags, len(MARKS))
    assert torch.equal(again.weight, fitted.weight)
    assert [tagger.shape(word) for word in ("McDonald", "USA", "3.5", "@user", "")] == ["XxXx", "X", "d.d", "@x", ""]


# --- words and tokens ----------------------------------------------------------------------------

PIECES = Text(units="piece", vocabulary=300).learned_from(["we met jack in oslo"])


@pytest.mark.parametrize("limit", [64, 12, 8, 4])
def test_words_behind_the_window_are_missed_and_not_forgotten(limit: int) -> None:
    words = ["we", "met", "in", "oslo", "jack-o'-lantern", "in", "New", "Oslo"]
    tags = ["O", "O", "O", "O", "B-X", "O", "B-Y", "I-Y"]
    short, row, task = replace(PIECES, max_tokens=limit), row_of(words, tags), TokenClassification()
    space = TagSpace(classes=TYPES, tags=MARKS)
    labels = task.encode([row], space, short)
    (truth,) = task.truth(labels, space)
    stored = short.decode(row.text or ())
    assert len(truth.tags) == len(stored.array)
    shown = truth.tags[truth.tags != NONE]
    assert [words[at] for at in truth.words[truth.tags != NONE]][:2] == words[: min(2, len(shown))]
    perfect = np.full((len(truth.tags), 5), -9.0)
    perfect[np.flatnonzero(truth.tags != NONE), shown] = 0.0
    figures = task.metrics([perfect], [truth], space)
    assert sum(row["support"] for row in figures["per_class"].values()) == 2, "entities that are cut off count"
    assert figures["recall"] == {64: 1.0, 12: 0.5, 8: 0.5, 4: 0.0}[limit]
    (told,) = task.describe([perfect], space, [row], short)
    assert [word["word"] for word in told["words"]] == words
    assert [word["tag"] for word in told["words"] if word["tag"] != "?"] == [MARKS[at] for at in shown][: len(told["words"])]
    assert (limit == 64) == ("?" not in [word["tag"] for word in told["words"]])


def test_any_tokenizer_shows_every_word() -> None:
    text = "Ann's naïve 京都 👍🏽 co-op\u00a0x"
    row = Row(id="a", text=(text,), target=target_of(["O"] * len(words_of(text)), words_of(text), "iob1"))
    space = TagSpace(classes=TYPES, tags=MARKS)
    for units in ("word", "piece", "character", "unigram"):
        made = Text(units=units, vocabulary=400).learned_from([text, "some more text to learn from"] * 3)
        (truth,) = TokenClassification().truth(TokenClassification().encode([row], space, made), space)
        assert len(truth.tags) == len(made.decode(row.text or ()).array)
        found = places_of(row, made)
        assert (found.first >= 0).all(), units
        assert [made.spans(text)[at].tolist() for at in found.first] == [
            next(span.tolist() for span in made.spans(text) if span[1] > start and span[0] < end) for start, end in words_of(text)
        ]


def test_long_texts_are_used_in_pieces_that_make_the_whole() -> None:
    text = "\n".join(f"we met Anna Lee {number} in Oslo . and then" for number in range(9))
    words = words_of(text)
    tags = [{"Anna": "B-X", "Lee": "I-X", "Oslo": "B-Y"}.get(text[start:end], "O") for start, end in words]
    row = Row(id="doc", text=(text,), target=target_of(tags, words, "iob2"))
    task, space = TokenClassification(scheme="iob2"), TagSpace(classes=TYPES, tags=MARKS)
    for limit in (5, 16, 40):
        short = replace(Text(units="word", vocabulary=60).learned_from([text]), max_tokens=limit)
        pieces = task.pieces(row, short)
        assert len(pieces) > 1
        assert [piece.id for piece in pieces][-1] == f"doc ({len(pieces)} of {len(pieces)})"
        assert all(len(short.decode(piece.text or ()).array) <= limit for piece in pieces)
        assert [tag for piece in pieces for tag in piece.target.tags] == tags
        assert {piece.group for piece in pieces} == {"doc"}
        ends = [(piece.text or ("",))[0][-1] for piece in pieces[:-1]]
        assert limit == 5 or set(ends) <= {".", "n"}, "they end where a sentence or a line does"
        truth = task.truth(task.encode(pieces, space, short), space)
        assert sum(one.lost.sum() for one in truth) == 0
        scores = [np.full((len(one.tags), 5), -9.0) for one in truth]
        for one, known in zip(scores, truth, strict=True):
            one[np.flatnonzero(known.tags != NONE), known.tags[known.tags != NONE]] = 0.0
        whole = task.rejoined(row, short, pieces, task.describe(scores, space, pieces, short))
        assert whole["prediction"] == task.shown(row.target)
        assert [word["word"] for word in whole["words"]] == [text[start:end] for start, end in words]
        assert all(text[one["start"] : one["end"]] == one["text"] for one in whole["entities"])
    assert task.pieces(row, replace(short, max_tokens=256)) == [row]


def test_words_that_share_a_token_are_predicted_together() -> None:
    text = "meet O'Neil's dogs"
    made = Text(units="word", vocabulary=50).learned_from(["meet dogs"])
    words = ((0, 4), (5, 11), (11, 13), (14, 18))
    joint = WordPlaces(text=text, words=words, first=np.array([0, 1, 1, 2]), shared=np.array([False, False, True, False]), length=3)
    space, task = TagSpace(classes=TYPES, tags=MARKS), TokenClassification()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(token_classification, "places_of", lambda row, modality: joint)
        for tags, lost in ((["O", "B-X", "I-X", "O"], 0), (["O", "B-X", "O", "O"], 1), (["O", "O", "O", "B-X"], 0)):
            row = Row(id="a", text=(text,), words=words, target=target_of(tags, words, "iob2"))
            (truth,) = task.truth(task.encode([row], space, made), space)
            assert truth.lost.tolist() == [lost, 0]
            known = truth.tags != NONE
            scores = np.full((3, 5), -9.0)
            scores[np.flatnonzero(known), truth.tags[known]] = 0.0
            assert task.metrics([scores], [truth], space)["recall"] == (0.0 if lost else 1.0)
            if not lost:
                (told,) = task.describe([scores], space, [row], made)
                assert [word["tag"] for word in told["words"]] == tags
                assert told["prediction"] == task.shown(row.target)


# --- the task ------------------------------------------------------------------------------------


def test_plain_tags_lead_with_their_mean_f1() -> None:
    rows = [row_of(["a", "b", "c"], ["DET", "NOUN", "VERB"], "none"), row_of(["a", "b"], ["DET", "X"], "none", "b")]
    task = TokenClassification().suited(replace(TAGS, scheme="none"))
    assert isinstance(task, TokenClassification)
    space = task.fit(rows, ("DET", "NOUN", "VERB", "X"))
    assert (task.primary, space.tags, space.marks) == ("macro_f1", space.classes, False)
    modality = Text(units="word", vocabulary=50).learned_from(["a b c"])
    truth = task.truth(task.encode(rows, space, modality), space)
    decoded = task.decode(Ragged.of([torch.eye(4)[[0, 0, 1, 1, 0][: len(one.tags)]] * 9 for one in truth]), space)
    figures = task.metrics(decoded, truth, space)
    assert {"macro_f1", "token_accuracy", "per_class", "confusion", "balanced_accuracy"} <= figures.keys()
    assert "entity_f1" not in figures
    assert task.badness({"target": "DET NOUN", "prediction": "DET X"}) == 0.5
    assert list(task.floors(*[_examples(rows, truth)] * 2, space, None)) == ["majority", "lexicon", "linear tagger"]


def _examples(rows: list[Row], truth: Any) -> Any:
    from pretune.tasks import Examples

    return Examples(rows=rows, truth=truth)


def test_the_weight_of_o_is_chosen_where_entities_are_found_best() -> None:
    rows = [row_of(["a", "b"], ["O", "B-X"], item=str(i)) for i in range(9)]
    task, space = TokenClassification(scheme="iob2"), TagSpace(classes=("X",), tags=("O", "B-X", "I-X"))
    modality = Text(units="word", vocabulary=50).learned_from(["a b"])
    truth = task.truth(task.encode(rows, space, modality), space)
    hesitant = [np.log([[0.9, 0.05, 0.05], [0.7, 0.25, 0.05]])] * 9
    assert task.metrics(hesitant, truth, space)["entity_f1"] == 0
    chosen, message = task.tuned(hesitant, truth, space)
    assert (chosen.outside, task.metrics(hesitant, truth, chosen)["entity_f1"]) == (-1.5, 1.0)
    assert "entity F1 1.000 instead of 0.000" in message
    assert TagSpace.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    assert task.describe(hesitant[:1], chosen, rows[:1], modality)[0]["prediction"] == "2:3 X"
    held = _examples(rows, truth)
    assert task.floors(held, held, chosen, None)["majority"] == task.floors(held, held, space, None)["majority"], "chosen for the network"
    sure = [np.log([[0.9, 0.05, 0.05], [0.1, 0.85, 0.05]])] * 9
    assert task.tuned(sure, truth, space)[0] == space
    assert not TokenClassification(scheme="none").tunes


def test_a_training_split_without_entities_is_refused() -> None:
    with pytest.raises(DataError, match="the training texts have no entity"):
        TokenClassification(scheme="iob2").fit([row_of(["a"], ["O"])], ("X",))
    with pytest.raises(DataError, match="only one tag"):
        TokenClassification(scheme="none").fit([row_of(["a"], ["N"], "none")], ("N",))
    with pytest.raises(ValueError, match="tags must be the classes"):
        TagSpace.from_json({"classes": ["X"], "tags": ["O", "B-Z", "I-Z"], "outside": 0.0})


def test_the_report_marks_what_is_right_wrong_and_missing() -> None:
    row = {"text": "Ann met Bo in Oslo", "target": "0:3 PER, 8:10 PER", "prediction": "0:3 PER, 14:18 LOC"}
    target, told = TokenClassification(scheme="iob2").compare(row, "")
    assert [(one.text, one.mark, one.label) for one in target.passages] == [
        ("Ann", "right", "PER"), (" met ", "", ""), ("Bo", "missing", "PER"), (" in Oslo", "", "")
    ]  # fmt: skip
    assert [(one.text, one.mark) for one in told.passages] == [("Ann", "right"), (" met Bo in ", ""), ("Oslo", "wrong")]
    assert TokenClassification(scheme="iob2").badness(row) == 2
    assert TokenClassification(scheme="none").compare(row, "") == ()


# --- the command line ----------------------------------------------------------------------------

PLACES, PEOPLE = ("paris", "rome", "new york", "oslo"), ("anna", "jack ma", "mary", "omar")
BOTH = ("washington", "florence", "sydney")
QUICK = (
    "precision=float32",
    "threads=1",
    "--offline",
    "--json",
    "backbone=scratch:lstm,embedding=24,hidden=24,bidirectional=true,dropout=0",
)


def annotated(path: Path, count: int, seed: int = 1) -> None:
    """Write texts with spans; a name after 'in' is a place, after 'met' a person."""
    draw, records = random.Random(seed), []
    for number in range(count):
        text, spans = "", []
        for _ in range(draw.randint(1, 3)):
            before, kind, names = draw.choice((("in", "LOC", PLACES + BOTH), ("met", "PER", PEOPLE + BOTH), ("the", "", ("house", "song"))))
            text += f"we {before} "
            name = draw.choice(names)
            spans += [[len(text), len(text) + len(name), kind]] if kind else []
            text += f"{name}, "
        records.append({"text": text, "entities": spans, "split": "val" if number % 4 == 0 else "train"})
    records.append({"text": "we met", "entities": [[3, 99, "PER"]], "split": "train"})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_from_spans_to_a_report_and_to_predicted_entities(home: Path) -> None:
    annotated(home / "names.jsonl", 200)
    with (home / "names.jsonl").open("a") as file:
        file.write(
            json.dumps({"text": "we met anna. " * 99, "entities": [[7 + 13 * at, 11 + 13 * at, "PER"] for at in range(99)], "split": "val"})
        )
    done = pretune("finetune", "names.jsonl", *QUICK, "epochs=30", "lr=0.03", "out=run")
    metrics = json.loads(done.stdout)
    held = metrics["val"]
    assert (metrics["task"], metrics["primary"]["name"], metrics["classes"]) == ("token_classification", "entity_f1", ["LOC", "PER"])
    assert list(metrics["floors"]) == ["majority", "lexicon", "linear tagger"]
    assert held["entity_f1"] > 0.95 > metrics["floors"]["lexicon"]["value"] > metrics["floors"]["majority"]["value"] == 0
    assert {"entity_f1", "precision", "recall", "token_accuracy", "text_accuracy"} <= held["interval"].keys()
    assert metrics["counts"]["per_class"]["LOC"]["train"] > 10
    ledger = list(csv.DictReader((home / "run" / "ledger.csv").open()))
    assert [(row["item"], row["reason"]) for row in ledger] == [("names.jsonl:201", "span_outside")]
    assert "entity F1" in done.stderr
    assert "1 text(s) longer than the network is shown at once are used in 2 pieces." in done.stderr
    assert held["per_class"]["PER"]["support"] > 99
    page = (home / "run" / "report.html").read_text()
    assert "baseline: linear tagger" in page

    (home / "new.txt").write_text("we met florence, we in florence.\nwe the song\n")
    pretune("predict", "run", "new.txt", "out=told.jsonl")
    first, second = map(json.loads, (home / "told.jsonl").read_text().splitlines())
    assert [(one["type"], one["text"], one["start"], one["end"]) for one in first["entities"]] == [
        ("PER", "florence", 7, 15), ("LOC", "florence", 23, 31)
    ]  # fmt: skip
    assert [word["tag"] for word in first["words"]] == ["O", "O", "B-PER", "O", "O", "O", "B-LOC", "O"]
    assert second["entities"] == []
    assert first["prediction"] == "7:15 PER, 23:31 LOC"
    (home / "new.conll").write_text("we O\nin O\nflorence O\n\nwe O\n")
    told = json.loads(pretune("predict", "run", "new.conll", "--json").stdout)["predictions"]
    assert [(row["id"], [one["type"] for one in row["entities"]]) for row in told] == [("new.conll:1", ["LOC"]), ("new.conll:5", [])]
    (home / "doc").mkdir()
    (home / "doc" / "a.txt").write_text("we met florence")
    (home / "doc" / "b.txt").write_text("we met florence. " * 150)
    told = json.loads(pretune("predict", "run", "doc", "--json").stdout)["predictions"]
    assert [one["text"] for one in told[0]["entities"]] == ["florence"]
    assert [one["start"] for one in told[1]["entities"]] == [7 + 17 * at for at in range(150)]

    again = json.loads(pretune("evaluate", "run", "names.jsonl", "part=val", "--json").stdout)
    assert again["metrics"]["entity_f1"] == pytest.approx(held["entity_f1"])
    assert again["primary"]["interval"] == pytest.approx(held["interval"]["entity_f1"])
    (home / "other.conll").write_text("we O\nmet O\nanna B-per\n\nwe O\nin O\nrome B-GPE\n")
    other = json.loads(pretune("evaluate", "run", "other.conll", "--json").stdout)
    assert other["metrics"]["per_class"]["PER"]["support"] == 1, "types of other letter case are those of the run"
    assert [row["item"] for row in other["dropped"]] == ["other.conll:5"], "a text with types that the run does not know is not scored"


def test_the_commands_of_the_guide_run(home: Path) -> None:
    draw = random.Random(2)
    (home / "news").mkdir()
    for split, count in (("train", 24), ("test", 8)):
        texts = (f"we O\nmet O\n{draw.choice(('Anna', 'Omar'))} B-PER\nin O\n{draw.choice(('Oslo', 'Rome'))} B-LOC\n" for _ in range(count))
        (home / "news" / f"{split}.conll").write_text("\n".join(texts))
    (home / "new.txt").write_text("we met Anna\n")
    quick = ("precision=float32", "threads=1", "--offline")
    for line in commands(ROOT / "docs" / "tasks" / "token_classification.md"):
        words = shlex.split(line)
        if words[0] == "finetune":
            small = "backbone=scratch:transformer,width=16,layers=1,heads=2" if "out=run" in words else "backbone=run:run"
            words += [*quick, "epochs=1", *([small] if "backbone=" not in line else [])]
        pretune(*[word for word in words if not re.match(r"epochs=(?!1$)|lr=", word)])
    assert json.loads((home / "entities.jsonl").read_text())["text"] == "we met Anna"
    assert len(list((home / "runs").iterdir())) == 3
