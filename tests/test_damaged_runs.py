"""Every file of a run folder, damaged in every way: each verb says one sentence that names it, and never shows a traceback."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import pretune as pt
from pretune import backbones, saved
from pretune.cli import inspect, main
from pretune.cli import runs as runs_on_disk
from pretune.cli.arguments import Arguments
from pretune.deploy import report
from pretune.errors import RequestError
from pretune.recipe import Recipe
from pretune.runner import Silent
from pretune.runner.folder import open_folder
from pretune.runner.reporter import Noted
from pretune.training.device import Device
from pretune.training.run_dir import RunDir
from tests import saved_runs

Change = Callable[[Path], object]


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: dict[str, Change] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "another file": lambda path: path.write_text("Dear all,\n\nplease find attached"),
    "a text": lambda path: path.write_text('"a text"'),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "a folder": _folder,
    "rubbish": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "nested": lambda path: path.write_text("[" * 100_000),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, a model that writes and one that paints, and images."""
    root = tmp_path_factory.mktemp("runs")
    saved_runs.classifier(root / "classifier")
    saved_runs.writer(root / "writer")
    saved_runs.painter(root / "painter")
    saved_runs.photos(root / "photos", each=1)
    (root / "table.csv").write_text("file,label\nphotos/ant/0.png,ant\nphotos/bee/0.png,bee\n")
    return root


def _copies(run: Path, names: tuple[str, ...], to: Path) -> Iterator[tuple[str, Path]]:
    """Yield what is wrong, and a copy of the run with that fault, for each file and fault."""
    for name in names:
        for fault, damage in FAULTS.items():
            copy = to / f"{name}-{fault}".replace("/", "-").replace(" ", "-")
            shutil.copytree(run, copy)
            damage(copy / name)
            yield f"{name}: {fault}", copy


def unnoticed(use: Change, run: Path, names: tuple[str, ...], to: Path) -> set[str]:
    """Return the faults of the files that raise nothing; all others are refused in one sentence that names the run."""
    found = set()
    for what, copy in _copies(run, names, to):
        error = _error_of(use, copy)
        if error is None:
            found.add(what)
        else:
            assert isinstance(error, RequestError), f"{what}: {error!r}"
            assert str(copy) in str(error), f"{what}: {error}"
            assert len(str(error).splitlines()) == 1, what
    return found


def _error_of(use: Change, run: Path) -> Exception | None:
    try:
        use(run)
    except Exception as error:  # noqa: BLE001 - what it is, is asserted
        return error
    return None


MODEL = ("model.json", "backbone/builder.json", "backbone/weights.safetensors", "weights/last.safetensors")


def test_prediction(runs: Path, tmp_path: Path) -> None:
    photos = runs / "photos"
    assert len(list(pt.predict(runs / "classifier", photos))) == 2
    assert unnoticed(lambda run: list(pt.predict(run, photos)), runs / "classifier", MODEL, tmp_path / "predict") == set()
    assert unnoticed(lambda run: pt.evaluate(run, photos), runs / "classifier", MODEL, tmp_path / "evaluate") == set()


def test_generation(runs: Path, tmp_path: Path) -> None:
    files = (*MODEL, "backbone/tokenizer.json")
    assert pt.generate(runs / "writer", "a", length=2)
    assert unnoticed(lambda run: pt.generate(run, "a", length=2), runs / "writer", files, tmp_path / "texts") == set()


def test_a_backbone(runs: Path, tmp_path: Path) -> None:
    files = ("backbone/builder.json", "backbone/weights.safetensors")
    assert unnoticed(lambda run: backbones.load(f"run:{run}"), runs / "classifier", files, tmp_path / "images") == set()
    files = (*files, "backbone/tokenizer.json")
    assert unnoticed(lambda run: backbones.load(f"run:{run}"), runs / "writer", files, tmp_path / "texts") == set()


