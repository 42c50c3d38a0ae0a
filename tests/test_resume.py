"""What a killed run leaves behind, and that it goes on from there: bit for bit, or with one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pretune.errors import DataError
from pretune.training.checkpoint import Checkpoint, Checkpoints, Decisions, load_by_name, read
from pretune.training.device import Device
from pretune.training.run_dir import Position, RunDir, append_lines, read_lines

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
    path, said = tmp_path / "log.jsonl", []
    append_lines(path, [{"a": 1}])
    path.write_bytes(path.read_bytes() + left)
    append_lines(path, [{"c": 3}], sync=True)
    assert read_lines(path, said.append) == [{"a": 1}, {"c": 3}]
    assert len(said) == 1
    assert "1 of 3 lines" in said[0]


def test_a_decision_after_a_half_line_is_kept_and_the_half_one_is_made_again(tmp_path: Path) -> None:
    path, said = tmp_path / "decisions.jsonl", []
    path.write_text('{"first": 1}\n{"second": ')
    decisions = Decisions(path, CPU, said.append)
    assert [decisions.make("first", lambda: 10), decisions.make("second", lambda: 20)] == [1, 20]
    assert len(said) == 1
    assert Decisions(path, CPU).make("second", lambda: 30) == 20


def test_events_are_rewound_whatever_is_damaged_among_them(tmp_path: Path) -> None:
    folder, said = RunDir(tmp_path), []
    folder.append_events({"event": "stepped", "phase": "all", "step": step} for step in (1, 2, 3))
    path = tmp_path / "events.jsonl"
    path.write_text(path.read_text() + '{"phase": "all"}\n{"event": "stepped", "pha')
    folder.rewind_events(Position(phase="all", step=2), said.append)
    assert [event["step"] for event in folder.events()] == [1, 2]
    assert len(said) == 1
    assert path.read_text().endswith("}\n")


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
        found = read(path)
        if found is not None:  # a space that pads the header says nothing, and a checksum that has another name is none
            assert place < len(whole) - used
            assert torch.equal(found.tensors["model/weight"], torch.full((3, 2), 9.0))
            assert found.state == checkpoint(9.0).state
    path.write_bytes(whole)
    assert read(path) is not None


def test_damaged_checkpoints_are_set_aside_with_a_word_each_and_the_one_before_is_used(tmp_path: Path) -> None:
    checkpoints, said = saved(tmp_path / "some"), []
    newest = checkpoints.folder / "00-00000009.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (checkpoints.folder / "00-00000011.safetensors").mkdir()
    (checkpoints.folder / "00-00000010.safetensors").write_bytes(b"")
    (checkpoints.folder / ".00-00000012.safetensors.123.tmp").write_bytes(b"half")
    found = checkpoints.latest(said.append)
    assert found is not None
    assert found.state["value"] == 5.0
    assert [Path(line.split()[1]).stem for line in said] == ["00-00000011", "00-00000010", "00-00000009"]
    assert not list(checkpoints.folder.glob(".*"))
    checkpoints.save(0, 9, checkpoint(9.0))
    assert [path.stem for path in sorted(checkpoints.folder.glob("*.safetensors"))] == ["00-00000000", "00-00000005", "00-00000009"]
    said.clear()
    assert checkpoints.latest(said.append) is not None
    assert not said, "told once"
    checkpoints.clear()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["00-00000011.safetensors.damaged"], "a folder is nobody's to remove"


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert checkpoints.latest() is None
    assert Checkpoints(tmp_path / "nothing", 2).latest() is None


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
