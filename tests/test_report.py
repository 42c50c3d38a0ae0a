"""The report: one safe page for every task, whatever is missing; and the images it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import pretune
from pretune.deploy import _charts, _curves, _examples, _predictions, _pretraining, _sections, report, run_files
from pretune.deploy._gallery import thumbnail
from pretune.deploy._headline import headline, tiles
from pretune.deploy.run_files import Files
from pretune.errors import DataError
from pretune.tasks import Line, Passage, named
from pretune.tasks.multilabel import Multilabel
from pretune.training.run_dir import RunDir
from tests import fake_run
from tests.fake_run import HOSTILE

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def page_of(run: Path) -> tuple[str, Reader]:
    page = report.write(run).read_text(encoding="utf-8")
    return page, Reader(page)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run.classification(tmp_path_factory.mktemp("runs") / "photos <1>", names=["ants", "<b>bees</b>"], skill=1.0)


def test_it_tells_the_whole_story_in_order(two: Path) -> None:
    _, reader = page_of(two)
    metrics = json.loads((two / "metrics.json").read_text())
    headings = [
        "Warnings that affect the score",
        "this model",
        "Diagnosis and recommendations",
        "The data",
        "Dropped and repaired",
        "Training setup",
        "Learning curves",
    ]
    headings += [
        "Per-class metrics",
        "Confusion matrix",
        "Calibration",
        "Worst mistakes",
        "Right predictions",
        "Input of the model",
        "One example under each augmentation",
        "Where the time went",
        "Use it",
        "Repeat it",
    ]
    places = [reader.text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert f"{100 * metrics['primary']['value']:.1f} %" in reader.text
    low, high = metrics["val"]["interval"]["accuracy"]
    assert f"95 % interval {100 * low:.1f}–{100 * high:.1f} %" in reader.text
    for floor in metrics["floors"].values():
        assert floor["what"] in reader.text
        assert f"{100 * floor['value']:.1f} %" in reader.text
    assert all(str(count) in reader.text for row in metrics["val"]["confusion"] for count in row)
    assert "is not an image (starts with 'Dear all')" in reader.text
    assert "… and 2 more in ledger.csv" in reader.text
    assert "pretune predict '" in reader.text


def test_what_the_run_said_is_shown_once(two: Path) -> None:
    _, reader = page_of(two)
    notes = json.loads((two / "metrics.json").read_text())["notes"]
    assert len(notes) == 3
    for note in notes:
        words = note.removeprefix("features: ")
        assert reader.text.count(words) == 1, "neither left out nor said again where another section shows it"


def test_it_is_one_file_that_loads_and_runs_nothing(two: Path) -> None:
    page, reader = page_of(two)
    addresses = [value for _, key, value in reader.attributes if key in ("src", "href", "srcset", "action")]
    assert addresses
    assert all(value.startswith(("data:", "#")) for value in addresses)
    assert "script" not in {tag for tag, _, _ in reader.attributes}
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert not [key for _, key, _ in reader.attributes if key.startswith("on")]
    assert any("default-src 'none'" in value for _, _, value in reader.attributes)


def test_hostile_names_are_shown_and_do_nothing(two: Path) -> None:
    audit = json.loads((two / "audit.json").read_text())
    assert audit["findings"][0]["items"][1] == HOSTILE
    page, reader = page_of(two)
    assert "&lt;script&gt;" in page
    assert '<script>alert("x")</script>\\n\\u202eevil \U0001f41d & "q".jpg' in reader.text
    assert "<b>bees</b>" in reader.text
    assert "\u202e" not in page


def test_names_that_are_not_utf8_do_not_stop_it(tmp_path: Path) -> None:
    run = fake_run.classification(tmp_path / "run", names=["a", "b"], pictures=False)
    audit = {"findings": [{"kind": "leak", "severity": "warning", "message": "leak", "items": ["caf\udce9.jpg"]}]}
    (run / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    assert "caf\\xe9.jpg" in page_of(run)[1].text


@pytest.mark.parametrize("count", [2, 10, 25, 120])
def test_confusion_is_readable_for_few_and_many_classes(tmp_path: Path, count: int) -> None:
    names = [f"kind number {i}" for i in range(count)]
    run = fake_run.classification(tmp_path / "run", names=names, items=8 * count, skill=1.5, pictures=False)
    page, reader = page_of(run)
    assert ('class="confusion' in page) == (count <= 40)
    assert ('class="chart heat"' in page) == (count > 40)
    assert "Most frequent" in reader.text
    assert len(page) < 1_000_000


def test_regression_shows_numbers_not_classes(tmp_path: Path) -> None:
    _, reader = page_of(fake_run.regression(tmp_path / "run"))
    assert "Predicted and true" in reader.text
    assert "Largest errors" in reader.text
    assert "mean absolute error" in reader.text
    assert "Shorter bars are better." in reader.text
    assert "does not beat the classical baseline" in reader.text
    assert "Confusion" not in reader.text
    assert "Per-class metrics" not in reader.text


def test_multilabel_shows_thresholds_and_texts(tmp_path: Path) -> None:
    _, reader = page_of(fake_run.multilabel(tmp_path / "run"))
    assert "threshold" in reader.text
    assert re.search(r"a walk <b>\d+</b> in the hills 山", reader.text)
    assert "no label" in reader.text
    assert "Confusion" not in reader.text


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    run = fake_run.classification(tmp_path / "run", names=["a", "b"], pictures=False)
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("audit.json", "recipe.json", "environment.json", "ledger.csv", "predictions.csv", "events.jsonl"):
        (run / name).unlink()
        page_of(run)
    bare = {"task": "classification", "primary": {"name": "accuracy", "value": None, "split": "val"}, "val": {}}
    RunDir(run).write_json("metrics.json", bare)
    _, reader = page_of(run)
    assert "Learning curves" not in reader.text
    assert "Use it" in reader.text
    for key in metrics.keys() - bare.keys():
        RunDir(run).write_json("metrics.json", {k: v for k, v in metrics.items() if k != key})
        page_of(run)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a finished run"):
        report.write(tmp_path)


def test_sounds_are_embedded(tmp_path: Path) -> None:
    run = fake_run.classification(tmp_path / "run", names=["a", "b"], skill=0.5)
    (run / "pictures" / "m.wav").write_bytes(b"RIFF")
    worst = run_files.read_run_files(run).predictions
    listed = [{"id": p.id, "audio": "m.wav", "picture": "m0.jpg"} for p in worst]
    (run / "pictures" / "mistakes.json").write_text(json.dumps(listed))
    _, reader = page_of(run)
    assert ("audio", "src", "data:audio/wav;base64,UklGRg==") in reader.attributes


def test_a_restarted_phase_is_drawn_once() -> None:
    def step(k: int, loss: float, phase: str = "all") -> dict[str, object]:
        return {"event": "stepped", "phase": phase, "step": k, "epoch": 0, "loss": loss, "lr": 0.1}

    events = [step(1, 0.5, "head"), step(2, 0.4, "head"), step(1, 9.0), step(2, 99.0), step(3, 999.0)]
    events += [{"event": "warned", "phase": "all", "step": 3, "message": "restarted"}, step(1, 1.0), step(2, 0.9)]
    head, whole = _curves.in_order(events)
    assert head.series("loss") == [(1, 0.5), (2, 0.4)]
    assert whole.series("loss") == [(1, 1.0), (2, 0.9)]


def test_the_last_phase_comes_first_and_those_before_it_are_folded(two: Path) -> None:
    built = _curves.build(fake_run.events(), "accuracy")
    assert built is not None
    assert [(phase["name"], phase["length"]) for phase in built["phases"]] == [
        ("all", "240 steps, 30 epochs"),
        ("head", "240 steps, 30 epochs"),
    ]
    for phase in built["phases"]:
        assert [chart["title"] for chart in phase["charts"]] == ["loss", "accuracy", "learning rate"]
    page, _ = page_of(two)
    assert page.index("Last phase, all") < page.index("Before it, head: 240 steps") < page.index('id="classes"')


def test_axes_have_names_and_steps_are_whole_numbers() -> None:
    drawing = str(_charts.lines([_charts.ChartLine(points=[(1, 0.5), (3, 0.4)], style="main")], labels=("step", "loss"), title="t"))
    assert re.findall(r'class="name"[^>]*>(\w+)<', drawing) == ["step", "loss"]
    assert re.findall(r'text-anchor="middle">([\d.]+)<', drawing) == ["1", "2", "3"]
    counted = str(_charts.histogram([-1.0, 0.0, 1.0], "h", x_label="error"))
    assert re.findall(r'class="name"[^>]*>(\w+)<', counted) == ["error", "examples"]
    assert re.findall(r'dominant-baseline="middle">([\d.]+)<', counted) == ["0", "1"]


def test_confusion_has_totals(two: Path) -> None:
    metrics = json.loads((two / "metrics.json").read_text())
    matrix = np.array(metrics["val"]["confusion"])
    made = _sections.confusion(metrics["val"], metrics["classes"])
    assert made is not None
    assert made["totals"] == matrix.sum(0).tolist()
    assert [row["total"] for row in made["rows"]] == matrix.sum(1).tolist()
    assert made["all"] == matrix.sum()


def test_every_metric_says_how_it_lies_to_the_baselines(two: Path) -> None:
    held = {"accuracy": 0.9, "log_loss": 0.4, "ece": 0.1, "interval": {"accuracy": [0.8, 0.95], "log_loss": [0.3, 0.5]}}
    floors = {"majority": {"value": 0.5, "accuracy": 0.5, "log_loss": 0.2}, "classical": {"value": 0.85, "accuracy": 0.85, "log_loss": 0.6}}
    found = tiles({"primary": {"name": "macro_f1", "split": "val", "value": 0.9}, "floors": floors}, held)
    assert {tile["words"]: tile["outcome"] for tile in found} == {
        "accuracy": "uncertain",
        "log loss": "worse",
        "calibration error (ECE)": "",
    }
    page, _ = page_of(two)
    assert 'class="o ' in page


def test_a_figure_of_texts_counts_those_that_were_written() -> None:
    metrics = {"primary": {"name": "rouge1", "split": "test", "value": 0.4}, "counts": {"test": 618}}
    scores = {"rouge1": 0.4, "rouge2": 0.2, "examples": 128}
    assert headline(metrics, scores)["examples"] == 128
    assert headline(metrics, {"rouge1": 0.4})["examples"] == 618
    assert [tile["value"] for tile in tiles(metrics, scores)] == ["0.200"]


def test_a_notebook_shows_a_run_as_a_table_without_markup_of_names(tmp_path: Path) -> None:
    metrics = {
        "primary": {"name": "accuracy", "value": 0.9, "split": "val"},
        "val": {"accuracy": 0.9, "interval": {"accuracy": [0.8, 0.95]}},
        "floors": {"majority": {"what": "always ant", "value": 0.5}},
        "backbone": "package:<b>x</b>",
        "strategy": "full",
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = pretune.Run(path=tmp_path)._repr_html_()
    assert "90.0 % (95 % interval 80.0–95.0 %)" in page
    assert "baseline: majority" in page
    assert "50.0 %" in page
    assert "<b>" not in page
    pretrained = {"primary": {"name": "loss", "value": 2.1, "split": "val"}, "objective": "causal", "floors": {"unigram": {"value": None}}}
    assert "causal" in pretune.Run(path=tmp_path, known=pretrained)._repr_html_()


def test_colours_of_text_can_be_read() -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 at least."""
    style = (Path(report.__file__).parent / "_report" / "style.css").read_text()
    light, dark = re.findall(r"--page: [^}]*", style)
    for theme in (light, dark):
        colour = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", theme))
        pairs = [(ink, paper) for ink in ("ink", "soft", "faint", "accent", "good", "bad", "warn") for paper in ("card", "page")]
        pairs += [(name, f"{name}-soft") for name in ("good", "bad", "warn")] + [
            ("soft", f"{name}-soft") for name in ("good", "bad", "warn")
        ]
        for ink, paper in pairs:
            assert contrast(colour[ink], colour[paper]) >= 4.5, (ink, paper, contrast(colour[ink], colour[paper]))


