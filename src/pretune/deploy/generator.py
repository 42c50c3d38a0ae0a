"""A finished pretraining run that makes new texts, audio or images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pretune import backbones, registry, saved
from pretune.errors import RequestError
from pretune.objectives import Objective, PretextLearner, Sample, Wanted, set_classes
from pretune.runner.pretrained import MODEL, objective_of


class Generator:
    """Reads a run folder once; `generate` may be called many times."""

    def __init__(self, run: Path, *, trust: Collection[str] = ()) -> None:
        """Load the run.

        Args:
            run: its folder, which may come from anybody.
            trust: modules of the person's own that the run's network may be built by.

        Raises:
            RequestError: no pretraining run is there, a file of it is damaged, or its objective does not write.
            WeightsError: its weights are damaged.
            SettingError: its network is built by a module that is not trusted.
        """
        with backbones.trusting(trust):
            self.learner = read_learner(run)
        if not self.learner.generates:
            kind = registry.name_of(objective_of(run))
            raise RequestError(
                f"{run} was pretrained with objective={kind}, which makes nothing new. Take a run of causal, denoising or autoencode."
            )

    def generate(self, wanted: Wanted) -> list[Sample]:
        """Return what the model makes of a request; the same for the same request."""
        return self.learner.generate(wanted)


def read_learner(run: Path, objective: Objective | None = None) -> PretextLearner:
    """Return the learner of a finished pretraining run, in eval mode.

    Args:
        run: its folder.
        objective: of the run, where the caller has it: one that is not installed has no name that can be read back.

    Raises:
        RequestError: the folder holds no such run, or a file of it is damaged.
        WeightsError: its weights do not fit.
        SettingError: its network is built by a module that is not trusted.
    """
    objective = objective or objective_of(run)
    path = run / MODEL
    record = saved.json_of(path)
    classes, weights = saved.field(record, "classes", list, path), saved.field(record, "weights", str, path)
    if not all(isinstance(name, str) for name in classes):
        raise saved.damaged(path, "its classes are not names")
    backbone = backbones.load(f"run:{run}")
    inside = saved.inside(run, weights, path)
    with backbones.bounded(inside), saved.reading(path):
        learner: PretextLearner = objective.learner(backbone)
        set_classes(learner, tuple(classes))
    beside = {name: tensor for name, tensor in learner.state_dict().items() if not name.startswith("backbone.")}
    saved.load_exactly(beside, inside)
    return learner.eval()
