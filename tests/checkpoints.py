"""Reading back what a run saved."""

from __future__ import annotations

from pretune.training.checkpoint import Checkpoint, Checkpoints, Said, nobody, read


def latest(checkpoints: Checkpoints, said: Said = nobody) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None."""
    path = checkpoints.newest(said)
    return None if path is None else read(path)
