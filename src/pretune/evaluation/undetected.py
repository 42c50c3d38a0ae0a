"""A detector that does not work yet, in words: one class for everything, objects too small, a loss that falls while nothing is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.evaluation.wording import show

Tree = Mapping[str, Any]

_FEW = 10
"""Found boxes below which one class for all of them says nothing."""
_TINY = 0.25
"""Share of boxes that are too small, from which it is worth a sentence."""
_NOTHING, _FELL = 0.02, 0.7
"""AP50 below which nothing is found, and the share of its start that a loss fell to."""


def undetected(scores: Tree, train: Tree, losses: Sequence[float], course: Sequence[Tree], split: str) -> list[str]:
    """Say what a detector's figures and course show.

    Args:
        scores: figures of the scored split; those of other tasks lead to nothing.
        train: figures of the training split.
        losses: of the last phase, in order.
        course: its events.
        split: name of the scored split.
    """
    if not {"ap50", "tiny_boxes"} & scores.keys():
        return []
    sentences = [
        _one_class_takes_all(scores, split),
        _too_small(scores),
        _learned_without_boxes(scores, train, losses, split),
        _never_better(course),
    ]
    return [sentence for sentence in sentences if sentence]


def _one_class_takes_all(scores: Tree, split: str) -> str:
    """Report where everything that was found in images of several classes is of one."""
    found = {name: row["found"] for name, row in (scores.get("per_class") or {}).items() if row.get("found") is not None}
    there = [name for name, row in (scores.get("per_class") or {}).items() if row.get("support")]
    total = sum(found.values())
    most = max(found, key=lambda name: found[name], default="")
    if len(there) < 2 or total < _FEW or found[most] < total:
        return ""
    what = f"Everything that was found on {split} is of one class: {most} ({total} of {total})."
    return f"{what} Check that its boxes are not drawn around all objects."


def _too_small(scores: Tree) -> str:
    """Report where many objects are too small in the network's input to be found."""
    share = scores.get("tiny_boxes") or 0.0
    if share < _TINY:
        return ""
    return (
        f"{share:.0%} of the boxes are smaller than 8 pixels in the network's input, where hardly a point can learn them: raise image_size."
    )


def _learned_without_boxes(scores: Tree, train: Tree, losses: Sequence[float], split: str) -> str:
    """Report where the loss falls while average precision stays at nothing."""
    value = scores.get("ap50")
    if value is None or value >= _NOTHING or len(losses) < 2 or losses[-1] > _FELL * losses[0]:
        return ""
    fell = f"The loss fell from {losses[0]:.3g} to {losses[-1]:.3g} while AP50 on {split} stays at {show('ap50', value)}"
    if (train.get("ap50") or 0.0) > 10 * _NOTHING:
        return f"{fell}: the training boxes were learned by heart. More images, or augment=medium, help most."
    return f"{fell}: boxes are not yet right on the training images either. Train longer, and look at the report's training batch."


def _never_better(course: Sequence[Tree]) -> str:
    """Report where no epoch of the last phase was better than its start on the images that choose the weights."""
    chosen = [event for event in course if event.get("event") == "evaluated" and event.get("split") == "select"]
    if len(chosen) < 3 or chosen[0].get("step") != 0 or any(event.get("best") for event in chosen[1:]):
        return ""
    return (
        f"In none of {len(chosen) - 1} epochs was the detector better than at the start on the images that choose the weights, "
        "so the weights of the start are kept. Try a lower lr, or strategy=linear_probe."
    )
