"""The one place that wires all nouns, in the order a datum meets them."""

from pretune.runner.reporter import Reporter, Silent
from pretune.runner.run import Given, run

__all__ = ["Given", "Reporter", "Silent", "run"]
