"""Tasks whose predictions are written word by word, rather than decoded from the outputs of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretune.tasks._base import Figures, Task

if TYPE_CHECKING:
    from pretune.models import Model
    from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class WritingTask(Task):
    """A task that writes; required is `write` too."""

    def write(self, model: Model, rows: Sequence[Row], modality: Any, *, seed: int = 0) -> list[str]:
        """Return what a model writes for each of some rows that `render` has put into form."""
        raise TypeError(f"{type(self).__name__} must define write(model, rows, modality) -> [str, ...]")

    def samples(self, rows: Sequence[Row]) -> int:
        """Return for how many of some examples a finished run writes at most."""
        return len(rows)

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return the metrics of written texts, and under `baselines` those of texts that need no network.

        Args:
            rows: the examples, rendered.
            written: what was written for each.
            train: the training examples, rendered.
        """
        return {}

    def faults(self, rows: Sequence[Row], written: Sequence[str]) -> list[str]:
        """Return sentences on what is wrong with written texts as a whole: loops, copies of the prompt, nothing at all; usually none."""
        return []
