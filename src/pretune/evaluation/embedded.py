"""Embeddings that tell nothing apart, in words: all alike, or a loss that stays at that of guessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Tree = Mapping[str, Any]

_ALIKE = 0.9
"""Mean cosine of two texts from which all embeddings are said to be alike."""
_GUESSED = 0.95
"""Share of the loss of guessing from which nothing is said to be learned."""
_FEW = 12
"""Fewer reported steps of a phase say nothing: the learning rate has not risen before."""


def undistinguished(scores: Tree, course: Sequence[Tree], split: str) -> str:
    """Return a sentence where embeddings are all alike, or where training never did better than to guess within a batch; else "".

    Args:
        scores: figures of the score; read are those of retrieval.
        course: events of the last phase; `logs` of steps has the loss of guessing.
        split: of the score.
    """
    steps = [event for event in course if event["event"] == "stepped" and (event.get("logs") or {}).get("guessing_loss")]
    last = [step for step in steps[-max(1, len(steps) // 4) :] if step["loss"] is not None]
    alike = scores.get("mean_cosine")
    if alike is not None and alike >= _ALIKE and "mrr" in scores:
        what = (
            f"All embeddings are nearly alike: the mean cosine of two {split} texts is {alike:.2f}, so small differences decide every rank."
        )
        return f"{what} Try a lower lr or task.temperature, larger batches, or another pretrained backbone."
    if len(steps) < _FEW or not last:
        return ""
    loss, guessed = (
        sum(values) / len(last) for values in ([step["loss"] for step in last], [step["logs"]["guessing_loss"] for step in last])
    )
    if loss < _GUESSED * guessed:
        return ""
    what = f"The loss stays at {loss:.3g}, and guessing among the texts of a batch gives {guessed:.3g}: nothing was learned."
    return f"{what} Check that the columns hold texts that belong together (text=), or try another lr or a pretrained backbone."
