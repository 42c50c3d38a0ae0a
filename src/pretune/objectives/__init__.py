"""What is learned without labels: one file per objective."""

from pretune.objectives._base import Objective, PretextLearner, Suggested, suggestion
from pretune.objectives._labels import tell_classes
from pretune.objectives._sampling import Sample, Wanted

__all__ = ["Objective", "PretextLearner", "Sample", "Suggested", "Wanted", "suggestion", "tell_classes"]
