"""The baselines of a task on features made up on the spot."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pretune.evaluation import classical
from pretune.tasks import Examples, Space, named
from pretune.tasks.multilabel import LabelSpace
from pretune.types import Row


def floors(
    name: str, x: Any, train: NDArray[Any], held_x: Any, held_out: NDArray[Any], classes: list[str], *, words: str = "classical features"
) -> dict[str, dict[str, Any]]:
    """Return the baselines of the task of this name, with the leading metric as `value`.

    Args:
        name: of the task.
        x: (N, D) classical features of the training examples; None leaves their model out.
        train: N targets, as metrics take them.
        held_x: (M, D) features of the held-out examples.
        held_out: M targets.
        classes: names.
        words: what the features are, for people.
    """
    task = named(name)
    space = LabelSpace(classes=tuple(classes)) if name == "multilabel" else Space(classes=tuple(classes))
    model = None
    if x is not None and len(train) > 1:
        assert task.baseline is not None
        fitted = classical.fit(task.baseline, x, train, len(classes), words=words)
        model = fitted, fitted.outputs(held_x)
    found = task.floors(_examples(train), _examples(held_out), space, model)
    return {label: {"what": floor["what"], "value": floor.get(task.primary), **floor} for label, floor in found.items()}


def _examples(truth: NDArray[Any]) -> Examples:
    return Examples(rows=[Row(id=str(i)) for i in range(len(truth))], truth=truth)
