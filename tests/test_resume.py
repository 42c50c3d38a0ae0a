"""What a killed run leaves behind, and that it goes on from there: bit for bit, or with one sentence."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pretune as pt
from pretune import backbones
from pretune.deploy import report
from pretune.errors import DataError, RequestError, SettingError
from pretune.runner import gain
from pretune.runner.reporter import Noted, Silent
from pretune.runner.resuming import rewind, same_threads
from pretune.runner.runner import Runner
from pretune.training.checkpoint import Checkpoint, Checkpoints, Decisions, load_by_name, read_checkpoint
from pretune.training.device import Device
from pretune.training.environment import environment_changes
from pretune.training.plan import Precision, Progress
from pretune.training.run_dir import Position, RunDir, append_lines, explained_refusals, read_lines, write_atomic
from tests.checkpoints import latest
from tests.test_flows import folder

CPU = Device(device=torch.device("cpu"))


def checkpoint(value: float) -> Checkpoint:
    tensors = {"model/weight": torch.full((3, 2), value), "model/count": torch.tensor(7), "optim/none": torch.zeros(0, dtype=torch.bool)}
    return Checkpoint(tensors=tensors, state={"phase": 0, "value": value})


def saved(folder: Path) -> Checkpoints:
    """Three checkpoints, of which the newest two and the phase's first stay."""
    checkpoints = Checkpoints(folder, 2)
    for step in (0, 5, 9):
        checkpoints.save(0, step, checkpoint(float(step)))
    return checkpoints


# --- lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [b'{"b": 2', b"\x00\x00\x00", b"\xff\xfe", b"[1, 2]", b"[" * 100_000])
def test_a_half_line_is_dropped_with_a_word_and_the_next_one_is_whole(tmp_path: Path, left: bytes) -> None:
    path, messages = tmp_path / "log.jsonl", []
    append_lines(path, [{"a": 1}])
    path.write_bytes(path.read_bytes() + left)
    append_lines(path, [{"c": 3}], sync=True)
    assert read_lines(path, messages.append) == [{"a": 1}, {"c": 3}]
    assert len(messages) == 1
    assert "1 of 3 lines" in messages[0]


def test_a_decision_after_a_half_line_is_kept_and_the_half_one_is_made_again(tmp_path: Path) -> None:
    path, messages = tmp_path / "decisions.jsonl", []
    path.write_text('{"first": 1}\n{"second": ')
    decisions = Decisions(path, CPU, messages.append)
    assert [decisions.make("first", lambda: 10), decisions.make("second", lambda: 20)] == [1, 20]
    assert len(messages) == 1
    assert Decisions(path, CPU).make("second", lambda: 30) == 20


def test_a_decision_that_is_none_is_refused_with_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_text('{"features/precision": 5}\n{"training/precision": {"speed": 1}}\n')
    decisions = Decisions(tmp_path / "decisions.jsonl", CPU)
    for key in ("features/precision", "training/precision"):
        with pytest.raises(DataError, match=r"decisions\.jsonl is damaged"):
            decisions.built(Precision, key, dict)
    assert decisions.built(Precision, "another", lambda: {"bfloat16": True}).bfloat16 is True
    assert Decisions(tmp_path / "decisions.jsonl", CPU).built(Precision, "another", dict).bfloat16 is True


@pytest.mark.parametrize("packages", [None, 3, ["torch"]])
def test_a_damaged_environment_is_compared_as_far_as_it_goes(packages: Any) -> None:
    told = environment_changes({"cpu": "another", "packages": packages}, {"cpu": "this", "packages": {"torch": "2"}})
    assert told.endswith("cpu was another and is this")
    assert not environment_changes({"packages": packages}, {"cpu": "this", "packages": {"torch": "2"}})


def test_more_threads_than_can_start_are_not_taken_from_a_run_folder(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    (tmp_path / "recipe.json").write_text(json.dumps({"resolved": {"threads": 10**9}}))
    try:
        same_threads(RunDir(tmp_path), Silent())
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)
    with pytest.raises(SettingError, match=r"threads must be a whole number in \[1, 1024\]"):
        pt.Recipe.from_settings("photos", threads=10**6)


def test_events_are_rewound_whatever_is_damaged_among_them(tmp_path: Path) -> None:
    folder, messages = RunDir(tmp_path), []
    folder.append_events({"event": "stepped", "phase": "all", "step": step} for step in (1, 2, 3))
    path = tmp_path / "events.jsonl"
    path.write_text(path.read_text() + '{"phase": "all"}\n{"event": "stepped", "pha')
    folder.rewind_events(Position(phase="all", step=2), messages.append)
    assert [event["step"] for event in folder.events()] == [1, 2]
    assert len(messages) == 1
    assert path.read_text().endswith("}\n")


