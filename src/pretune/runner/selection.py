"""Which model a run predicts with: the network, or the classical baseline where held-out examples show that it is better.

The examples of the score choose nothing. What decides is a split that selects, or cross-validation on the training set:
the head is fitted again on the baseline's own folds, so that both models learn from the same examples and are compared on
the same others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation.comparison import Comparison, compared
from pretune.evaluation.wording import show, words
from pretune.labels import Outputs
from pretune.runner import baselines, solving
from pretune.runner.baselines import Fitted
from pretune.runner.prepare import Prepared

if TYPE_CHECKING:
    from pretune.runner.state import FineTuningState

ModelName = Literal["network", "baseline"]
Selecting = tuple[NDArray[np.int64], Outputs]
"""Positions of examples that may choose, and the network's raw outputs for them."""
NOISE = 1.0
"""Standard errors by which the baseline must be better to take the network's place."""
REFITTED = 20_000
"""Training examples at most that a baseline is fitted on which is the run's model."""
_SHARE = 0.5
"""Of the remaining time that fitting it on more examples may take."""
EXAMPLES = 2_000
"""Examples of a selecting split that are measured at most to compare two models."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The model of a run, and why."""

    model: ModelName = "network"
    asked: bool = False
    """Whether the person chose it."""
    by: str = ""
    """What the models were compared by: a split, or cross-validation; empty where nothing could compare them."""
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""
        found = self.comparison
        return {
            "model": self.model,
            "asked": self.asked,
            "by": self.by,
            **({} if found is None else asdict(found)),
        }

    @property
    def figures(self) -> str:
        """The two models' means beside each other, as a clause; empty where they were not compared."""
        if self.comparison is None:
            return ""
        found, metric = self.comparison, self.comparison.metric
        baseline, network = (show(metric, value) for value in (found.baseline, found.network))
        examples = f"{found.examples:,} example{'' if found.examples == 1 else 's'}"
        return f"{words(metric)} {baseline} against the network's {network} on {examples} ({self.by})"


def select(wanted: ModelName | None, state: FineTuningState, fitted: Fitted | None, selecting: Selecting | None) -> Selection:
    """Return which model is the run's.

    Args:
        wanted: the model that the person asked for; None to choose.
        state: of the run, with the trained network.
        fitted: the baseline; None where there is none.
        selecting: examples of a split that may choose; None where there is none.
    """
    if fitted is None:
        return Selection()
    found = evidence(state, fitted, selecting)
    by, comparison = found if found else ("", None)
    if wanted is not None:
        return Selection(model=wanted, asked=True, by=by, comparison=comparison)
    better = comparison is not None and comparison.favours_baseline(NOISE)
    return Selection(model="baseline" if better else "network", by=by, comparison=comparison)


def evidence(state: FineTuningState, fitted: Fitted, selecting: Selecting | None) -> tuple[str, Comparison] | None:
    """Return how the models compare on examples that neither learned from and that are not the score's, and on which; None without any."""
    found = [_cross_validated(state, fitted), _on_a_split(state.data, fitted, selecting)]
    there = [one for one in found if one is not None]
    return max(there, key=lambda one: one[1].examples) if there else None


def _cross_validated(state: FineTuningState, fitted: Fitted) -> tuple[str, Comparison] | None:
    pairs = fitted.classical.fitted.pairs
    if state.solution is None or state.frozen is None or not pairs:
        return None
    data, places = state.data, fitted.classical.fitted.held_out
    positions = data.splits["train"][fitted.classical.rows]
    raw = solving.held_out(state, positions, pairs)
    baseline = fitted.classical.fitted.outputs
    comparison = compared(
        fitted.classical.link,
        data.task.decode(raw, data.space),
        baseline[:, 0] if fitted.classical.link == "squared" else baseline,
        baselines.truth(data, positions[places]),
        data.units[positions[places]],
    )
    folds = "one fold" if len(pairs) == 1 else f"{len(pairs)}-fold cross-validation"
    return f"{folds} of the training set", comparison


def _on_a_split(data: Prepared, fitted: Fitted, selecting: Selecting | None) -> tuple[str, Comparison] | None:
    if selecting is None or not len(selecting[0]):
        return None
    positions, raw = selecting
    comparison = compared(
        fitted.classical.link,
        data.task.decode(raw, data.space),
        fitted.outputs(data, positions),
        baselines.truth(data, positions),
        data.units[positions],
    )
    return split_in_words(data), comparison


def split_in_words(data: Prepared) -> str:
    """Return what the split is that chooses, for people."""
    if data.splits.get("val") is data.splits[data.selects or "val"]:
        return "the split val"
    return f"the split {data.selects} of the training set" if data.selects == "select" else f"the split {data.selects}"


def refitted(data: Prepared, fitted: Fitted, seed: int, remaining: float) -> Fitted:
    """Return the baseline fitted on more of the training examples, at the strength and thresholds that were chosen, where time allows it.

    Args:
        data: whose training examples it learns from.
        fitted: the baseline.
        seed: of the sample, where there are more than `REFITTED`.
        remaining: seconds that are left.
    """
    count, there = min(len(data.splits["train"]), REFITTED), len(fitted.classical.rows)
    if there >= count or fitted.seconds * count / there > _SHARE * remaining:
        return fitted
    more = baselines.fit(data, seed, most=REFITTED, strength=fitted.classical.fitted.strength)
    assert more is not None
    return replace(more, classical=replace(more.classical, thresholds=fitted.classical.thresholds))