def contrast(one: str, other: str) -> float:
    """Return the ratio of two colours' relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_spectrograms_have_axes_and_players_show_their_length(two: Path) -> None:
    page, reader = page_of(two)
    assert '<span class="y">8 kHz</span>' in page
    assert "1.2 s" in reader.text
    assert ("audio", "preload", "metadata") in reader.attributes
    assert (two / "pictures" / "augmentations-00.flac").stat().st_size > 40


def test_waiting_for_data_is_of_all_phases() -> None:
    def end(phase: str, waited: float) -> dict[str, object]:
        return {"event": "stepped", "phase": phase, "step": 1, "seconds": 1.0, "waited": waited}

    told = _sections.timing({"timing": {"total_s": 9.0, "train_s": 2.0}}, [end("head", 0.5), end("all", 0.1)])
    assert told is not None
    assert told["waited"] == "30 %"


def test_worst_predictions_by_task(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    rows = [("a", "x", "y", 0.6, 0.4, 0.6), ("b", "x", "y", 0.9, 0.1, 0.9), ("c", "x", "x", 0.99, 0.99, 0.01)]
    columns = ["id", "target", "prediction", "confidence", "p_x", "p_y", "split"]
    RunDir(tmp_path).write_csv("predictions.csv", columns, [dict(zip(columns, [*row, "val"], strict=True)) for row in rows])
    assert [p.id for p in _predictions.worst(_predictions.read_predictions(path, named("classification"), "val"), 5)] == ["b", "a"]
    assert _predictions.read_predictions(path, named("classification"), "test") == []
    multi = _predictions.read_predictions(path, named("multilabel"), "val")
    assert [p.badness for p in multi] == [0.6, 0.9, 0]
    rows_of_numbers = [
        {"id": "a", "split": "val", "target": 1.0, "prediction": 3.0},
        {"id": "b", "split": "val", "target": 2.0, "prediction": -2.5},
    ]
    RunDir(tmp_path).write_csv("predictions.csv", ["id", "split", "target", "prediction"], rows_of_numbers)
    assert [(p.id, p.badness) for p in _predictions.worst(_predictions.read_predictions(path, named("regression"), "val"), 1)] == [
        ("b", 4.5)
    ]


@pytest.mark.parametrize(
    "values", [[(0, 1.0)], [(0, 1.0), (1, 1.0)], [(0, 0.0), (5, 1e-12)], [(0, -1e9), (1, 1e9)], [(3, 1e-7), (4, 100.0)]]
)
def test_charts_stay_on_their_paper(values: list[tuple[float, float]]) -> None:
    line = _charts.ChartLine(points=values, style="main", dots=True)
    drawings = [
        _charts.lines([line], labels=("step", "loss"), title="t"),
        _charts.lines([line], labels=("step", "loss"), title="t", log_y=min(y for _, y in values) > 0),
    ]
    drawings += [_charts.scatter(values, "s"), _charts.histogram([y for _, y in values], "h", x_label="error")]
    for drawing in drawings:
        places = [float(n) for n in re.findall(r'(?:cx|cy|x|y|width|height)="(-?[\d.e+]+)"', drawing)]
        assert places
        assert all(-1 <= p <= 345 for p in places)
        assert not re.search(r"\b(nan|inf)\b", drawing)


def test_tick_labels_are_short_and_differ() -> None:
    told = [_charts._short(value) for value in (0, 0.00015, 0.0002, 0.0015, 0.05, 0.25, 400, 12_000)]
    assert told == ["0", "1.5e-4", "2e-4", "1.5e-3", "0.05", "0.25", "400", "1.2e4"]


def test_thumbnails_keep_their_aspect() -> None:
    assert thumbnail(np.zeros((1, 500, 3), dtype=np.uint8), 100).size == (100, 1)
    assert thumbnail(np.zeros((30, 60, 3), dtype=np.uint8), 50).size == (50, 25)


def test_written_texts_keep_their_lines_and_nothing_else_that_hides(tmp_path: Path) -> None:
    RunDir(tmp_path).write_json("samples.json", ["MENENIUS:\n\tHe had it;\x1b[2J<b>\u202e"])
    files = Files(
        run=tmp_path, metrics={}, audit={}, recipe={}, environment={}, ledger=[], events=[], predictions=[], task=named("classification")
    )
    (text,) = _pretraining._filled_texts(files)
    assert str(report.visible(text)) == "MENENIUS:\n\tHe had it;\\x1b[2J&lt;b&gt;\\u202e"


@dataclass(frozen=True, kw_only=True)
class Marks(Multilabel):
    """A task that marks where a prediction and its target differ."""

    def compare(self, row: Mapping[str, str], text: str) -> list[Line]:
        """Return the predicted names, those that the target lacks marked."""
        target = row["target"].split("|")
        names = (Passage(text=name, mark="right" if name in target else "wrong", label="<i>") for name in row["prediction"].split("|"))
        return [Line(name="predicted", passages=tuple(names)), Line(name="in", passages=(Passage(text=text),))]


def test_a_task_marks_what_differs(tmp_path: Path) -> None:
    run = fake_run.multilabel(tmp_path / "run")
    page = report.write(run, Marks()).read_text(encoding="utf-8")
    Reader(page)
    assert '<mark class="wrong">' in page
    assert '<mark class="right">' in page
    assert "&lt;i&gt;</small>" in page
    assert page.count("in the hills") == page.count('<span class="soft small">in</span>'), "the text is not shown twice"


def test_what_was_not_written_is_no_mistake(tmp_path: Path) -> None:
    task = named("translation")
    lines = ["id,split,target,prediction,source,token_loss,written"]
    lines += [
        "a,test,ein Hund,eine Katze,a dog,2.5,",
        "b,test,ein Haus,,a house,5.0,no",
        "c,test,ein Baum,,a tree,3.0,",
        "d,test,ja,ja,yes,1.0,",
    ]
    (tmp_path / "predictions.csv").write_text("\n".join(lines) + "\n")
    found = _predictions.read_predictions(tmp_path / "predictions.csv", task, "test")
    metrics = {"primary": {"split": "test"}}
    section = _examples.mistakes(
        Files(run=tmp_path, metrics=metrics, audit={}, recipe={}, environment={}, ledger=[], events=[], predictions=found, task=task)
    )
    assert section is not None
    assert [card["id"] for card in section["cards"]] == ["c", "a"], "the worst first"
    assert (section["wrong"], section["examples"]) == (2, 3)
