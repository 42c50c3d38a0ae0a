"""What is learned without labels: one file per objective."""

from pretune.objectives._base import ChecksNetwork, FitsStudent, Objective, PretextLearner, Suggested, suggestion
from pretune.objectives._labels import tell_classes
from pretune.objectives._sampling import Sample, Wanted

__all__ = ["ChecksNetwork", "FitsStudent", "Objective", "PretextLearner", "Sample", "Suggested", "Wanted", "suggestion", "tell_classes"]
