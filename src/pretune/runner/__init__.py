"""The one place that wires all nouns, in the order an example meets them."""

from pretune.runner.finetune import FineTuning
from pretune.runner.reporter import Reporter, Silent
from pretune.runner.runner import Runner

__all__ = ["FineTuning", "Reporter", "Runner", "Silent"]
