"""Checkpoints: one safetensors file each, with the loop's state and a checksum in its header; whole or absent."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pretune import saved
from pretune.errors import DataError
from pretune.models.learner import Learner
from pretune.training.device import Device
from pretune.training.run_dir import append_lines, read_lines, remove_temporary, write_atomic

T = TypeVar("T")
Warn = Callable[[str], None]
"""Takes a sentence for the person."""


def nobody(message: str) -> None:
    """Drop a sentence."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a loop needs to go on exactly where it was."""

    tensors: dict[str, torch.Tensor]
    """'model/NAME', 'optim/NAME/KEY', 'ema/NAME'."""
    state: dict[str, Any]
    """Position, random streams, best so far; JSON."""

    def tensors_below(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors below 'prefix/', without it."""
        return {k.removeprefix(f"{prefix}/"): v for k, v in self.tensors.items() if k.startswith(f"{prefix}/")}


def changing(learner: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors training can change: trainable parameters and all persistent buffers.

    Of a learner with several phases that is everything: what an earlier one learned is frozen in a later one.
    """
    several = isinstance(learner, Learner) and len(learner.phases) > 1
    frozen = {name for name, p in learner.named_parameters() if not p.requires_grad and not several}
    return {name: tensor for name, tensor in learner.state_dict().items() if name not in frozen}


def load_by_name(learner: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into a module in place, by name.

    Raises:
        DataError: a name that the module lacks, or another shape; nothing was copied.
    """
    own = learner.state_dict()
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            found = f"has shape {tuple(own[name].shape)}" if name in own else "does not exist"
            raise DataError(
                f"the checkpoint does not fit the network: {name} {tuple(tensor.shape)} {found} there. "
                "It was written by another version of pretune or of the network; start again with another out=…"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


STABLE = "stable.safetensors"
DAMAGED = ".damaged"
"""What is added to the name of a checkpoint that cannot be used."""


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
        return read_checkpoint(path) if path.exists() else None

    def _write(self, path: Path, checkpoint: Checkpoint) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
        state = json.dumps(checkpoint.state)
        header = {"state": state, "checksum": checksum(tensors, state)}
        # Straight from the tensors' memory: serialised first, they would double the peak of a whole run.
        write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=header))

    def first(self, phase: int) -> Checkpoint | None:
        """Return the checkpoint a phase began with: where it begins again after a failure."""
        path = self._first(phase)
        return read_checkpoint(path) if path.exists() else None

    def begin_again(self, phase: int, checkpoint: Checkpoint) -> None:
        """Let a phase begin with this checkpoint, and forget those of its later steps."""
        for path in self._files():
            if path.name.startswith(f"{phase:02d}-") and path != self._first(phase):
                path.unlink()
        self._write(self._first(phase), checkpoint)

    def _first(self, phase: int) -> Path:
        return self.folder / f"{phase:02d}-{0:08d}.safetensors"

    def newest(self, warn: Warn = nobody) -> Path | None:
        """Return the file of the newest checkpoint that is whole, or None; damaged ones are set aside, and `warn` is called.

        Also removes temporary files that a killed process left.
        """
        remove_temporary(self.folder)
        for path in reversed(self._files()):
            if read_checkpoint(path) is not None:
                return path
            path.replace(path.with_name(path.name + DAMAGED))
            warn(f"checkpoint {path} is damaged: it is cut short or its checksum is wrong. Using the one before it")
        return None

    def clear(self) -> None:
        """Remove all but the one that was marked: the run is finished and its weights are saved."""
        remove_temporary(self.folder)
        for path in [*self._files(), *self.folder.glob(f"*{DAMAGED}")]:
            if path.is_file():
                path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors")) if self.folder.exists() else []


def checksum(tensors: dict[str, torch.Tensor], state: str) -> str:
    """Return a CRC-32 over names, types, shapes and bytes of contiguous CPU tensors, and the state."""
    total = zlib.crc32(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), total)
    return f"{total:08x}"


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint of a file, or None where the file is cut, damaged, or no file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            header = file.metadata() or {}
        state, digest = json.loads(header["state"]), header.get("checksum")  # files of older versions have none
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    if digest is not None and digest != checksum(tensors, header["state"]):
        return None
    return Checkpoint(tensors=tensors, state=state)


class Decisions:
    """What was decided by the clock or by memory: made once on the first rank, written down, replayed on resume."""

    def __init__(self, path: Path | None, device: Device, warn: Warn = nobody) -> None:
        """Read what was decided before.

        Args:
            path: of the file, which only the first rank reads and writes; None keeps nothing.
            device: its first rank decides for all; every rank makes the same decisions in the same order.
            warn: called with a message where lines of the file are damaged.
        """
        self._path, self._device = path, device
        self._made: dict[str, Any] = device.decide(lambda: self._read(warn))

    def make(self, key: str, decide: Callable[[], Any]) -> Any:
        """Return what was decided for `key` before, or decide now (rank 0 for all) and write it down."""
        if key not in self._made:
            self._made[key] = self._device.decide(lambda: self._decided(key, decide))
        return self._made[key]

    def built(self, build: Callable[..., T], key: str, decide: Callable[[], dict[str, Any]]) -> T:
        """Return build(**decision); see `make`.

        Raises:
            DataError: what the file says of `key` is no such decision.
        """
        value = self.make(key, decide)
        with nullcontext() if self._path is None else saved.reading(self._path):
            return build(**value)

    def made(self, key: str) -> Any:
        """Return what was decided for `key` before; None where nothing was."""
        return self._made.get(key)

    def _read(self, warn: Warn) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for entry in [] if self._path is None else read_lines(self._path, warn):
            made |= entry
        return made

    def _decided(self, key: str, decide: Callable[[], Any]) -> Any:
        value = decide()
        if self._path is not None:
            append_lines(self._path, [{key: value}], sync=True)
        return value