def test_inspection(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for what, copy in _copies(runs / "classifier", ("recipe.json", "metrics.json"), tmp_path):
        answers[what] = main(["inspect", str(copy)]), len(capsys.readouterr().err.splitlines())
    fine = {"recipe.json: an empty object", "metrics.json: missing"}
    assert answers == {what: (0, 0) if what in fine else (2, 1) for what in answers}
    assert len(answers) == 2 * len(FAULTS)


def test_the_report(runs: Path, tmp_path: Path) -> None:
    report.write(runs / "classifier")
    files = ("metrics.json", "audit.json", "recipe.json", "environment.json", "ledger.csv", "predictions.csv")
    files += tuple(f"pictures/{name}.json" for name in ("mistakes", "batch", "augmentations"))
    whole = {f"{name}: missing" for name in files[1:]}
    whole |= {f"{name}: an empty object" for name in files[1:4]}
    whole |= {f"{name}: a list" for name in files if name.startswith("pictures")}
    whole |= {"predictions.csv: cut off"}  # its last row is lost
    assert unnoticed(report.write, runs / "classifier", files, tmp_path) == whole


def test_one_damaged_run_hides_no_other(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(runs / "classifier", tmp_path / "whole")
    shutil.copytree(runs / "painter", tmp_path / "pretraining")
    damaged = [what for what, _ in _copies(runs / "classifier", ("metrics.json", "recipe.json"), tmp_path)]
    shutil.copytree(runs / "classifier", tmp_path / "huge")
    saved_runs.edit(tmp_path / "huge" / "metrics.json", lambda told: told["primary"].update(value=10**400))
    damaged.append("huge")
    hidden = ["metrics.json: missing", "recipe.json: missing", "recipe.json: an empty object"]  # unfinished, no run, nothing is asked of it
    assert main(["runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == len(damaged) - len(hidden)
    assert "whole" in out
    assert "pretraining" in out
    assert all(line.startswith("! ") and "is damaged" in line for line in err.splitlines())


def test_a_damaged_recipe_does_not_stop_resuming_others(home: Path) -> None:
    recipe = Recipe.from_settings("photos", resume=True)
    for name in ("mine", "other"):
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "recipe.json").write_text(json.dumps({"identity": recipe.identity() if name == "mine" else "another"}))
    damaged = [what for what, _ in _copies(home / "runs" / "other", ("recipe.json",), home / "runs")]
    reporter = Noted(Silent())
    folder, resumed = open_folder(recipe, "photos", Device(device=torch.device("cpu")), reporter, ExitStack())
    assert (folder.path, resumed) == (Path("runs/mine"), True)
    assert sum("damaged" in note for note in reporter.notes) == len(damaged) - 1  # a folder without a recipe is no run
    (folder.path / "recipe.json").write_text("[]")
    named = Recipe.from_settings("photos", resume=True, out=folder.path)
    with pytest.raises(RequestError, match="empty or damaged"):
        open_folder(named, "photos", Device(device=torch.device("cpu")), Silent(), ExitStack())


def test_no_hidden_file_but_an_unfinished_one_of_the_runs_own_is_removed(home: Path) -> None:
    recipe = Recipe.from_settings("photos", resume=True, out="shared")
    (home / "shared" / "notes").mkdir(parents=True)
    theirs, half = home / "shared" / "notes" / ".draft.tmp", home / "shared" / "checkpoints" / ".00-00000012.safetensors.123.tmp"
    half.parent.mkdir()
    for path in (theirs, half):
        path.write_text("written by another program")
    with ExitStack() as claims:
        assert open_folder(recipe, "photos", Device(device=torch.device("cpu")), Silent(), claims)[1] is False
    assert half.exists(), "a folder that holds no run yet is not looked through"
    (home / "shared" / "recipe.json").write_text(json.dumps({"identity": recipe.identity()}))
    with ExitStack() as claims:
        assert open_folder(recipe, "photos", Device(device=torch.device("cpu")), Silent(), claims)[1] is True
    assert theirs.exists()
    assert not half.exists()


# --- content ------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (None, True, -1, 0, 7, 1e30, 10**400, "", "x", "../x", "/dev/zero", [], ["x"], {}, {"name": "x"})


def _variants(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield where, and a JSON value with another one in that place, or without it."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        for other in VALUES:
            changed = dict(tree) if isinstance(tree, dict) else list(tree)
            changed[key] = other
            yield f"{key}={other!r}", changed
        if isinstance(tree, dict):
            yield f"no {key}", {k: v for k, v in tree.items() if k != key}
        for where, inside in _variants(value):
            changed = dict(tree) if isinstance(tree, dict) else list(tree)
            changed[key] = inside
            yield f"{key}.{where}", changed


def _looked_at(run: Path) -> None:
    """Print a run as `inspect`, `runs` and `runs compare` do."""
    for verb, words in ((inspect, [str(run)]), (runs_on_disk, [str(run.parent)]), (runs_on_disk, ["compare", str(run), str(run)])):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            verb.main(Arguments(verb=verb.__name__.rpartition(".")[2], words=words))


@pytest.mark.parametrize(
    ("kind", "file", "use"),
    [
        ("classifier", "model.json", lambda run: list(pt.predict(run, run.parent / "photos"))),
        ("classifier", "model.json", lambda run: pt.evaluate(run, run.parent / "table.csv")),
        ("classifier", "backbone/builder.json", lambda run: list(pt.predict(run, run.parent / "photos"))),
        ("writer", "model.json", lambda run: pt.generate(run, "a", length=2)),
        ("writer", "backbone/builder.json", lambda run: pt.generate(run, "a", length=2)),
        ("painter", "model.json", lambda run: pt.generate(run)),
        ("classifier", "recipe.json", lambda run: _looked_at(run)),
        ("classifier", "metrics.json", lambda run: _looked_at(run)),
    ],
)
def test_whatever_a_file_says_it_is_understood_or_refused(runs: Path, kind: str, file: str, use: Change) -> None:
    path = runs / kind / file
    whole = path.read_text()
    errors = {}
    try:
        for where, changed in _variants(json.loads(whole)):
            path.write_text(json.dumps(changed))
            errors[where] = _error_of(use, runs / kind)
    finally:
        path.write_text(whole)
    assert {where: error for where, error in errors.items() if not isinstance(error, RequestError | None)} == {}
    assert None in errors.values(), "some variants are understood"


# --- weights ------------------------------------------------------------------------------------------


def _first_float(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(tensor for tensor in tensors.values() if tensor.is_floating_point())


CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "no tensors": lambda tensors: tensors.clear(),
    "one is missing": lambda tensors: tensors.popitem(),
    "one too many": lambda tensors: tensors.update(extra=torch.zeros(2)),
    "another shape": lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(3, 3, 3)}),
    "whole numbers": lambda tensors: tensors.update({name: tensor.to(torch.int8) for name, tensor in tensors.items()}),
    "NaN": lambda tensors: _first_float(tensors).view(-1)[0].fill_(torch.nan),
    "infinity": lambda tensors: _first_float(tensors).view(-1)[0].fill_(-torch.inf),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_not_the_runs_own_are_refused(runs: Path, tmp_path: Path, change: str) -> None:
    for file in ("weights/last.safetensors", "backbone/weights.safetensors"):
        run = tmp_path / file.partition("/")[0]
        shutil.copytree(runs / "classifier", run)
        tensors = load_file(run / file)
        CHANGES[change](tensors)
        save_file(tensors, run / file)
        with pytest.raises(RequestError, match=file):
            list(pt.predict(run, runs / "photos"))
    painter = tmp_path / "painter"
    shutil.copytree(runs / "painter", painter)
    tensors = load_file(painter / "weights" / "last.safetensors")
    CHANGES[change](tensors)
    save_file(tensors, painter / "weights" / "last.safetensors")
    with pytest.raises(RequestError, match=r"weights/last\.safetensors"):
        pt.generate(painter)


def test_an_output_that_is_no_number_names_no_class(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "classifier", run)
    tensors = load_file(run / "weights" / "last.safetensors")
    save_file({name: torch.full_like(tensor, 3e38) for name, tensor in tensors.items()}, run / "weights" / "last.safetensors")
    rows = list(pt.predict(run, runs / "photos"))
    assert len(rows) == 2
    assert all("not a finite number" in row["error"] and "prediction" not in row for row in rows)


def test_a_pretraining_run_has_nothing_to_predict(runs: Path) -> None:
    for use in (lambda run: list(pt.predict(run, runs / "photos")), lambda run: pt.evaluate(run, runs / "photos")):
        with pytest.raises(RequestError, match=r"is a pretraining run.*pretune finetune DATA backbone=run:"):
            use(runs / "painter")
    with pytest.raises(RequestError, match="not a finished pretraining run"):
        pt.generate(runs / "classifier")


@pytest.mark.parametrize("change", [{"mels": 7}, {"seconds": None}])
def test_preprocessing_of_another_network_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = saved_runs.listener(tmp_path / "run")
    clips = saved_runs.clips(tmp_path / "clips")
    assert [row["prediction"] in saved_runs.NAMES for row in pt.predict(run, clips)] == [True]
    saved_runs.edit(run / "backbone" / "builder.json", lambda told: told["modality"].update(change))
    with pytest.raises(RequestError, match=re.escape(str(run))):
        list(pt.predict(run, clips))


SIZES: dict[str, tuple[str, str, Callable[[Any], None]]] = {
    "layers without end": ("writer", "backbone/builder.json", lambda told: told["settings"].update(layers=10**30)),
    "wide layers": ("writer", "backbone/builder.json", lambda told: told["settings"].update(width=20_000)),
    "a large head": ("classifier", "model.json", lambda told: told.update(head={"name": "mlp", "hidden": 20_000, "layers": 8})),
}


@pytest.mark.parametrize("what", SIZES)
def test_sizes_that_lie_take_no_memory(runs: Path, tmp_path: Path, what: str) -> None:
    kind, file, lie = SIZES[what]
    run = tmp_path / "run"
    shutil.copytree(runs / kind, run)
    saved_runs.edit(run / file, lie)
    use = {"writer": lambda: pt.generate(run), "classifier": lambda: list(pt.predict(run, runs / "photos"))}[kind]
    with pytest.raises(RequestError, match="far fewer than the network that is built for them"):
        use()


def test_a_run_that_does_not_exist_is_told_from_one_that_is_not_finished(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "classifier", tmp_path / "runs" / "bees-001")
    with pytest.raises(RequestError, match=r"^bees-001 does not exist\. Did you mean runs/bees-001\? Known runs: pretune runs\.$"):
        list(pt.predict("bees-001", runs / "photos"))
    for use in (pt.generate, lambda run: pt.evaluate(run, runs / "photos")):
        with pytest.raises(RequestError, match=r"^nowhere does not exist\. Known runs"):
            use("nowhere")
    with pytest.raises(RequestError, match=r"^runs is not a finished run: it has no model.json\. Known runs"):
        list(pt.predict("runs", runs / "photos"))


def test_entries_that_older_runs_name_otherwise_are_read(tmp_path: Path) -> None:
    """Where a class is called as an entry was, it keeps its name."""
    path = tmp_path / "metrics.json"
    counts = {"train": {"items": 8}, "held": {"items": 2}, "per_class": {"items": {"train": 8}, "said": {"train": 2}}}
    path.write_text(json.dumps({"said": ["a"], "gain": {"said": ["b"]}, "counts": counts}))
    assert saved.json_of(path) == {
        "messages": ["a"],
        "gain": {"messages": ["b"]},
        "counts": {**counts, "train": {"examples": 8}, "held": {"examples": 2}},
    }
    (tmp_path / "events.jsonl").write_text('{"event": "evaluated", "phase": "full", "step": 1, "part": "val"}\n')
    assert RunDir(tmp_path).events()[0]["split"] == "val"
