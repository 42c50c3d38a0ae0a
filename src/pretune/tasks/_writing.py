"""Tasks whose predictions are written word by word, rather than decoded from the outputs of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pretune.tasks._base import Figures, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pretune.evaluation.sums import Sums
    from pretune.models import Model
    from pretune.types import Row


@dataclass(frozen=True, kw_only=True)
class WritingTask(Task):
    """A task that writes; required is `write` too."""

    writes: ClassVar[int] = 64
    """Held-out examples that a finished run writes for at most."""
    predict_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that a finished run may write with other values of."""
    writes_together: ClassVar[int] = 8
    """Examples that are written for at once."""

    def write(self, model: Model, rows: Sequence[Row], modality: Any, *, seed: int = 0) -> list[str]:
        """Return what a model writes for each of some rows that `render` has put into form."""
        raise TypeError(f"{type(self).__name__} must define write(model, rows, modality) -> [str, ...]")

    def samples(self, rows: Sequence[Row]) -> int:
        """Return for how many of some examples a finished run writes at most."""
        return len(rows)

    def answer(self, row: Row, text: str) -> dict[str, Any]:
        """Return what `predict` says of an example, rendered or not, and the text that was written for it."""
        return {"prompt": "\n\n".join(row.text or ()), "prediction": text}

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return the metrics of written texts, and under `baselines` those of texts that need no network.

        Args:
            rows: the examples, rendered.
            written: what was written for each.
            train: the training examples, rendered.
        """
        return {}

    def summary(self, figures: Figures) -> list[str]:
        """Return sentences on how good written texts are, given what metrics.json says of them; usually none."""
        return []

    def text_sums(self, rows: Sequence[Row], written: Sequence[str]) -> Sequence[Sums]:
        """Return sums over each written text that its metrics are functions of: what intervals are made of; arguments as above."""
        return ()

    def text_scores(self, rows: Sequence[Row], written: Sequence[str]) -> NDArray[np.float64]:
        """Return the leading metric of each written text (N,), by which two models are compared; where `scores_texts`."""
        raise TypeError(f"{type(self).__name__} must define text_scores(rows, written) -> (N,)")

    @property
    def scores_texts(self) -> bool:
        """Whether the leading metric is one of written texts; else it is one of the network's outputs."""
        return self.monitored != self.primary

    def faults(self, rows: Sequence[Row], written: Sequence[str]) -> list[str]:
        """Return sentences on what is wrong with written texts as a whole: loops, copies of the prompt, nothing at all; usually none."""
        return []
