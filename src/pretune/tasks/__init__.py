"""What is to be predicted: targets, loss, predictions, measures, and what a person reads of them."""

from pretune.tasks._base import Examples, LossSettings, Space, Task, infer, named

__all__ = ["Examples", "LossSettings", "Space", "Task", "infer", "named"]
