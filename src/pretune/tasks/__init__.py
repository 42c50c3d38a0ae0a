"""What is to be predicted: targets, loss, predictions, measures, and what a person reads of them."""

from pretune.tasks._base import Examples, LossSettings, Space, Task, infer, named
from pretune.tasks._marked import Line, Passage, Rectangle
from pretune.tasks._own_baseline import OwnBaseline
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._writing import WritingTask

__all__ = [
    "Examples",
    "Line",
    "LossSettings",
    "OwnBaseline",
    "Passage",
    "Rectangle",
    "Space",
    "Suggestion",
    "Task",
    "WritingTask",
    "infer",
    "named",
]
