"""What is to be predicted: encode targets, give the loss, read outputs, measure."""

from pretune.tasks._base import ChoosesThresholds, LossSettings, Targets, Task, infer

__all__ = ["ChoosesThresholds", "LossSettings", "Targets", "Task", "infer"]
