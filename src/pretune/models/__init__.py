"""A model is backbone + pooling + head, as ordered stages; a Learner makes it a training step."""

from pretune.models.learner import Learner, SupervisedLearner
from pretune.models.model import Model

__all__ = ["Learner", "Model", "SupervisedLearner"]
