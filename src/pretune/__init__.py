"""pretune: pretrain, then fine-tune; the whole road of transfer learning in PyTorch.

`import pretune as pt` is instant: names are imported when they are first used.
"""

import importlib
import time
from typing import Any

__version__ = "0.1.0"

STARTED = time.monotonic()
"""When this process began to import pretune: where a verb's clock starts at the command line."""

_HOMES = {
    "finetune": "api",
    "run": "api",
    "events": "api",
    "audit": "api",
    "pretrain": "api",
    "generate": "api",
    "evaluate": "api",
    "predict": "api",
    "Run": "api",
    "Audit": "api",
    "Recipe": "recipe",
    "Pretraining": "pretraining",
    "Own": "runner.own",
    "train": "runner.own",
    "Plan": "training.plan",
    "fit": "training.loop",
    "Model": "models.model",
    "Learner": "models.learner",
    "SupervisedLearner": "models.learner",
    "Backbone": "backbones",
    "load_backbone": "backbones:load",
    "Predictor": "deploy.predictor",
    "PretuneError": "errors",
    "RequestError": "errors",
    "SettingError": "errors",
    "DataError": "errors",
    "WeightsError": "errors",
    "BadItem": "errors",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pretune' has no attribute {name!r}")
    home, _, known_as = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"pretune.{home}"), known_as or name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
