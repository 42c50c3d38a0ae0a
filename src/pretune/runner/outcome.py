"""What came of a run: a trained network and all it came from."""

from __future__ import annotations

from dataclasses import dataclass

from pretune.backbones import Backbone
from pretune.recipe import Recipe
from pretune.runner.baselines import Fitted
from pretune.runner.phases import Work
from pretune.runner.prepare import Prepared
from pretune.runner.reporter import Noted
from pretune.strategies import Strategy
from pretune.training.device import Device
from pretune.training.run_dir import RunDir


@dataclass(kw_only=True)
class Outcome:
    """A trained model and all it came from."""

    recipe: Recipe
    folder: RunDir
    data: Prepared
    backbone: Backbone
    strategy: Strategy
    work: Work
    device: Device
    timing: dict[str, float]
    started: float
    reporter: Noted
    baseline: Fitted | None = None
    """The classical model, where it was fitted before training."""
