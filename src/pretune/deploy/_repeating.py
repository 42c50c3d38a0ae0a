"""What the report says about using a run, repeating it, and the files it left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune import config
from pretune.commands import command
from pretune.deploy.run_files import Files
from pretune.errors import RequestError
from pretune.pretraining import Pretraining
from pretune.printable import path_word
from pretune.recipe import Recipe

_FILES = {
    "metrics.json": "all figures of this page, and the messages",
    "predictions.csv": "one row for each validation or test example: target, prediction, confidence",
    "ledger.csv": "every example that was dropped or repaired, and why",
    "audit.json": "what the audit found in the data",
    "recipe.json": "every setting, with its value",
    "events.jsonl": "losses, learning rates and evaluations while it trained",
    "environment.json": "processor, libraries and their versions",
    "weights": "the trained weights (safetensors)",
    "backbone": "the network: settings, weights, preprocessing; backbone=run:… reads it",
    "model.json": "task, classes and columns that predict reads",
    "pictures": "the images and audio of this page",
}
"""Files of a run folder, and what they hold."""


def use(run: Path) -> dict[str, str]:
    """Return the lines that use this run."""
    name = path_word(str(run))
    return {"predict": f"pretune predict {name} new_data/", "evaluate": f"pretune evaluate {name} labelled_data/", "python": repr(str(run))}


def again(files: Files) -> dict[str, Any]:
    """Return what repeats the run: its command, when it was made, and the files it left."""
    return {"command": _command(files), "date": files.environment.get("date", ""), "files": _written(files.run)}


def _command(files: Files) -> str:
    """Return the command of the run; empty where its recipe cannot be read: a component that is not installed here."""
    recipe_type = Pretraining if files.metrics["task"] == "pretraining" else Recipe
    try:
        return command(config.build(recipe_type, files.recipe.get("recipe", {})))
    except RequestError:
        return ""


def _written(run: Path) -> list[tuple[str, str, str]]:
    """Return the files of the run folder that a person may open, what each holds, and its size."""
    there = [(name, what, run / name) for name, what in _FILES.items() if (run / name).exists()]
    return [
        (name, what, size(sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())))
        for name, what, path in there
    ]


def size(count: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def environment(facts: Mapping[str, Any]) -> list[str]:
    """Return one line about the machine and one about the software."""
    packages = facts.get("packages") or {}
    machine = ", ".join(str(facts[key]) for key in ("cpu", "platform") if facts.get(key))
    threads = f"{facts['threads']} threads" if facts.get("threads") else ""
    named = {"Python": facts["python"], **packages} if "python" in facts else packages
    software = ", ".join(f"{name} {version}" for name, version in named.items())
    return [line for line in (", ".join(filter(None, [machine, threads])), software) if line]
