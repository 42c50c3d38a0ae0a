"""Reading back what a run saved."""

from __future__ import annotations

from pretune.training.checkpoint import Checkpoint, Checkpoints, Warn, nobody, read_checkpoint


def latest(checkpoints: Checkpoints, warn: Warn = nobody) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None."""
    path = checkpoints.newest(warn)
    return None if path is None else read_checkpoint(path)