def test_runs_saved_under_earlier_names_still_read(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    folder.append_events([{"event": "evaluated", "phase": "all", "step": 4, "part": "val"}])
    assert folder.events() == [{"event": "evaluated", "phase": "all", "step": 4, "split": "val"}]
    progress = Progress.from_json({"steps": 9, "step": 4, "aside": 1.5, "drops": 2})
    assert (progress.step, progress.overhead, progress.plateaus) == (4, 1.5, 2)
    assert Progress.from_json(progress.to_json()) == progress


def test_a_phase_that_began_again_keeps_the_record_of_what_failed(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    steps = [("head", 1), ("head", 9), ("all", 1), ("all", 2), ("all", 2), ("all", 1), ("all", 2)]
    lines = [{"event": "stepped", "phase": phase, "step": step, "restart": place == 4} for place, (phase, step) in enumerate(steps)]
    folder.append_events(lines)
    for restarts, step, kept in ((0, 1, 3), (1, 0, 5), (1, 1, 6)):
        folder.rewind_events(Position(done=["head"], phase="all", step=step, restarts=restarts))
        assert len(folder.events()) == kept
        folder.append_events(lines[kept:])


# --- checkpoints ---------------------------------------------------------------------------------


def test_every_flipped_byte_of_a_checkpoint_is_recognised(tmp_path: Path) -> None:
    path = saved(tmp_path).folder / "00-00000009.safetensors"
    whole = path.read_bytes()
    used = len(whole) - len(whole[8 : 8 + int.from_bytes(whole[:8], "little")]) - 8
    assert used == 3 * 2 * 4 + 8
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = read_checkpoint(path)
        if found is not None:  # a space that pads the header says nothing, and a checksum that has another name is none
            assert place < len(whole) - used
            assert torch.equal(found.tensors["model/weight"], torch.full((3, 2), 9.0))
            assert found.state == checkpoint(9.0).state
    path.write_bytes(whole)
    assert read_checkpoint(path) is not None


def test_damaged_checkpoints_are_set_aside_with_a_word_each_and_the_one_before_is_used(tmp_path: Path) -> None:
    checkpoints, messages = saved(tmp_path / "some"), []
    newest = checkpoints.folder / "00-00000009.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (checkpoints.folder / "00-00000011.safetensors").mkdir()
    (checkpoints.folder / "00-00000010.safetensors").write_bytes(b"")
    (checkpoints.folder / ".00-00000012.safetensors.123.tmp").write_bytes(b"half")
    found = latest(checkpoints, messages.append)
    assert found is not None
    assert found.state["value"] == 5.0
    assert [Path(line.split()[1]).stem for line in messages] == ["00-00000011", "00-00000010", "00-00000009"]
    assert not list(checkpoints.folder.glob(".*"))
    checkpoints.save(0, 9, checkpoint(9.0))
    assert [path.stem for path in sorted(checkpoints.folder.glob("*.safetensors"))] == ["00-00000000", "00-00000005", "00-00000009"]
    messages.clear()
    assert latest(checkpoints, messages.append) is not None
    assert not messages, "told once"
    checkpoints.clear()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["00-00000011.safetensors.damaged"], "a folder is nobody's to remove"


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert latest(checkpoints) is None
    assert latest(Checkpoints(tmp_path / "nothing", 2)) is None


def test_a_checkpoint_of_another_network_is_refused_whole() -> None:
    network = torch.nn.Linear(2, 1)
    before = network.weight.clone()
    for wrong in ({"weight": torch.ones(1, 2), "gone": torch.ones(1)}, {"weight": torch.ones(1, 2), "bias": torch.ones(3)}):
        with pytest.raises(DataError, match=r"does not fit the network: (gone|bias) .* another out="):
            load_by_name(network, wrong)
    assert torch.equal(network.weight, before)


# --- several processes ---------------------------------------------------------------------------


def test_two_processes_resume_bit_for_bit_and_end_with_the_message_of_the_one_that_fails(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.two_processes", str(tmp_path)]
    processes = [
        subprocess.Popen(command, env={**os.environ, **where, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert processes[0].returncode == 0, told[0][1]
    first, second = ([line for line in out.splitlines() if line] for out, _ in told)
    assert first[0] == "RequestError: the folder is taken"
    assert second[0] == "TrainingError: process 0 failed: the folder is taken"
    assert first[1] == second[1]
    assert "trained by 1 process(es), and this command started 2. Resume it without torchrun" in first[1]
    assert first[2:] == ["ended: another process failed: process 1: the second process broke"]
    assert "ValueError: the second process broke" in told[1][1]
    assert json.loads((tmp_path / "cut" / "decisions.jsonl").read_text()) == {"training/precision": 0}, "decided once, by one process"


# --- whole runs ----------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"backbone": "scratch:cnn,width=8,depth=1", "image_size": 16, "epochs": 1, "precision": "float32", "threads": 1}


class Killed(BaseException):
    """Ends a run as nothing catches."""


def killed(run: Callable[[], object], change: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool = False) -> None:
    """Let a run end where a function is called, before or after it has done its work."""
    function = getattr(owner, name)

    def end(*words: Any, **settings: Any) -> None:
        if after:
            function(*words, **settings)
        raise Killed

    with change.context() as within:
        within.setattr(owner, name, end)
        with pytest.raises(Killed):
            run()


def same_outcome(one: Path, other: Path) -> None:
    for file in ("backbone/weights.safetensors", "weights/last.safetensors", "model.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    figures = [
        {k: v for k, v in json.loads((run / "metrics.json").read_text()).items() if k in ("val", "held", "primary")} for run in (one, other)
    ]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(("owner", "name", "after"), [(report, "write", False), (backbones, "save", True), (RunDir, "write_ledger", False)])
def test_a_run_that_was_killed_before_its_report_is_finished(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    folder(home / "photos", 8)
    settings = {**SMALL, "strategy": "full"}
    pt.finetune("photos", **settings, out="whole")
    killed(lambda: pt.finetune("photos", **settings, out="cut"), monkeypatch, owner, name, after=after)
    assert not (home / "cut" / "report.html").exists()
    done = pt.finetune("photos", **settings, out="cut", resume=True)
    same_outcome(home / "whole", done.path)
    assert done.report.exists()
    assert not (done.path / "checkpoints").exists(), "what only a resume needs is removed last"
    with pytest.raises(RequestError, match="is finished; there is nothing to resume"):
        pt.finetune("photos", **settings, out="cut", resume=True)


def test_a_resume_over_other_labels_groups_or_weights_is_refused_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(home / "photos", 8)
    names = sorted(path.relative_to(home).as_posix() for path in (home / "photos").rglob("*.png"))

    def table(change: int = -1, group: str = "g0") -> None:
        rows = [f"{name},{name.split('/')[1] if i != change else 'disc'},{group if i == 1 else f'g{i}'}" for i, name in enumerate(names)]
        (home / "table.csv").write_text("path,label,patient\n" + "\n".join(rows) + "\n")

    table()
    torch.save(torch.nn.Linear(1, 1).state_dict(), home / "other.pt")
    settings = {**SMALL, "strategy": "full", "out": "run", "label": "label", "group": "patient"}
    killed(lambda: pt.finetune("table.csv", **settings), monkeypatch, Runner, "_training")
    for change, told in (({"change": len(names) - 1}, "the labels"), ({"group": "g2"}, "the groups")):
        table(**change)
        with pytest.raises(RequestError, match=rf"the data have changed since run was started: .*{told}.* another out="):
            pt.finetune("table.csv", **settings, resume=True)
    table()
    before = RunDir(home / "run").read_json("recipe.json")
    RunDir(home / "run").write_json("recipe.json", {**before, "data": {**before["data"], "the network's weights": "other"}})
    with pytest.raises(RequestError, match="changed since run was started: the network's weights"):
        pt.finetune("table.csv", **settings, resume=True)
    RunDir(home / "run").write_json("recipe.json", before)
    assert pt.finetune("table.csv", **settings, resume=True).metrics["counts"]["used"] == 16


def test_a_run_whose_recipe_is_damaged_is_one_sentence_and_others_are_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(home / "photos", 8)
    settings = {**SMALL, "strategy": "linear_probe"}
    killed(lambda: pt.finetune("photos", **settings, out="run"), monkeypatch, Runner, "_training")
    for left in ("", '{"identity": "x', "[]", "\0" * 100):
        (home / "run" / "recipe.json").write_text(left)
        with pytest.raises(RequestError, match=r"run cannot be resumed: its recipe\.json is empty or damaged"):
            pt.finetune("photos", **settings, out="run", resume=True)
    for name in ("empty", "strange"):
        (home / "runs" / name).mkdir(parents=True)
    (home / "runs" / "empty" / "recipe.json").write_text("")
    (home / "runs" / "strange" / "recipe.json").mkdir()
    assert pt.finetune("photos", **settings, resume=True).path.name == "photos-linear_probe-001"


@pytest.mark.parametrize("point", [1, 3])
def test_killed_while_the_gain_is_measured_the_remaining_arms_are_run(home: Path, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    folder(home / "photos", 8)
    settings = {**SMALL, "objective": "autoencode", "batch_size": 4, "then": str(home / "photos"), "seeds": 1, "then_epochs": 1}
    ran: list[str] = []

    class Counted(Runner[Any, Any, Any]):
        def events(self, **words: Any) -> Any:
            ran.append(self.job.place.out.name)
            if len(ran) == point:
                with monkeypatch.context() as within:
                    within.setattr(backbones, "save", kill)
                    yield from super().events(**words)
            return (yield from super().events(**words))

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(gain, "Runner", Counted)
    with pytest.raises(Killed):
        pt.pretrain("photos", **settings, out="run")
    decided = [line for line in (home / "run" / "decisions.jsonl").read_text().splitlines() if "gain/seconds" in line]
    done = pt.pretrain("photos", **settings, out="run", resume=True)
    arms = ["pretrained", "scratch", "longer"]
    assert ran == arms[:point] + arms[point - 1 :], "what was finished is not run again, what was begun is"
    assert [row["kind"] for row in done.metrics["gain"]["runs"]] == [gain.PRETRAINED, gain.SCRATCH, gain.LONGER]
    assert decided == [line for line in (home / "run" / "decisions.jsonl").read_text().splitlines() if "gain/seconds" in line]
    assert not list(home.glob("run/then/*/*/checkpoints"))


class Noisy(torch.utils.data.Dataset[Any]):
    """A dataset with random transforms from all three streams."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, place: int) -> tuple[torch.Tensor, float]:
        x = torch.randn(4) + random.random() + float(np.random.rand())
        return x, float(place % 3)


@pytest.mark.parametrize("stop", [None, 5])
def test_a_dataset_of_ones_own_draws_the_same_in_every_run_and_after_a_resume(tmp_path: Path, stop: int | None) -> None:
    def trained(folder: str, *, stop: int | None = None, resume: bool = False) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = torch.nn.Linear(4, 1)
        own = pt.Own(
            module=module,
            loss=lambda out, target: (out.squeeze(1) - target).square().mean(),
            train=Noisy(),
            out=tmp_path / folder,
            plan=pt.Plan(number=0, phase="train", epochs=4, lr=0.05),
            batch_size=6,
        )
        events = pt.train(own, resume=resume)
        for event in events:
            torch.manual_seed(torch.seed()), random.seed(), np.random.seed()  # whatever the program does besides
            time.sleep(0.002)
            if stop is not None and event.step == stop:
                events.close()
                break
        return list(module.state_dict().values())

    whole = trained("whole")
    trained("again", stop=stop)
    again = trained("again", resume=stop is not None)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.ENOSPC, "Free some space"), (errno.EDQUOT, "Free some space"), (errno.EROFS, "Check its permissions"), (errno.EACCES, "Check")],
)
def test_what_a_disk_that_cannot_be_written_to_needs(tmp_path: Path, number: int, cure: str) -> None:
    def refuse(_: Path) -> None:
        raise OSError(number, os.strerror(number), "runs")

    with pytest.raises(DataError, match=rf"cannot be written: .*\. {cure}.* or choose another folder \(out=…\)\.$"):
        write_atomic(tmp_path / "a.json", refuse)
    with (
        pytest.raises(RequestError, match=rf"^runs: .*\. {cure}.* or choose another folder \(out=…\)\. Resume it\.$"),
        explained_refusals("Resume it."),
    ):
        refuse(tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "there is no checkpoint yet: training starts from the beginning"),
        ({"phase": 1, "done": False, "progress": {"step": 1200, "failures": 0}}, "training resumes after step 1,200 of full"),
        ({"phase": 0, "done": True}, "probe is done; training resumes with full"),
        ({"phase": 1, "done": True}, "probe, full is done; only the evaluation is left"),
    ],
)
def test_a_resumed_run_says_where_it_goes_on(state: dict[str, Any] | None, message: str) -> None:
    reporter = Noted(Silent())
    events = SimpleNamespace(rewind_events=lambda *_: None)
    checkpoint = None if state is None else SimpleNamespace(state={"progress": {}} | state)
    rewind(events, ["probe", "full"], checkpoint, reporter)
    assert reporter.notes == [message]
