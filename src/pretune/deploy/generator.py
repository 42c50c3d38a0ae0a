"""A finished pretraining run that makes new texts, sounds or pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from pretune import backbones, registry
from pretune.errors import RequestError, WeightsError
from pretune.objectives import PretextLearner
from pretune.objectives._labels import tell_classes
from pretune.objectives._sampling import Sample, Wanted
from pretune.runner.pretrained import objective_of


class Generator:
    """Reads a run folder once; `generate` may be called many times."""

    def __init__(self, run: Path) -> None:
        """Load the run.

        Raises:
            RequestError: no pretraining run is there, or its objective does not write.
            WeightsError: its weights are damaged.
        """
        self.learner = read_learner(run)
        if not hasattr(self.learner, "generate"):
            kind = registry.name_of(objective_of(run))
            raise RequestError(
                f"{run} was pretrained with objective={kind}, which makes nothing new. Take a run of causal, denoising or autoencode."
            )

    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return what the model makes of a request; the same for the same request."""
        learner: Any = self.learner
        return learner.generate(wanted)


def read_learner(run: Path) -> PretextLearner:
    """Return the learner of a finished pretraining run, in eval mode.

    Raises:
        RequestError: the folder holds no such run.
        WeightsError: its weights do not fit.
    """
    objective = objective_of(run)
    told: dict[str, Any] = json.loads((run / "model.json").read_text(encoding="utf-8"))
    learner: PretextLearner = objective.learner(backbones.load(f"run:{run}"))
    tell_classes(learner, tuple(told["classes"]))
    state = load_file(run / told["weights"])
    missing, unexpected = learner.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.startswith("backbone.")]
    if missing or unexpected:
        raise WeightsError(f"{run / told['weights']} does not fit {told['objective']}: missing {missing}, unexpected {unexpected}.")
    return learner.eval()
