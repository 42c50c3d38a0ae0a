"""The harness measures what it says, and docs/benchmarks.md is what the results say."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import data, layouts, machine, measure, run, table
from benchmarks.cases import Bench, Case, Contestant, Measure
from benchmarks.cases._base import last_json, pretune_metrics

CASES = {name: importlib.import_module(f"benchmarks.cases.{name}").CASE for name in run.CASES}
ENVIRONMENTS = {path.stem for path in (run.ROOT / "benchmarks" / "environments").glob("*.txt")}


def result(foreign: float = 0.0, rounds: int = 3) -> dict[str, Any]:
    def one(seconds: float, accuracy: float) -> dict[str, float]:
        return {"wall_s": seconds, "accuracy": accuracy, "peak_mb": 1000.0, "foreign_cpu": foreign}

    measures = [
        {"name": "wall_s", "title": "whole process, s", "better": "less", "digits": 1},
        {"name": "accuracy", "title": "test accuracy", "better": "none", "digits": 3},
        {"name": "items_per_s", "title": "images/s", "better": "more", "digits": 1},
    ]
    ours, peer = [one(10, 0.95), one(8, 0.94), one(9, 0.96)], [one(100, 0.9), one(40, 0.9), one(81, 0.9)]
    return {
        "case": "trained",
        "title": "Time to a trained model",
        "same_work": "read, fit, save.",
        "what": "What was done.",
        "date": "2026-11-22",
        "commit": "abc1234",
        "data": "photos",
        "machine": {"cpu": "A CPU", "formats": "avx2", "cores": 2, "memory_gb": 24, "system": "Linux"},
        "threads": {"OMP_NUM_THREADS": "2"},
        "versions": {"pretune": {"python": "3.11.7", "torch": "2.14.1"}, "plain": {"python": "3.11.7", "timm": "1.0.31"}},
        "measures": measures,
        "ours": ["pretune"],
        "rivals": [["pretune", "peer"]],
        "left_out": {"SPDL": "there is no spdl/bin/python"},
        "tuned": {"peer": "--dtype bfloat16"},
        "runs": {"pretune": ours[:rounds], "peer": peer[:rounds]},
    }


def test_a_section_shows_medians_and_ratios_within_rounds():
    page = table.section(result())
    assert "| **pretune** | 9.0 | 0.950 |" in page
    assert "| peer | 81.0 | 0.900 |" in page
    assert "| peer | **9.00** (5.00 to 10.00) |" in page  # 100/10, 40/8, 81/9
    assert "images/s" not in page.split("| ours against")[0]  # nobody measured it
    assert "not quiet" not in page


def test_a_range_is_shown_only_where_there_are_several_rounds():
    page = table.section(result(rounds=1))
    assert "| peer | **10.00** |" in page
    assert " to " not in page.split("| ours against")[1].split("Left out")[0]


def test_a_section_says_what_the_same_work_is_before_its_table_and_under_it_where_with_what_and_who_is_missing():
    above, below = table.section(result()).split("| ours against")
    assert "Same work: read, fit, save." in above
    for fact in ("`OMP_NUM_THREADS=2`", "avx2", "abc1234", "2026-11-22", "timm 1.0.31", "torch 2.14.1", "peer: `--dtype bfloat16`"):
        assert fact in below
    assert "Left out: SPDL; there is no spdl/bin/python." in below


def test_a_section_without_any_peer_has_no_ratios():
    alone = result() | {"rivals": [], "runs": {"pretune": result()["runs"]["pretune"]}}
    assert "ours against" not in table.section(alone)


def test_a_section_marks_a_busy_machine():
    assert "**The machine was not quiet: others used up to 0.7 CPUs.**" in table.section(result(foreign=0.7))


def test_more_is_better_turns_the_ratio():
    more = {"name": "rate", "better": "more"}
    assert table.ratios([{"rate": 30.0}], [{"rate": 10.0}], more) == [3.0]


def test_the_page_is_generated_from_the_results():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run: python -m benchmarks.table"


def test_results_are_of_cases_that_exist_and_name_no_place_on_the_machine_they_came_from():
    paths = sorted(table.RESULTS.glob("*.json"))
    assert paths
    for path in paths:
        values = json.loads(path.read_text(encoding="utf-8"))
        assert values["case"] == path.stem
        assert path.stem in run.CASES
        assert '"/' not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_case_defines_its_work_and_has_measured_rivals_with_an_environment(case: Case):
    names = {contestant.name for contestant in case.contestants}
    assert CASES[case.name] is case
    assert case.same_work
    assert case.modality in data.MODALITIES
    assert {name for pair in case.rivals for name in pair} <= names
    assert {peer for _, peer in case.rivals} == {contestant.name for contestant in case.contestants if not contestant.ours}
    assert any(measure.better != "none" for measure in case.measures)
    assert {contestant.environment for contestant in case.contestants} - {None} <= ENVIRONMENTS
    assert not case.weights or layouts.LAYOUTS[case.modality].weights


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_command_names_files_that_exist(case: Case, tmp_path: Path):
    bench = Bench(data=tmp_path, weights=tmp_path, ours="python", peers=tmp_path, quick=False, cores=2)
    for contestant in case.contestants:
        command = contestant.command(bench, 0)
        assert command[1] == "-m" or Path(command[1]).is_file()
        assert str(tmp_path) in " ".join(command)


def test_every_environment_has_something_to_import():
    assert set(run.IMPORTS) == ENVIRONMENTS


def test_rounds_rotate_who_begins():
    contestants = CASES["probe_images"].contestants
    first, second = list(run._order(contestants, 0)), list(run._order(contestants, 1))
    assert sorted(c.name for c in first) == sorted(c.name for c in second)
    assert second[0] is first[1]


def test_a_run_observes_time_processor_and_memory_of_the_largest_process_of_the_tree(tmp_path: Path):
    child = "block = bytearray(b'x') * 150_000_000; sum(range(10_000_000))"
    code = f"import subprocess, sys, time; time.sleep(0.2); subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"accuracy\": 1}}')"
    measuring = (
        "import json, sys, pathlib; from dataclasses import asdict; from benchmarks import measure;"
        f"print(json.dumps(asdict(measure.run([sys.executable, '-c', {code!r}], cwd=pathlib.Path({str(tmp_path)!r}), env={{}}))))"
    )  # in a process of its own: a child's peak begins with that of the process that started it, and this one is large
    done = subprocess.run([sys.executable, "-c", measuring], capture_output=True, text=True, check=True, cwd=run.ROOT)
    seen = json.loads(done.stdout)
    assert seen["wall_s"] > 0.2
    assert seen["cpu_s"] > 0
    assert 140 < seen["peak_mb"] < 300
    assert last_json(seen["stdout"], tmp_path) == {"accuracy": 1}


def test_the_harness_itself_imports_nothing_large():
    large = {"torch", "pretune", "scipy", "PIL", "sklearn"}
    code = f"import sys; from benchmarks import run; print(*(set(sys.modules) & {large!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=run.ROOT)
    assert done.stdout.split() == []


def test_a_run_reports_a_failure_with_its_words(tmp_path: Path):
    with pytest.raises(measure.CommandFailed, match="no such luck"):
        measure.run([sys.executable, "-c", "raise SystemExit('no such luck')"], cwd=tmp_path, env={})


def test_every_contestant_has_the_same_threads_and_ours_its_own_source(monkeypatch: pytest.MonkeyPatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KMP_BLOCKTIME", "1")
    ours, peer = run._environment(ours=True), run._environment(ours=False)
    assert {name: ours[name] for name in machine.threads()} == {name: peer[name] for name in machine.threads()}
    assert machine.threads()["OMP_NUM_THREADS"] == str(machine.cores())
    assert machine.threads()["KMP_BLOCKTIME"] == "1"
    assert "PYTHONPATH" not in peer
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert "GOMP_SPINCOUNT" not in machine.threads()


def contestant(name: str, code: str, environment: str | None = None) -> Contestant:
    def command(_bench: Bench, _turn: int) -> list[str]:
        return [sys.executable, "-c", code]

    return Contestant(name=name, command=command, read=last_json, environment=environment)


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., run.Session]:
    def build(*contestants: Contestant) -> run.Session:
        case = Case(
            name="a_case",
            title="A case",
            same_work="print.",
            what="How.",
            contestants=contestants,
            measures=(Measure(name="wall_s", title="s"),),
            rivals=tuple((contestants[0].name, peer.name) for peer in contestants[1:]),
        )
        bench = Bench(data=tmp_path, weights=tmp_path, ours=sys.executable, peers=tmp_path / "peers", quick=True, cores=1)
        return run.Session(case=case, bench=bench, scratch=tmp_path)

    return build


def test_a_peer_that_fails_is_left_out_and_named_and_ours_is_not_forgiven(session: Callable[..., run.Session]):
    works, fails = contestant("pretune", "print('{}')"), contestant("peer", "raise SystemExit('no weights')", "plain")
    seen = session(works, fails)
    run._measure(seen, rounds=1)
    assert set(seen.runs) == {"pretune"}
    assert "no weights" in seen.left_out["peer"]
    with pytest.raises(measure.CommandFailed):
        run._measure(session(contestant("pretune", "raise SystemExit(1)"), fails), rounds=1)


def test_a_missing_environment_is_one_sentence(session: Callable[..., run.Session]):
    seen = session(contestant("pretune", "print('{}')"), contestant("peer", "print('{}')", "plain"))
    why = run._fault(seen.bench, "plain")
    assert "no plain/bin/python" in why
    assert "benchmarks/environments/plain.txt" in why


def test_short_rounds_are_five_long_ones_three(session: Callable[..., run.Session], monkeypatch: pytest.MonkeyPatch):
    seen = session(contestant("pretune", "print('{}')"))
    monkeypatch.setattr(run, "_one", lambda *_: {"wall_s": 1.0})
    run._measure(seen, rounds=None)
    assert len(seen.runs["pretune"]) == run.ROUNDS
    monkeypatch.setattr(run, "SHORT_ROUND_S", 0)
    run._measure(seen, rounds=None)
    assert len(seen.runs["pretune"]) == run.ROUNDS_OF_LONG


def test_our_rate_counts_the_last_phase_after_its_first_epoch(tmp_path: Path):
    steps = [("probe", 0, 0.1), ("probe", 1, 0.2), ("full", 0, 1.0), ("full", 0, 5.0), ("full", 1, 6.0), ("full", 1, 7.0), ("full", 2, 8.0)]
    events = [{"event": "stepped", "phase": phase, "epoch": epoch, "seconds": seconds, "size": 10} for phase, epoch, seconds in steps]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text("\n".join(json.dumps(event) for event in [{"event": "started"}, *events]))
    metrics = {"primary": {"split": "val"}, "val": {"accuracy": 0.9, "log_loss": 0.3}, "test": {}}
    assert pretune_metrics(json.dumps(metrics), tmp_path) == {"accuracy": 0.9, "log_loss": 0.3, "items_per_s": 10.0}


def test_a_share_takes_files_of_every_class_in_turn_and_the_first_lines(tmp_path: Path):
    for split, kind, count in (("train", "a", 5), ("train", "b", 5), ("test", "a", 2), ("test", "b", 2)):
        (tmp_path / "data" / split / kind).mkdir(parents=True)
        for index in range(count):
            (tmp_path / "data" / split / kind / f"{index}.jpg").write_bytes(b"x")
    taken = layouts.share("image", tmp_path / "data", 3, tmp_path / "taken")
    assert sorted(str(path.relative_to(taken)) for path in taken.rglob("*.jpg")) == [
        "test/a/0.jpg", "test/a/1.jpg", "test/b/0.jpg", "train/a/0.jpg", "train/a/1.jpg", "train/b/0.jpg",
    ]  # fmt: skip
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.tsv").write_text("one\t0\ntwo\t1\nthree\t0\n", encoding="utf-8")
    texts = layouts.share("text", tmp_path / "data", 2, tmp_path / "lines")
    assert (texts / "train.tsv").read_text(encoding="utf-8") == "one\t0\ntwo\t1\n"


def test_a_folder_that_is_no_data_of_the_case_is_told_what_it_lacks(tmp_path: Path):
    for modality in data.MODALITIES:
        assert layouts.missing(modality, tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert layouts.missing("image", tmp_path) is None


def test_a_share_takes_the_first_pairs_and_clips_of_the_whole_table(tmp_path: Path):
    source = tmp_path / "pairs"
    source.mkdir()
    for name in ("train.en", "train.de", "test_2016_flickr.en", "test_2016_flickr.de"):
        (source / name).write_text("one\ntwo\u2028more\nthree\n", encoding="utf-8")
    taken = layouts.share("translations", source, 2, tmp_path / "taken", test=1)
    assert (taken / "train.de").read_text(encoding="utf-8") == "one\ntwo\u2028more\n"
    assert (taken / "test.en").read_text(encoding="utf-8") == "one\n"
    clips = tmp_path / "clips"
    (clips / "wav").mkdir(parents=True)
    for index in range(6):
        (clips / "wav" / f"{index}.wav").write_bytes(b"x")
    rows = [f"wav/{index}.wav,word {index},{'test' if index > 3 else 'train'}" for index in range(6)]
    (clips / "clips.csv").write_text("\n".join(["path,text,split", *rows]), encoding="utf-8")
    few = layouts.share("speech", clips, 2, tmp_path / "few", test=1)
    assert (few / "clips.csv").read_text(encoding="utf-8").splitlines()[1:] == [rows[0], rows[2], rows[4]]
    assert sorted(path.name for path in (few / "wav").iterdir()) == ["0.wav", "2.wav", "4.wav"]


def test_tokens_a_second_count_the_steps_after_the_third(tmp_path: Path):
    from benchmarks.cases import language_tuning

    steps = [{"event": "stepped", "phase": "lora", "epoch": 0, "seconds": 10.0 + step, "size": 2} for step in range(5)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text("\n".join(json.dumps(step) for step in steps))
    metrics = {"primary": {"split": "val"}, "val": {"character_loss": 1.1}}
    assert language_tuning._read(json.dumps(metrics), tmp_path) == {"tokens_per_s": 2 * 510, "nats": 1.1}


@pytest.mark.parametrize("modality", ["text", "corpus", "translations"])
def test_generated_data_is_complete_and_the_same_each_time(modality: str, tmp_path: Path):
    once, again = (data.generate(modality, tmp_path / name) for name in ("once", "again"))
    assert layouts.missing(modality, once) is None
    for path in once.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    if modality == "translations":
        lines = {path.name: path.read_text(encoding="utf-8").splitlines() for path in once.iterdir()}
        assert len(lines["train.en"]) == len(lines["train.de"]) == 6000
        assert not set(lines["train.en"]) & set(lines["test.en"])
    if modality == "text":
        train, test = (
            {line.rsplit("\t", 1)[0] for line in (once / f"{s}.tsv").read_text(encoding="utf-8").splitlines()} for s in ("train", "test")
        )
        assert not train & test


def test_generated_images_and_audio_are_readable_and_balanced(tmp_path: Path):
    from PIL import Image

    data._images(tmp_path / "images", train=2, test=1)
    files = sorted((tmp_path / "images").rglob("*.jpg"))
    assert len(files) == 3 * len(data.PHOTOGRAPHS)
    assert Image.open(files[0]).size == data.IMAGE_SIZE
    data._audio(tmp_path / "audio", train=2, test=1)
    assert len(list((tmp_path / "audio").rglob("*.wav"))) == 3 * len(data.WORDS)
    data._speech(tmp_path / "speech", train=2, test=1)
    assert len(list((tmp_path / "speech").rglob("*.wav"))) == 3
    assert layouts.missing("speech", tmp_path / "speech") is None
    assert layouts.missing("image", tmp_path / "images") is None
    assert layouts.missing("audio", tmp_path / "audio") is None


def test_a_peer_that_cannot_find_its_options_is_left_out_and_the_others_get_theirs(
    session: Callable[..., run.Session], monkeypatch: pytest.MonkeyPatch
):
    def tuning(name: str, code: str) -> Contestant:
        return replace(contestant(name, code, "plain"), tunes=True)

    works, fails = tuning("works", "print('{\"batch_size\": 64}')"), tuning("fails", "raise SystemExit('no such option')")
    seen = session(contestant("pretune", "print('{}')"), fails, works)
    monkeypatch.setattr(run, "_fault", lambda *_: "")
    run._prepare(seen)
    assert seen.tuned == {"works": ["--batch-size", "64"]}
    assert "no such option" in seen.left_out["fails"]


def test_finding_a_trainers_precision_compares_the_same_steps_and_ends_where_they_are_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(run.ROOT / "benchmarks" / "peers"))
    module = importlib.import_module("_trainer")
    clock, taken, args = [0.0], [], SimpleNamespace(dtype="")
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    seconds = {"float32": [1.0, 15.0, 15.0, 0.1, 0.1], "autocast": [90.0, 9.0, 2.0, 8.0, 8.0]}

    class Trainer:
        def __init__(self, max_steps: int):
            self.steps = max_steps

        def add_callback(self, callback: Any) -> None:
            self.callback = callback

        def train(self) -> None:
            control = SimpleNamespace(should_training_stop=False)
            taken.append(0)
            for second in seconds[args.dtype][: self.steps]:
                clock[0] += second
                taken[-1] += 1
                self.callback.on_step_end(None, None, control)
                if control.should_training_stop:
                    break

    module.tune(lambda *, max_steps, **_: (Trainer(max_steps), None), args, steps=4, most=20.0)
    assert taken == [3, 5]
    assert json.loads(capsys.readouterr().out) == {"dtype": "autocast"}  # 11 s for the two steps after the first, against 30 s
