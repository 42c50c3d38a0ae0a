"""What is learned without labels: one file per objective."""

from pretune.objectives._base import Objective, PretextLearner, Suggested, suggestion
from pretune.objectives._labels import set_classes
from pretune.objectives._sampling import Sample, Wanted

__all__ = ["Objective", "PretextLearner", "Sample", "Suggested", "Wanted", "set_classes", "suggestion"]
