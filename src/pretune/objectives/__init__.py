"""What is learned without labels: one file per objective."""

from pretune.objectives._base import Objective, PretextLearner, Suggested

__all__ = ["Objective", "PretextLearner", "Suggested"]
