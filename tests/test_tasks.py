"""Tasks of another package: one file each, from the label column to the report, through the real command line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from pretune import registry
from pretune.architectures.layers.dense import DenseHead, DenseShape
from pretune.deploy import _sections
from pretune.errors import SettingError
from pretune.evaluation.intervals import of_sums
from pretune.evaluation.metrics import better, is_error
from pretune.evaluation.sums import Sums, ratio
from pretune.labels import Labels, Ragged
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.modalities.text import Text
from pretune.models.dense.kept import kept
from pretune.runner import interrupt
from pretune.sources.boxes import Box, Boxes
from pretune.sources.classes import count
from pretune.sources.conversation import SUMMARISATION, TEXT_GENERATION, Conversation, Turn
from pretune.sources.preferences import PREFERENCES, Preference
from pretune.sources.related import Related
from pretune.sources.table import Table
from pretune.sources.tags import target_of
from pretune.sources.target_type import NUMBER, ONE_CLASS, SEVERAL_CLASSES, TargetType
from pretune.sources.targets import classes_of
from pretune.sources.transcripts import Transcript
from pretune.sources.words import joined
from pretune.tasks import Examples, LossSettings, Space, Task, named
from pretune.tasks._teaching import TOKENS
from pretune.tasks.classification import Classification
from pretune.tasks.dpo import DPO
from pretune.tasks.summarisation import Summarisation
from pretune.tasks.text_generation import TextGeneration
from pretune.types import Row, Structured
from tests import spoken_data
from tests.command_line import pretune
from tests.plugins.word_tags import NONE, WordTags, first_tokens
from tests.test_docs import ROOT, blocks

POINTS = """
[pretune.tasks]
ordinal = ordinal_of_the_page:Ordinal
word_tags = tests.plugins.word_tags:WordTags
"""
LSTM = "backbone=scratch:lstm,embedding=24,hidden=24,bidirectional=true,dropout=0"
QUICK = ("precision=float32", "threads=1", "--offline", "--json")
PLACES, PEOPLE, OTHERS = ("paris", "rome", "lima", "oslo"), ("anna", "jack", "mary", "omar"), ("house", "train", "market", "song")
BOTH = ("washington", "lincoln", "paris", "houston", "sydney", "florence")
"""Names that only the word before them decides."""


@pytest.fixture
def installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with the task of the guide and that of tests/plugins, as pip would install it."""
    site = home / "site"
    (site / "tasks_of_others-1.0.dist-info").mkdir(parents=True)
    (site / "ordinal_of_the_page.py").write_text(blocks(ROOT / "docs" / "extend" / "task.md")[0])
    (site / "tasks_of_others-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    (site / "tasks_of_others-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tasks-of-others\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    registry._plugins.cache_clear()
    yield home
    sys.modules.pop("ordinal_of_the_page", None)
    registry._plugins.cache_clear()


def table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def sentence(draw: random.Random) -> tuple[str, str]:
    """Return a text and its tags; a name after 'in' is a place, after 'met' a person."""
    words: list[tuple[str, str]] = []
    for _ in range(draw.randint(1, 3)):
        before, tag = draw.choice((("in", "place"), ("met", "person"), ("the", "O")))
        names = OTHERS if tag == "O" else (*BOTH, *(PLACES if tag == "place" else PEOPLE))
        words += [("we", "O"), (before, "O"), (draw.choice(names), tag)]
    return " ".join(word for word, _ in words), " ".join(tag for _, tag in words)


def interrupted(words: tuple[str, ...], run: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command that is asked to stop after so many steps of training, and return the last line it prints."""
    steps = iter(range(10**6))
    with monkeypatch.context() as patched:
        patched.setattr(interrupt, "is_asked", lambda: any(run.glob("checkpoints/*")) and next(steps) >= after)
        return pretune(*words, code=130).stderr.strip().splitlines()[-1]


# --- an ordinal task -----------------------------------------------------------------------------


def test_an_ordinal_task_goes_from_a_column_to_a_report(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    degrees = {"cold": ("ice", "snow", "frost"), "mild": ("cloud", "breeze", "drizzle"), "warm": ("sun", "beach", "melon")}
    rows = [[" ".join(draw.choices((*degrees[name], "day", "and"), k=6)) + f" {i}", name] for i in range(60) for name in degrees]
    table(installed / "weather.csv", ["text", "label"], rows)
    words = ("finetune", "weather.csv", "task=ordinal", "task.order=cold,mild,warm", "backbone=scratch:textcnn,embedding=16", *QUICK)
    metrics = json.loads(pretune(*words, "epochs=6", "lr=0.01", "out=run").stdout)
    assert metrics["task"] == "ordinal"
    assert metrics["classes"] == ["cold", "mild", "warm"], "in their own order"
    assert metrics["primary"] == {"name": "rank_error", "value": metrics["val"]["rank_error"], "split": "val", "higher_is_better": False}
    low, high = metrics["val"]["interval"]["rank_error"]
    assert low <= metrics["val"]["rank_error"] <= high
    assert {"rank_error", "accuracy"} <= metrics["val"]["interval"].keys()
    assert list(metrics["floors"]) == ["majority", "classical"]
    assert metrics["val"]["rank_error"] < 0.3 < metrics["floors"]["majority"]["value"]
    page = (installed / "run" / "report.html").read_text()
    assert "rank error" in page
    assert "baseline: classical" in page

    told = list(csv.DictReader(io.StringIO(pretune("predict", "run", "weather.csv").stdout)))
    assert len(told) == 180
    assert sum(row["prediction"] == wanted for row, (_, wanted) in zip(told, rows, strict=True)) > 150
    again = json.loads(pretune("evaluate", "run", "weather.csv", "--json").stdout)
    assert (again["task"], again["primary"]["name"], again["counts"]["used"]) == ("ordinal", "rank_error", 180)
    assert len(again["primary"]["interval"]) == 2

    last = interrupted((*words, "epochs=6", "lr=0.01", "out=cut"), installed / "cut", 9, monkeypatch)
    assert "resume=true" in last
    resumed = pretune(*words, "epochs=6", "lr=0.01", "out=cut", "resume=true")
    assert "resuming" in resumed.stderr
    assert json.loads(resumed.stdout)["val"] == metrics["val"]


def test_what_an_ordinal_task_cannot_have_is_one_sentence(installed: Path) -> None:
    table(installed / "d.csv", ["text", "label"], [[f"text number {i} {'ab'[i % 2]}", "ab"[i % 2]] for i in range(40)])
    scratch = ("backbone=scratch:textcnn,embedding=8", "epochs=1")
    told = pretune("finetune", "d.csv", "task=ordinal", "task.order=a,c", *scratch, *QUICK, code=2).stderr
    assert "task.order must name each class once: a,b; got a,c." in told
    told = pretune("finetune", "d.csv", "task=ordinal", "class_weights=true", *scratch, *QUICK, code=2).stderr
    assert "class_weights is not used by task=ordinal" in told
    told = pretune("finetune", "d.csv", "task=ordinal", "strategy=direct", scratch[0], *QUICK, code=2).stderr
    assert (
        "strategy=direct computes the head without training, which task=ordinal has no formula for. Choose strategy=linear_probe." in told
    )


# --- token classification ------------------------------------------------------------------------


def tagged(path: Path, count: int) -> list[list[str]]:
    draw = random.Random(1)
    rows = [[*sentence(draw), "val" if i % 4 == 0 else "train"] for i in range(count)]
    table(path, ["text", "tags", "split"], [*rows, ["we met anna", "O O", "train"], ["we met jack", "", "train"]])
    return rows


def test_token_classification_goes_from_a_column_to_a_report(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tagged(installed / "names.csv", 240)
    words = ("finetune", "names.csv", "label=tags", "task=word_tags", LSTM, "epochs=16", "lr=0.03", *QUICK)
    metrics = json.loads(pretune(*words, "out=run").stdout)
    assert (metrics["task"], metrics["primary"]["name"], metrics["classes"]) == (
        "word_tags",
        "macro_f1",
        ["O", "person", "place"],
    )
    held = metrics["val"]
    low, high = held["interval"]["macro_f1"]
    assert low <= held["macro_f1"] <= high
    assert {"accuracy", "text_accuracy"} <= held["interval"].keys()
    assert sum(row["support"] for row in held["per_class"].values()) == sum(len(text.split()) for text, _, part in rows if part == "val")
    assert list(metrics["floors"]) == ["majority", "lexicon"]
    assert held["macro_f1"] > 0.97 > metrics["floors"]["lexicon"]["value"] > metrics["floors"]["majority"]["value"]
    ledger = {row["reason"]: row["detail"] for row in csv.DictReader((installed / "run" / "ledger.csv").open())}
    assert ledger["other_tags"].endswith("has 2 tags for 3 words")
    assert "no tags" in ledger["blank_label"]
    page = (installed / "run" / "report.html").read_text()
    assert "baseline: lexicon" in page
    assert "macro-F1" in page

    scored = list(csv.DictReader((installed / "run" / "predictions.csv").open()))
    assert [row["target"] for row in scored] == [tags for _, tags, part in rows if part == "val"]
    table(installed / "new.csv", ["text"], [["we met florence"], ["we in florence"]])
    told = json.loads(pretune("predict", "run", "new.csv", "--json").stdout)["predictions"]
    assert [row["prediction"] for row in told] == ["O O person", "O O place"]
    assert told[0]["words"][2] == {"word": "florence", "tag": "person"}
    again = json.loads(pretune("evaluate", "run", "names.csv", "part=val", "--json").stdout)
    table(installed / "upper.csv", ["text", "tags"], [[text, tags.upper()] for text, tags, part in rows if part == "val"])
    upper = json.loads(pretune("evaluate", "run", "upper.csv", "--json").stdout)
    assert upper["metrics"] == again["metrics"], "the tags of other letter case are read as those of the run, each at its place"
    assert again["metrics"]["macro_f1"] == pytest.approx(held["macro_f1"])
    assert again["primary"]["interval"] == pytest.approx(held["interval"]["macro_f1"])

    interrupted((*words, "out=cut"), installed / "cut", 12, monkeypatch)
    resumed = pretune(*words, "out=cut", "resume=true")
    assert "resuming" in resumed.stderr
    assert json.loads(resumed.stdout)["val"] == held

    probe = ("finetune", "names.csv", "label=tags", "task=word_tags", "backbone=run:run", "strategy=linear_probe", "epochs=20")
    done = pretune(*probe, *QUICK, "out=probe")
    assert json.loads(done.stdout)["val"]["macro_f1"] > 0.97, "the head alone, on cached features of every position"
    assert "features_precision" in json.loads(done.stdout)


def test_what_token_classification_cannot_have_is_one_sentence(installed: Path) -> None:
    tagged(installed / "names.csv", 30)
    words = ("finetune", "names.csv", "label=tags", "task=word_tags", "epochs=1", *QUICK)
    told = pretune(*words, LSTM, "pooling=mean", code=2).stderr
    assert "pooling is not used by task=word_tags, whose head takes the sequence as it is" in told
    from tests.test_flows import folder

    folder(installed / "photos", 4)
    told = pretune("finetune", "photos", "task=word_tags", "backbone=scratch:cnn", *QUICK, code=2).stderr.splitlines()[-1]
    assert "none of the 8 labels goes with its example. The first: disc/0.png has 1 tags for 0 words." in told


def test_tags_stand_at_the_first_token_of_each_word_and_what_is_cut_off_has_none() -> None:
    rows = [Row(id="a", text=("we met jack-o'-lantern, in oslo",), target=("O", "O", "person", "O", "place"))]
    text = Text(units="piece", vocabulary=300).learned_from(["we met jack in oslo"])
    for limit in (64, 8):
        short = dataclasses.replace(text, max_tokens=limit)
        stored = short.decode(rows[0].text or ())
        spans = short.spans("we met jack-o'-lantern, in oslo")
        assert len(spans) == len(stored.array)
        places, length = first_tokens(rows[0], short)
        assert length == len(stored.array) <= limit
        (labels,) = WordTags().encode(rows, Space(classes=("O", "person", "place")), short).tensors.values()
        assert isinstance(labels, Ragged)
        wanted = {place: {"O": 0, "person": 1, "place": 2}[(rows[0].target or ())[word]] for word, place in places.items()}  # type: ignore[index]
        assert labels.values.tolist() == [wanted.get(place, NONE) for place in range(length)]
    assert len(first_tokens(rows[0], text)[0]) == 5 > len(places)


def test_a_ragged_batch_has_the_loss_of_its_words() -> None:
    task, space = WordTags(), Space(classes=("O", "x"))
    labels = Labels.of(Ragged.of([torch.tensor([0, 1, NONE]), torch.tensor([1])]))
    outputs = torch.randn(2, 5, 2)
    found = task.loss(space, labels, SimpleNamespace(class_weights=False))(outputs, labels)
    words = torch.stack([outputs[0, 0], outputs[0, 1], outputs[1, 0]])
    assert torch.allclose(found, torch.nn.functional.cross_entropy(words, torch.tensor([0, 1, 1])))


# --- what every task must do ---------------------------------------------------------------------


def tagged_rows() -> tuple[list[Row], Any]:
    """Return texts with entities, as token classification reads them."""
    marks = [("O", "B-x"), ("O", "B-x", "I-x"), ("B-y",), ("B-x", "O", "B-y", "I-y")] * 6
    rows = []
    for i, tags in enumerate(marks):
        text, words = joined([f"{'abcd'[k]}" for k in range(len(tags))])
        rows.append(Row(id=str(i), text=(text,), words=words, target=target_of(tags, words, "iob2"), group=f"g{i // 2}"))
    return rows, Text(units="word", vocabulary=50).learned_from([row.text[0] for row in rows if row.text])


def spoken_rows() -> tuple[list[Row], Any]:
    """Return transcripts, as speech recognition reads them."""
    texts = ["lo hi lo", "hi lo", "mid", "lo mid hi hi"] * 6
    return [Row(id=str(i), target=Transcript(text), group=f"g{i // 2}") for i, text in enumerate(texts)], Audio(seconds=1.0)


def written_rows() -> tuple[list[Row], Any]:
    """Return transcripts, and a tokenizer to write them with."""
    return spoken_rows()[0], Audio(seconds=1.0, tokenizer=spoken_data.tokenizer())


class Picture:
    """An image that lies in no file."""

    def __init__(self, shade: int) -> None:
        self.shade = shade

    def read_bytes(self) -> bytes:
        """Return a PNG of 48 x 32 pixels."""
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (48, 32), (self.shade, 80, 80)).save(buffer, "PNG")
        return buffer.getvalue()


def boxed_rows() -> tuple[list[Row], Any]:
    """Return images with boxes, as detection reads them."""
    disc, square, crowd = Box("disc", 4, 4, 20, 20), Box("square", 24, 8, 40, 30), Box("square", 1, 2, 30, 30, ignored=True)
    targets = [Boxes(boxes, 48, 32) for boxes in ((disc,), (disc, square), (), (square, crowd))] * 6
    rows = [Row(id=str(i), path=Picture(7 * i), target=target, group=f"g{i // 2}") for i, target in enumerate(targets)]
    return rows, Image(size=64, resize=64, fit="pad")


def network_outputs(task: Task, labels: Labels, space: Space) -> tuple[torch.Tensor, Any, Any]:
    """Return parameters, the raw outputs that they give in training, and those of a prediction."""
    count = task.outputs(space)
    if task.layout == "pyramid":
        head = DenseHead(DenseShape(channels=(4, 8), strides=(8, 16), width=8), count)
        dense = head([torch.randn(labels.size, 4, 8, 8), torch.randn(labels.size, 8, 4, 4)])
        return next(head.lateral.parameters()), dense, kept(dense, 64)
    if task.layout != "sequence" or "rejected" in labels.tensors:  # of a pair of texts: likelihoods
        raw = torch.randn(labels.size, 4 if "rejected" in labels.tensors else count, requires_grad=True)
        return raw, raw, raw.detach()
    lengths = next(one.lengths for one in labels.tensors.values() if isinstance(one, Ragged))
    if isinstance(tokens := labels.tensors.get(TOKENS), Ragged):
        raw = torch.randn(len(tokens.values), int(tokens.values.max()) + 1, requires_grad=True)
        return raw, raw, Ragged(values=97 + 3 * torch.rand(len(tokens.values), count), lengths=tokens.lengths)
    raw = torch.randn(labels.size, int(lengths.max()), count, requires_grad=True)
    return raw, raw, Ragged.unpadded(raw.detach(), torch.arange(raw.shape[1]) < lengths[:, None])


def learned(labels: Labels) -> Any:
    """What a loss gets of labels: where a text is taught token by token, the tokens."""
    return tokens.values if isinstance(tokens := labels.tensors.get(TOKENS), Ragged) else labels.value


def prompt_rows() -> tuple[list[Row], Any]:
    """Return rendered prompts with answers, and a tokenizer of letters."""
    pairs = [("say a", "a b"), ("say b", "b a"), ("say c", "c d e"), ("say d", "d")] * 6
    turns = [Conversation(turns=(Turn("user", prompt), Turn("assistant", answer))) for prompt, answer in pairs]
    rows = [Row(id=str(i), text=(pairs[i][0],), target=turns[i], group=f"g{i // 2}") for i in range(len(pairs))]
    table = Table(rows=rows, modality="text", target_type=TEXT_GENERATION, root=Path(), layout="")
    modality = TextGeneration().render(table, Text(units="character", vocabulary=50))
    return table.rows, modality


def preference_rows() -> tuple[list[Row], Any]:
    """Return rendered prompts, each with a preferred and a rejected answer, and a tokenizer of letters."""
    pairs = [("say a", "a b", "b"), ("say b", "b a", "c c"), ("say c", "c d e", "d"), ("say d", "d", "a")] * 6
    rows = [
        Row(
            id=str(i),
            text=(prompt,),
            target=Preference(turns=(Turn("user", prompt), Turn("assistant", preferred)), rejected=rejected),
            group=f"g{i // 2}",
        )
        for i, (prompt, preferred, rejected) in enumerate(pairs)
    ]
    table = Table(rows=rows, modality="text", target_type=PREFERENCES, root=Path(), layout="")
    modality = DPO().render(table, Text(units="character", vocabulary=50))
    return table.rows, modality


def summarised_rows() -> tuple[list[Row], Any]:
    """Return rendered documents with summaries, and a tokenizer of letters."""
    pairs = [("say a. b", "a"), ("say b. c", "b"), ("say c. d", "c d"), ("say d. e", "d")] * 6
    turns = [Conversation(turns=(Turn("user", document), Turn("assistant", summary))) for document, summary in pairs]
    rows = [Row(id=str(i), text=(pairs[i][0],), target=turns[i], group=f"g{i // 2}") for i in range(len(pairs))]
    table = Table(rows=rows, modality="text", target_type=SUMMARISATION, root=Path(), layout="")
    modality = Summarisation().render(table, Text(units="character", vocabulary=50))
    return table.rows, modality


EXAMPLES: dict[str, list[Any]] = {
    "class": ["a", "b", "c", "b"] * 6,
    "classes": [("a",), ("a", "b"), (), ("b",)] * 6,
    "number": [1.0, 2.5, -3.0, 40.0] * 6,
    "own": [("O", "O"), ("O", "x", "O"), ("x",), ("O", "O", "x", "O")] * 6,
}
"""Targets by the form of the type that a task reads."""


def related_rows() -> tuple[list[Row], Any]:
    rows = [Row(id=str(at), text=(f"text {at}",), target=Related(label="abacbcab"[at]), group=f"g{at // 2}") for at in range(8)]
    return rows, Text()


OWN: dict[str, Callable[[], tuple[list[Row], Any]]] = {
    "token_classification": tagged_rows,
    "detection": boxed_rows,
    "speech_recognition": spoken_rows,
    "speech_seq2seq": written_rows,
    "text_generation": prompt_rows,
    "dpo": preference_rows,
    "summarisation": summarised_rows,
    "retrieval": related_rows,
}
"""Rows of tasks with targets of a form of their own, each with the preprocessing; four different targets, the first two rows right."""


def examples(task: Task) -> tuple[list[Row], Any]:
    """Return rows with targets of the task's form, each word of a text standing for one tag, and the preprocessing."""
    if (name := registry.name_of(task)) in OWN:
        return OWN[name]()
    targets = EXAMPLES[task.reads.form]
    words = [" ".join("abcdefgh"[k] for k in range(len(t) if isinstance(t, tuple) and t else 1)) for t in targets]
    rows = [Row(id=str(i), text=(text,), target=t, group=f"g{i // 2}") for i, (text, t) in enumerate(zip(words, targets, strict=True))]
    return rows, Text(units="word", vocabulary=50).learned_from(words)


def same(one: Any, other: Any) -> bool:
    """Return whether two truths are equal: arrays, or several of them."""
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return all(map(same, one, other)) if isinstance(one, tuple) else np.array_equal(one, other)


@pytest.mark.parametrize("name", [*registry.names("tasks"), "word_tags", "ordinal"])
def test_a_task_keeps_the_contract(name: str, installed: Path) -> None:
    task: Task = registry.load("tasks", name)()
    rows, modality = examples(task)
    space = task.fit(rows, classes_of([row.target for row in rows]))
    assert type(space).from_json(json.loads(json.dumps(space.to_json()))) == space
    assert [task.reads.fault(row) for row in rows] == [None] * len(rows)
    assert len(task.reads.strata(rows)) == len(rows)

    labels = task.encode(rows, space, modality)
    assert labels.size == len(rows)
    some = torch.tensor([5, 0, 2])
    for one, alone in zip(task.truth(labels.take(some), space), (task.truth(labels, space)[i] for i in some), strict=True):
        assert same(one, alone)
    parameters, raw, outputs = network_outputs(task, labels, space)
    loss = task.loss(space, labels, LossSettings())(raw, learned(labels))
    loss.backward()
    assert parameters.grad is not None
    assert bool(parameters.grad.abs().sum() > 0)

    decoded, truth = task.decode(outputs, space), task.truth(labels, space)
    figures = task.metrics(decoded, truth, space)
    assert isinstance(figures[task.monitored], float)
    assert task.higher_is_better != is_error(task.primary)
    for groups in (None, np.array([row.group for row in rows])):
        found = task.intervals(decoded, truth, space, groups)
        assert task.monitored in found
        assert all(low <= figures[metric] <= high for metric, (low, high) in found.items())
    held = Examples(rows=rows, truth=truth)
    floors = task.floors(held, held, space, None)
    assert floors
    assert all(floor["what"] and task.primary in floor for floor in floors.values())
    told = task.describe(decoded, space, rows, modality)
    assert [isinstance(row["prediction"], str | float) for row in told] == [True] * len(rows)
    assert json.loads(json.dumps(told)) == told
    shown = [str(task.shown(row.target)) for row in rows]
    assert [task.badness({"target": target, "prediction": target, "confidence": "0.9", "margin": "1"}) for target in shown] == [0] * len(
        rows
    )
    other = "O x" if name == "word_tags" else shown[3]
    target = "O O" if name == "word_tags" else shown[0]
    assert task.badness({"target": target, "prediction": other, "confidence": "0.9", "margin": "-1"}) > 0
    assert len(task.captions(labels, space)) == len(rows)


def test_a_target_of_several_parts_is_known_by_the_classes_in_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Things(Structured):
        boxes: tuple[tuple[str, int, int], ...]

        @property
        def names(self) -> tuple[str, ...]:
            return tuple(name for name, *_ in self.boxes)

    rows = [Row(id=str(i), target=Things((("cat", i, 2), ("dog", 1, i), ("cat", 3, 3)))) for i in range(2)]
    assert classes_of([row.target for row in rows]) == ("cat", "dog")
    assert count(rows) == {"cat": 4, "dog": 2}
    assert TargetType().strata(rows) == [("cat", "dog")] * 2
    assert TargetType().renamed(rows[0].target, {"cat": "tiger"}) == rows[0].target
    assert len({row.target for row in rows}) == 2


def test_tags_keep_their_places_when_classes_are_renamed_and_sets_of_classes_lose_doubles() -> None:
    names = {"A": "a"}
    assert TargetType().renamed(("A", "a", "b"), names) == ("a", "a", "b")
    assert SEVERAL_CLASSES.renamed(("A", "a", "b"), names) == ("a", "b")
    assert (ONE_CLASS.renamed("A", names), NUMBER.renamed(2.0, names)) == ("a", 2.0)


def test_the_report_shows_whatever_a_task_measures_of_each_class() -> None:
    held = {"per_class": {"cat": {"average_precision": 0.5, "boxes": None}, "dog": {"average_precision": None, "boxes": 3}}}
    section = _sections.classes({"primary": {"split": "val"}}, held)
    assert section is not None
    assert section["columns"] == ["average precision", "boxes"]
    assert [row["cells"] for row in section["rows"]] == [["0.500", "–"], ["–", "3"]]


# --- the base class ------------------------------------------------------------------------------


def test_a_task_that_changes_outputs_of_another_has_no_linear_model_unless_it_says_so() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Renamed(Classification):
        """Nothing else."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Fewer(Classification):
        """One output fewer."""

        def outputs(self, space: Any) -> int:
            return len(space.classes) - 1

    assert (Renamed().linear, Fewer().linear, Fewer().baseline) == ("softmax", None, "softmax")
    assert Renamed().target_type.task == "renamed"
    assert Renamed().target_type.form == "class"


@pytest.mark.parametrize("method", ["fit", "encode", "outputs", "loss", "decode", "metrics", "describe"])
def test_what_a_task_must_define_is_said(method: str) -> None:
    arguments = {"outputs": 1, "fit": 2, "decode": 2, "describe": 2}.get(method, 3)
    with pytest.raises(TypeError, match=f"Task must define {method}"):
        getattr(Task(), method)(*[None] * arguments)


def test_a_report_of_a_task_that_is_not_installed_shows_predictions_as_they_are() -> None:
    plain = named("gone")
    assert plain.badness({"prediction": "a", "target": "a", "confidence": "0.9"}) == 0
    assert plain.badness({"prediction": "a", "target": "b", "confidence": "0.9"}) == 0.9
    assert plain.badness({"prediction": "1.5", "target": "2"}) > 0
    assert not plain.numbers


def test_labels_of_another_form_than_the_tasks_are_refused(home: Path) -> None:
    table(home / "d.csv", ["text", "label"], [[f"text number {i}", json.dumps(["a", "b"][: 1 + i % 2])] for i in range(40)])
    told = pretune("finetune", "d.csv", "task=classification", "backbone=scratch:textcnn", *QUICK, code=2).stderr
    assert "task=classification takes one class for each example, and the labels are any number of classes for each example." in told


def test_names_that_end_as_errors_do_are_minimised() -> None:
    assert [is_error(name) for name in ("rank_error", "log_loss", "hamming_distance", "accuracy", "text_accuracy")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert better("rank_error", 0.1, 0.2)
    with pytest.raises(SettingError, match="no task is called 'rank'"):
        registry.load("tasks", "rank")


def test_a_ratio_of_sums_is_a_metric() -> None:
    right = np.r_[np.ones(30), np.zeros(10)]
    sums = Sums(sums=np.stack([np.ones(40), right], 1), statistics={"hits": ratio(1, 0)}, kinds={"hits": "hits"})
    low, high = of_sums([sums])["hits"]
    assert low < 0.75 < high
    grouped = of_sums([sums], np.arange(40) // 10)["hits"]
    assert grouped[1] - grouped[0] > high - low, "examples of a group are no evidence of their own"
    assert of_sums([sums], np.zeros(40)) == {}
