"""Retrieval: pairs, triplets and texts of classes, from their tables to ranks, figures, batches and nearest texts."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pretune.api import Run
from pretune.data.batching import Batching
from pretune.data.together import Together
from pretune.deploy import embeddings
from pretune.deploy.nearest import SearchedTexts
from pretune.errors import DataError, SettingError
from pretune.evaluation import retrieval
from pretune.evaluation.diagnosis import diagnose
from pretune.evaluation.embedded import undistinguished
from pretune.evaluation.retrieval import NEGATIVE, PASSAGE, QUERY, TEXT, TRUTH
from pretune.modalities.text import Text
from pretune.models.heads.mlp import MLP
from pretune.models.heads.projection import Projection
from pretune.sources import sources
from pretune.sources.related import RELATED, Related
from pretune.sources.table import Columns, Table
from pretune.tasks import Examples, LossSettings
from pretune.tasks._contrast import RetrievalLearner, contrastive_loss, relations
from pretune.tasks.retrieval import EmbeddingSpace, Retrieval
from pretune.types import Batch, Features, Row, Share
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

# --- tables --------------------------------------------------------------------------------------


def table_of(folder: Path, columns: list[str], rows: list[list[Any]], *, task: bool = True, **named: str) -> Table:
    path = folder / "data.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return sources.read(path, Columns(**named), target=RELATED if task else None)


def roles(table: Table) -> list[tuple[str, str]]:
    return [(row.target.role, (row.text or ("",))[0]) for row in table.rows if isinstance(row.target, Related)]


PAIR = [["how are you", "fine thanks"], ["where is it", "over there"], ["who knows", "nobody does"]]


@pytest.mark.parametrize("names", [("anchor", "positive"), ("query", "positive"), ("query", "passage"), ("sentence1", "sentence2")])
def test_pairs_are_recognised_by_their_columns(tmp_path: Path, names: tuple[str, str]) -> None:
    table = table_of(tmp_path, list(names), PAIR, task=False)
    assert table.task == "retrieval"
    assert roles(table)[:2] == [("query", "how are you"), ("passage", "fine thanks")]
    assert table.rows[0].group == table.rows[1].group != table.rows[2].group
    assert any(f"{names[1]!r} belongs to {names[0]!r}" in line for line in table.messages)


def test_pairs_with_a_label_stay_classification_unless_the_task_is_named(tmp_path: Path) -> None:
    rows = [[*pair, str(at % 2)] for at, pair in enumerate(PAIR * 4)]
    assert table_of(tmp_path, ["sentence1", "sentence2", "label"], rows, task=False).task == "classification"
    table = table_of(tmp_path, ["sentence1", "sentence2", "label"], rows)
    assert roles(table)[1][0] == "negative"
    assert roles(table)[3][0] == "passage"
    assert any("task=classification" in line for line in table.messages)
    assert [row.target.grade for row in table.rows[:4] if isinstance(row.target, Related)] == [None, 0.0, None, 1.0]


def test_triplets_have_negatives(tmp_path: Path) -> None:
    rows = [[*pair, "something else"] for pair in PAIR]
    table = table_of(tmp_path, ["anchor", "positive", "negative"], rows, task=False)
    assert [role for role, _ in roles(table)[:3]] == ["query", "passage", "negative"]
    assert len({row.id for row in table.rows}) == 9


def test_two_columns_that_are_named_are_a_pair(tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a", "b"], PAIR, text="b,a")
    assert roles(table)[:2] == [("query", "fine thanks"), ("passage", "how are you")]


def test_texts_of_one_class_belong_together(tmp_path: Path) -> None:
    rows = [["good film", "pos"], ["bad film", "neg"], ["great", "pos"], ["awful", "neg"], ["no class", ""]]
    table = table_of(tmp_path, ["text", "label"], rows)
    assert [(row.target.role, row.target.label) for row in table.rows if isinstance(row.target, Related)] == [
        ("text", "pos"), ("text", "neg"), ("text", "pos"), ("text", "neg"),
    ]  # fmt: skip
    assert [entry.reason for entry in table.ledger] == ["blank_label"]


def test_a_blank_side_and_a_missing_grade_are_named_in_the_ledger(tmp_path: Path) -> None:
    rows = [*[[*pair, "5"] for pair in PAIR], ["alone", "", "1"], ["a text", "another", "x"], ["one", "two", "0"]]
    table = table_of(tmp_path, ["sentence1", "sentence2", "score"], rows, label="score")
    assert {(entry.item, entry.reason) for entry in table.ledger} == {("data.csv:5", "empty_text"), ("data.csv:6", "no_finite_number")}
    assert len(table.rows) == 8


def test_records_of_json_lines_are_pairs_too(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"anchor": a, "positive": b}) + "\n" for a, b in PAIR))
    assert roles(sources.read(path))[0] == ("query", "how are you")


def test_pairs_in_columns_of_other_names_are_asked_for_with_both_spellings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"query first: task=retrieval text=frage,antwort or task=retrieval text=antwort,frage\.$"):
        table_of(tmp_path, ["frage", "antwort"], PAIR)
    assert len(table_of(tmp_path, ["frage", "antwort"], PAIR, text="frage,antwort").rows) == 6
    classes = [[text, "ab"[at % 2]] for at, (text, _) in enumerate([*PAIR, *PAIR])]
    assert {row.target.role for row in table_of(tmp_path, ["frage", "thema"], classes).rows} == {"text"}


def test_a_list_of_passages_is_several_pairs_and_one_of_negatives_several_texts(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    records = [
        {"query": "a pet", "pos": ["a cat", "a dog"], "neg": ["a car", "a plane"]},
        {"query": "a tool", "pos": ["a saw"], "neg": ["a tree"]},
        {"query": "a fruit", "pos": "a pear", "neg": "a stone"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    table = sources.read(path)
    found = [row for row in table.rows if row.target.pair.startswith("data.jsonl:1")]
    assert [(row.target.pair, row.target.role, row.text) for row in found] == [
        (pair, role, (text,))
        for pair, passage in (("data.jsonl:1", "a cat"), ("data.jsonl:1#2", "a dog"))
        for role, text in (("query", "a pet"), ("passage", passage), ("negative", "a car"), ("negative", "a plane"))
    ]
    assert len(table.rows) == 16
    assert not table.ledger
    assert any("1 records have several texts in 'pos': each is a pair" in line for line in table.messages)
    assert len({row.id for row in table.rows}) == 16
    blank = tmp_path / "blank.jsonl"
    blank.write_text("".join(json.dumps(record) + "\n" for record in [*records, {"query": "q", "pos": [], "neg": ["x"]}]))
    assert [entry.item for entry in sources.read(blank).ledger] == ["blank.jsonl:4"]


# --- ranks and figures ---------------------------------------------------------------------------


def truth_of(entries: list[tuple[int, int, int, int]]) -> NDArray[Any]:
    """Return the truth of texts (role, wording, wording of the query, class)."""
    out: NDArray[Any] = np.full(len(entries), -1, dtype=TRUTH)
    out["grade"] = -np.inf
    for one, (role, text, anchor, label) in zip(out, entries, strict=True):
        one["role"], one["text"], one["anchor"], one["label"], one["pair"] = role, text, anchor, label, anchor
    return out


def circle(*degrees: float) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_ranks_of_pairs_by_hand() -> None:
    truth = truth_of([(QUERY, 0, 0, -1), (PASSAGE, 1, 0, -1), (QUERY, 2, 2, -1), (PASSAGE, 3, 2, -1), (NEGATIVE, 4, 2, -1)])
    found = retrieval.ranked(circle(0, 10, 90, 60, 80), truth)
    assert found.first.tolist() == [1, 2]  # the negative is nearer to the second query than its passage
    figures = retrieval.figures(circle(0, 10, 90, 60, 80), truth)
    assert figures["mrr"] == pytest.approx(0.75)
    assert figures["recall_at_1"] == 0.5
    assert figures["recall_at_5"] == 1
    assert figures["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert (figures["queries"], figures["corpus"]) == (2, 3)


def test_embeddings_that_are_all_alike_find_nothing() -> None:
    truth = truth_of([entry for at in range(10) for entry in ((QUERY, 2 * at, 2 * at, -1), (PASSAGE, 2 * at + 1, 2 * at, -1))])
    figures = retrieval.figures(circle(*[30.0] * 20), truth)
    assert figures["mrr"] == pytest.approx(1 / 5.5)  # ties share their rank
    assert figures["recall_at_1"] == 0
    assert figures["mean_cosine"] == pytest.approx(1)


def test_one_wording_is_one_text_and_several_passages_count() -> None:
    truth = truth_of([(QUERY, 0, 0, -1), (PASSAGE, 1, 0, -1), (QUERY, 0, 0, -1), (PASSAGE, 2, 0, -1), (PASSAGE, 1, 9, -1)])
    figures = retrieval.figures(circle(0, 10, 0, 20, 10), truth)
    assert (figures["queries"], figures["corpus"], figures["recall_at_1"], figures["recall_at_5"]) == (1, 2, 1, 1)
    assert figures["ndcg_at_10"] == pytest.approx(1)


def test_texts_of_classes_search_each_other_and_never_find_themselves() -> None:
    truth = truth_of([(TEXT, 0, -1, 0), (TEXT, 1, -1, 0), (TEXT, 2, -1, 1), (TEXT, 3, -1, 2)])
    found = retrieval.ranked(circle(0, 50, 10, 200), truth)
    assert found.queries.tolist() == [0, 1]  # the others are alone in their class
    assert found.first.tolist() == [2, 2]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    truth = truth_of([(TEXT, at, -1, int(draw.integers(5))) for at in range(60)])
    embedded = draw.normal(size=(60, 4)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    whole = retrieval.figures(embedded, truth)
    monkeypatch.setattr(retrieval, "_BLOCK", 130)
    assert retrieval.figures(embedded, truth) == pytest.approx(whole)


def test_recall_and_ndcg_are_those_of_a_plain_computation() -> None:
    draw = np.random.default_rng(1)
    truth = truth_of([(TEXT, at, -1, int(draw.integers(3))) for at in range(40)])
    embedded = draw.normal(size=(40, 3)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    found = retrieval.ranked(embedded, truth)
    for row, query in enumerate(found.queries):
        others = [at for at in np.argsort(-(embedded @ embedded[query]), kind="stable") if at != query]
        hits = np.array([truth["label"][at] == truth["label"][query] for at in others])
        ideal = np.sort(hits)[::-1]
        weights = 1 / np.log2(np.arange(10) + 2)
        assert found.figures[row, 0] == pytest.approx(1 / (1 + np.flatnonzero(hits)[0]))
        assert found.figures[row, 1] == pytest.approx((hits[:10] * weights).sum() / (ideal[:10] * weights).sum())
        assert found.figures[row, 3] == pytest.approx(hits[:5].sum() / min(5, hits.sum()))


def test_graded_pairs_have_a_correlation_and_an_area() -> None:
    truth = truth_of(
        [(QUERY, 0, 0, -1), (PASSAGE, 1, 0, -1), (QUERY, 2, 2, -1), (NEGATIVE, 3, 2, -1), (QUERY, 4, 4, -1), (PASSAGE, 5, 4, -1)]
    )
    truth["grade"][[1, 3, 5]] = [5, 0, 3]
    figures = retrieval.figures(circle(0, 5, 0, 80, 0, 40), truth)
    assert figures["spearman"] == pytest.approx(1)
    assert figures["auroc"] == 1


def test_intervals_hold_the_figures_and_are_over_queries() -> None:
    draw = np.random.default_rng(2)
    truth = truth_of([(TEXT, at, -1, int(draw.integers(4))) for at in range(50)])
    embedded = draw.normal(size=(50, 3)).astype(np.float32)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    figures, ends = retrieval.figures(embedded, truth), retrieval.intervals(embedded, truth, None)
    assert set(ends) == set(retrieval.FIGURES)
    assert all(low <= figures[name] <= high and low < high for name, (low, high) in ends.items())


# --- batches -------------------------------------------------------------------------------------


class Lengths:
    """A view of which only the lengths count."""

    def __init__(self, lengths: NDArray[np.int64] | None, count: int) -> None:
        self.lengths, self.count = lengths, count

    def __len__(self) -> int:
        return self.count


def planned(
    together: Together, size: int, lengths: NDArray[np.int64] | None = None, epoch: int = 0, share: Share | None = None
) -> list[Any]:
    tokens = None if lengths is None else 10_000
    batching = Batching(size=size, tokens=tokens, shuffle=True, together=together)
    return batching.plan(Lengths(lengths, len(together.unit)), epoch, share or Share())


@pytest.mark.parametrize("by_length", [False, True])
def test_pairs_stay_in_one_batch_and_equal_queries_come_in_different_ones(by_length: bool) -> None:
    unit, key = np.arange(200) // 2, np.arange(200) // 2 % 50  # every query twice
    lengths = np.random.default_rng(0).integers(3, 40, 200) if by_length else None
    plan = planned(Together(unit=unit, key=key), 20, lengths)
    assert sorted(np.concatenate(plan).tolist()) == list(range(200))
    for batch in plan:
        assert (np.unique(unit[batch], return_counts=True)[1] == 2).all()
    assert sum(len(set(key[batch].tolist())) == len(batch) // 2 for batch in plan) >= len(plan) - 1
    assert max(map(len, plan)) <= 20
    assert [batch.tolist() for batch in plan] != [batch.tolist() for batch in planned(Together(unit=unit, key=key), 20, lengths, epoch=1)]


def test_classes_come_in_pairs_and_few_classes_fill_batches_all_the_same() -> None:
    label = np.random.default_rng(0).integers(0, 2, 2000)
    plan = planned(Together(unit=label, most=2, key=label), 16)
    assert sorted(np.concatenate(plan).tolist()) == list(range(2000))
    assert len(plan) <= 126
    many = np.repeat(np.arange(40), 4)
    for batch in planned(Together(unit=many, most=2, key=many), 16)[:-2]:
        assert (np.unique(many[batch], return_counts=True)[1] == 2).all()


def test_ranks_get_equally_many_batches() -> None:
    together = Together(unit=np.arange(90) // 2, key=np.arange(90) // 2)
    first, second = (planned(together, 8, share=Share(rank=rank, world=2)) for rank in (0, 1))
    assert len(first) == len(second)
    assert not set(np.concatenate(first).tolist()) & set(np.concatenate(second).tolist())


# --- the loss ------------------------------------------------------------------------------------


def labels_of(truth: NDArray[Any]) -> Any:
    from pretune.labels import Labels

    return Labels({name: torch.from_numpy(truth[name].copy()) for name in TRUTH.names or ()})


def test_the_loss_of_pairs_is_the_cross_entropy_of_the_right_passage() -> None:
    truth = truth_of([entry for at in range(4) for entry in ((QUERY, 2 * at, 2 * at, -1), (PASSAGE, 2 * at + 1, 2 * at, -1))])
    embedded = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    similar = embedded[::2] @ embedded[1::2].T / 0.1
    goal = torch.arange(4)
    both = (torch.nn.functional.cross_entropy(similar, goal) + torch.nn.functional.cross_entropy(similar.T, goal)) / 2
    assert contrastive_loss(embedded, labels_of(truth), 0.1).item() == pytest.approx(both.item(), rel=1e-5)


def test_duplicates_and_other_positives_are_no_negatives() -> None:
    truth = truth_of(
        [(QUERY, 0, 0, -1), (PASSAGE, 1, 0, -1), (PASSAGE, 2, 0, -1), (PASSAGE, 1, 5, -1), (PASSAGE, 0, 7, -1), (NEGATIVE, 3, 0, -1)]
    )
    belongs, differs = relations(labels_of(truth))
    assert belongs[0].tolist() == [False, True, True, True, False, False]
    assert differs[0].tolist() == [False, False, False, False, False, True]
    classes = truth_of([(TEXT, 0, -1, 0), (TEXT, 1, -1, 0), (TEXT, 2, -1, 1)])
    belongs, differs = relations(labels_of(classes))
    assert belongs.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert differs[2].tolist() == [True, True, False]


def test_a_batch_without_a_pair_has_no_loss_and_finite_gradients() -> None:
    embedded = torch.nn.functional.normalize(torch.randn(2, 3), dim=1).requires_grad_()
    loss = contrastive_loss(embedded, labels_of(truth_of([(TEXT, 0, -1, 0), (TEXT, 1, -1, 1)])), 0.05)
    loss.backward()
    assert loss.item() == 0
    assert embedded.grad is not None
    assert torch.isfinite(embedded.grad).all()


# --- the task ------------------------------------------------------------------------------------


def test_the_head_begins_as_the_identity() -> None:
    x = torch.randn(3, 6)
    module = Projection().build(6, 1)
    module.fit(torch.randn(50, 6) * 7 + 3)
    assert torch.allclose(module(Features(tensor=x, layout="pooled")), torch.nn.functional.normalize(x, dim=1))
    task = Retrieval()
    assert isinstance(task.head(None), Projection)
    with pytest.raises(SettingError, match="head=projection"):
        task.head(MLP())


def rows_of(pairs: list[tuple[str, str]]) -> list[Row]:
    rows = []
    for at, (query, passage) in enumerate(pairs):
        rows.append(Row(id=f"{at} (query)", text=(query,), target=Related(role="query", pair=str(at))))
        rows.append(Row(id=f"{at} (passage)", text=(passage,), target=Related(role="passage", pair=str(at))))
    return rows


def test_queries_are_shown_with_their_nearest_texts_marked() -> None:
    rows = rows_of([("one", "first"), ("two", "second")])
    described = Retrieval().describe(circle(0, 70, 80, 75), EmbeddingSpace(), rows, Text())
    assert described[1] == described[3] == {}
    assert [described[at]["prediction"] for at in (0, 2)] == ["0", "1"]
    wrong = Retrieval().describe(circle(0, 70, 80, 20), EmbeddingSpace(), rows, Text())[0]
    assert (wrong["prediction"], wrong["rank"]) == ("1", 2)
    row = {**{key: str(value) for key, value in wrong.items()}, "target": "0"}
    assert Retrieval().badness(row) == 0.5
    assert Retrieval().badness(row | {"rank": "4"}) == 0.75
    lines = Retrieval().compare(row, "")
    assert [(line.name, line.passages[0].text, line.passages[0].mark) for line in lines] == [
        ("query", "one", ""), ("nearest 1", "second", "wrong"), ("nearest 2", "first", "right"),
    ]  # fmt: skip


def test_equal_queries_come_in_different_batches() -> None:
    task = Retrieval()
    together = task.together(task.encode(rows_of([("one", "a"), ("One", "b"), ("two", "c")]), EmbeddingSpace(), Text()))
    assert together.unit.tolist() == [0, 0, 1, 1, 2, 2]
    assert together.key is not None
    assert together.key.tolist() == [0, 0, 0, 0, 3, 3], "by the wording of the query"


def test_the_setting_temperature_reaches_the_loss() -> None:
    task, rows = Retrieval(temperature=0.5), rows_of([("one", "a"), ("two", "b")])
    labels = task.encode(rows, EmbeddingSpace(), Text())
    embedded = torch.from_numpy(circle(0, 30, 80, 60))
    loss = task.loss(EmbeddingSpace(), labels, LossSettings())
    assert float(loss(embedded, labels)) == pytest.approx(float(contrastive_loss(embedded, labels, 0.5)))


def test_predicted_embeddings_have_length_one() -> None:
    assert np.linalg.norm(Retrieval().decode(torch.tensor([[3.0, 4.0], [0.5, 0.0]]), EmbeddingSpace()), axis=1) == pytest.approx([1, 1])


def test_baselines_are_weighted_by_training(monkeypatch: pytest.MonkeyPatch) -> None:
    task, fitted = Retrieval(), []
    real = Text.fit_baseline_features
    monkeypatch.setattr(Text, "fit_baseline_features", lambda self, texts: fitted.append(list(texts)) or real(self, texts))
    train, held_out = rows_of([("the a", "the b"), ("a c", "the d")]), rows_of([("the owl", "an owl"), ("the cat", "a cat")])
    examples = [
        Examples(rows=rows, truth=task.truth(task.encode(rows, EmbeddingSpace(), Text()), EmbeddingSpace())) for rows in (train, held_out)
    ]
    assert set(task.floors(examples[0], examples[1], EmbeddingSpace(), None)) == {"random", "tf-idf"}
    assert fitted == [["the a", "the b", "a c", "the d"]]


def test_equal_wordings_are_one_in_labels() -> None:
    labels = Retrieval().encode(rows_of([("One  Text", "a"), ("one text", "b")]), EmbeddingSpace(), Text())
    assert isinstance(labels["text"], torch.Tensor)
    assert labels["text"].tolist() == [0, 1, 0, 2]
    assert isinstance(labels["anchor"], torch.Tensor)
    assert labels["anchor"].tolist() == [0, 0, 0, 0]


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(DataError, match="1 pair"):
        Retrieval().fit(rows_of([("a", "b")]), ())
    alone = [Row(id=str(at), text=("x",), target=Related(label=str(at))) for at in range(3)]
    with pytest.raises(DataError, match="a class each"):
        Retrieval().fit(alone, ())


def test_the_loss_of_guessing_is_the_logarithm_of_what_there_is_to_choose_from() -> None:
    entries = [entry for at in range(4) for entry in ((QUERY, 2 * at, 2 * at, -1), (PASSAGE, 2 * at + 1, 2 * at, -1))]

    class Same(torch.nn.Module):
        def forward(self, inputs: Features, start: int) -> torch.Tensor:
            return torch.nn.functional.normalize(inputs.tensor, dim=1)

    learner = RetrievalLearner(Same(), lambda outputs, targets: contrastive_loss(outputs, targets, 0.05))  # type: ignore[arg-type]
    inputs = Features(tensor=torch.randn(8, 3), layout="pooled")
    out = learner(Batch(inputs=inputs, labels=labels_of(truth_of(entries)), index=torch.arange(8)))
    assert out.logs["guessing_loss"] == pytest.approx(np.log(4))


def test_embeddings_that_tell_nothing_apart_are_reported() -> None:
    def course(*losses: float) -> list[dict[str, Any]]:
        return [
            {"event": "stepped", "phase": "all", "step": at, "loss": loss, "logs": {"guessing_loss": 3.0}} for at, loss in enumerate(losses)
        ]

    assert undistinguished({"mrr": 0.5, "mean_cosine": 0.2}, course(*np.linspace(3, 0.4, 20)), "val") == ""
    assert "mean cosine of two val texts is 0.97" in undistinguished({"mrr": 0.1, "mean_cosine": 0.97}, course(*[0.4] * 20), "val")
    assert "stays at 2.98, and guessing among the texts of a batch gives 3" in undistinguished({}, course(*[2.98] * 20), "val")
    assert undistinguished({}, course(*[2.98] * 4), "val") == "", "the learning rate has hardly risen"
    stuck = diagnose(course(*[2.98] * 20), {"primary": {"name": "mrr", "split": "val"}, "val": {"mrr": 0.1}}, {}, {})
    assert any("nothing was learned" in sentence for sentence in stuck)


def test_pairs_that_are_no_evidence_are_reported_before_training() -> None:
    def found(pairs: list[tuple[str, str]]) -> list[str]:
        rows = [dataclasses.replace(row, split="train") for row in rows_of(pairs)]
        return [finding.message for finding in Retrieval().findings(rows, EmbeddingSpace())]

    different = [(f"question {at}", f"answer {at}") for at in range(20)]
    assert found(different) == []
    (same,) = found([*different, ("An  answer", "an answer")])
    assert same.startswith("1 of 21 pairs have the same text on both sides (the first: 20 (query))")
    (common,) = found([*different, *((f"another {at}", "Yes.") for at in range(5))])
    assert common.startswith("5 of 25 training pairs have the passage 'yes.' (21 different passages in all)")


def test_embeddings_are_written_as_arrays_with_their_ids(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = [{"id": "a", "embedding": [1.0, 0.0]}, {"id": "b", "error": "the text is empty"}, {"id": "c", "embedding": [0.6, 0.8]}]
    assert "3 embeddings of 2 numbers" in embeddings.write(rows, tmp_path / "x.npy")
    array = np.load(tmp_path / "x.npy")
    assert (array.dtype, array[[0, 2]].tolist()) == (np.float32, [[1, 0], [np.float32(0.6), np.float32(0.8)]])
    assert np.isnan(array[1]).all()
    assert (tmp_path / "x.npy.ids.csv").read_text() == "id,error\na,\nb,the text is empty\nc,\n"
    embeddings.write(rows, tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["id"] == ["a", "b", "c"]
    assert [None if one is None else len(one) for one in table["embedding"]] == [2, None, 2]
    assert table["error"] == [None, "the text is empty", None]
    with pytest.raises(SettingError, match="no embeddings"):
        embeddings.write([{"id": "a", "prediction": "x"}], tmp_path / "y.npy")
    with pytest.raises(SettingError, match="none of the inputs could be read"):
        embeddings.write([{"id": "a", "error": "empty"}], tmp_path / "y.npy")


def test_the_nearest_texts_of_a_corpus_are_found_and_errors_stay() -> None:
    rows = [Row(id="a", text=("first",)), Row(id="b", text=("second",)), Row(id="c", text=("third",))]
    answers = [{"id": "a", "embedding": [1.0, 0.0]}, {"id": "b", "error": "empty"}, {"id": "c", "embedding": [0.0, 1.0]}]
    corpus = SearchedTexts.embed(rows, answers)
    near, bad = corpus.search([{"id": "q", "embedding": [0.6, 0.8]}, {"id": "r", "error": "empty"}])
    assert (near["prediction"], near["confidence"]) == ("c", pytest.approx(0.8))
    assert [one["text"] for one in near["nearest"]] == ["third", "first"]
    assert bad == {"id": "r", "error": "empty"}
    with pytest.raises(SettingError, match="task=retrieval"):
        SearchedTexts.embed(rows[:1], [{"id": "a", "prediction": "x"}])


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        names = [f"{a} {b}" for a in ("red", "old", "big", "new") for b in ("ship", "lamp", "door", "book", "coat", "bird")]
        csv.writer(file).writerows([("anchor", "positive"), *((f"how is a {one} made", f"a guide to every {one}") for one in names)])
    (tmp_path / "queries.txt").write_text("how is a red ship made\nsomething else\n")
    train, predict, arrays = (line.split() for line in commands(ROOT / "docs" / "tasks" / "retrieval.md"))
    toy = ("backbone=scratch:transformer,width=16,layers=1,heads=2", "strategy=scratch", "threads=1", "precision=float32", "--offline")
    pretune(*(word for word in train if not word.startswith("strategy=")), *toy)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["task"] == "retrieval"
    assert metrics["primary"]["name"] == "mrr"
    assert set(metrics["floors"]) == {"random", "tf-idf"}
    assert metrics["val"]["queries"] * 2 == metrics["counts"]["val"]
    assert "nearest 1" in (tmp_path / "run" / "report.html").read_text()
    pretune(*arrays)
    found = json.loads(pretune(*predict, "--json").stdout)["predictions"]
    assert [len(one["nearest"]) for one in found] == [10, 10]
    assert all(one["text"].startswith("a guide") for one in found[0]["nearest"])
    embedded = pretune("predict", "run", "queries.txt").stdout.splitlines()
    assert len(embedded[1].split(",")[1].split()) == 16
    array, run = np.load(tmp_path / "embeddings.npy"), Run(path=tmp_path / "run")
    assert run.embed(["how is a red ship made", "something else"]) == pytest.approx(array, abs=1e-5)
    with pytest.raises(DataError, match="text 1 of 2"):
        run.embed(["a ship", ""])
