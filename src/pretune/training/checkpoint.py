"""Checkpoints: one safetensors file each, with the loop's state in its header; whole or absent."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pretune.training.run_dir import write_atomic


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a loop needs to go on exactly where it was."""

    tensors: dict[str, torch.Tensor]
    """'model/NAME', 'optim/NAME/KEY', 'ema/NAME'."""
    state: dict[str, Any]
    """Position, random streams, best so far; JSON."""

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors below 'prefix/', without it."""
        return {k.removeprefix(f"{prefix}/"): v for k, v in self.tensors.items() if k.startswith(f"{prefix}/")}


def changing(learner: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors training can change: trainable parameters and all persistent buffers.

    Of a learner with several phases that is everything: what an earlier one learned is frozen in a later one.
    """
    several = len(getattr(learner, "phases", ())) > 1
    frozen = {name for name, p in learner.named_parameters() if not p.requires_grad and not several}
    return {name: tensor for name, tensor in learner.state_dict().items() if name not in frozen}


def load_by_name(learner: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into a module in place, by name; a name it lacks is an error."""
    own = learner.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


STABLE = "stable.safetensors"


class Checkpoints:
    """The checkpoints of one run folder, newest last; the newest `keep` stay, and the running phase's first."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = max(2, keep)  # two, so that one cut in half leaves the one before it

    def save(self, phase: int, step: int, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then drop those that are too old."""
        path = self.folder / f"{phase:02d}-{step:08d}.safetensors"
        self._write(path, checkpoint)
        for old in self._files()[: -self.keep]:
            if old != self._first(phase):
                old.unlink()
        return path

    def mark_stable(self, checkpoint: Checkpoint) -> None:
        """Keep this one for good: from here, before its rate falls, a phase can be gone on with for longer."""
        self._write(self.folder / STABLE, checkpoint)

    def stable(self) -> Checkpoint | None:
        """Return the one that was marked."""
        path = self.folder / STABLE
        return read(path) if path.exists() else None

    def _write(self, path: Path, checkpoint: Checkpoint) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
        # Straight from the tensors' memory: serialised first, they would double the peak of a whole run.
        write_atomic(path, lambda part: save_file(tensors, part, metadata={"state": json.dumps(checkpoint.state)}))

    def first(self, phase: int) -> Checkpoint | None:
        """Return the checkpoint a phase began with: where it begins again after a failure."""
        path = self._first(phase)
        return read(path) if path.exists() else None

    def _first(self, phase: int) -> Path:
        return self.folder / f"{phase:02d}-{0:08d}.safetensors"

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None."""
        for path in reversed(self._files()):
            checkpoint = read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def clear(self) -> None:
        """Remove all: the run is finished and its weights are saved."""
        for path in self._files():
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors")) if self.folder.exists() else []


def read(path: Path) -> Checkpoint | None:
    """Return the checkpoint of a file, or None where the file is cut or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            state = json.loads((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, json.JSONDecodeError):
        return None
    return Checkpoint(tensors=tensors, state=state)


class Decisions:
    """What was decided by the clock or by memory: made once, written down, replayed on resume."""

    def __init__(self, path: Path | None, agree: Any) -> None:
        self._path = path
        self._agree = agree
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._made: dict[str, Any] = {}
        for line in lines:
            if line.endswith("}"):
                self._made |= json.loads(line)

    def make(self, key: str, decide: Any) -> Any:
        """Return what was decided for `key` before, or decide now (rank 0 for all) and write it down."""
        if key not in self._made:
            self._made[key] = self._agree(decide())
            self._append({key: self._made[key]})
        return self._made[key]

    def _append(self, entry: dict[str, Any]) -> None:
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
