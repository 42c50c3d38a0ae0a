"""What is known of a run that is extended, and how far a recipe may differ from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune import backbones, config, saved
from pretune.errors import RequestError, SettingError
from pretune.objectives import Objective
from pretune.pretraining import Pretraining
from pretune.training.checkpoint import STABLE
from pretune.training.optim import Optim
from pretune.training.run_dir import RunDir

_SECTIONS = ("training", "schedule", "inputs")
_FREE = ("epochs", "time")
"""Settings that an extension is made to change."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """The run that is extended."""

    run: Path
    objective: Objective
    optim: Optim
    untrained: bool
    """Whether it began with randomly initialised weights."""
    tree: dict[str, Any]
    """The sections of its recipe that are compared."""

    def differing(self, recipe: Pretraining) -> list[str]:
        """Return a sentence for every setting of training that is not the run's; all of them are free to change."""
        here = config.to_tree(recipe)
        found = []
        for section in _SECTIONS:
            for key, value in here[section].items():
                was = self.tree[section].get(key)
                if key not in _FREE and value != was:
                    words = ["auto" if one is None else one for one in (value, was)]
                    found.append(f"extend: {key} is {words[0]} here and was {words[1]} in {self.run}")
        return found


def read(recipe: Pretraining) -> Before:
    """Return the run that a recipe extends.

    Raises:
        RequestError: it is no pretraining run, or keeps no state from before its rate fell.
        SettingError: the recipe has another objective or optimizer, whose state it could not go on with.
    """
    run = Path(str(recipe.extend))
    try:
        saved_recipe = RunDir(run).read_json("recipe.json")
        resolved = saved_recipe["resolved"]
        tree, optimizer, untrained = resolved["objective"], resolved["optim"], bool(resolved["fresh"])
    except (OSError, KeyError, TypeError):
        raise RequestError(f"{run} cannot be extended: it is no pretraining run. Known runs: pretune runs") from None
    path = run / "recipe.json"
    backbones.require_trust(tree, path)  # a teacher is a network too
    with saved.reading(path):
        objective: Objective = config.component("objectives", saved.field(resolved, "objective", dict, path), "objective")
        optim = config.build(Optim, optimizer, "optim")
        sections = {section: dict(saved_recipe["recipe"][section]) for section in _SECTIONS}
    if not (run / "checkpoints" / STABLE).exists():
        raise RequestError(f"{run} cannot be extended: it keeps no stable state (its schedule was not wsd, or it was not finished).")
    before = Before(run=run, objective=objective, optim=optim, untrained=untrained, tree=sections)
    instead = f"or begin anew from its network: backbone=run:{run}"
    if recipe.objective not in (None, objective):
        raise SettingError(f"extend goes on with what {run} was learning ({_shown(objective)}); leave objective out, {instead}")
    if recipe.optim is not None and recipe.optim.name != optim.name:
        raise SettingError(f"extend goes on with the state of the optimizer of {run}, {optim.name}; leave optim out, {instead}")
    return before


def _shown(objective: Objective) -> str:
    tree = config.to_tree(objective)
    return " ".join([f"objective={tree.pop('name')}", *(f"objective.{key}={value}" for key, value in tree.items() if value is not None)])
