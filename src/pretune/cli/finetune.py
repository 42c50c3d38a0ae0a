"""pretune finetune DATA: audit, train, score, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune import STARTED
from pretune.cli._training import finished, until
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened

if TYPE_CHECKING:
    from pretune.api import Run


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Run the recipe of the command line; return metrics.json plus the run folder, on the first process only."""
    with opened() as terminal:
        from pretune import api, recipe

        made = recipe.read_recipe(arguments.words[0] if arguments.words else None, arguments.recipes, arguments.settings)
        terminal.until = until(made.training.time)
        run = api.run(made, reporter=terminal, offline=arguments.offline, started=STARTED)
        return finished(run, terminal, _lines)


def _lines(done: Run) -> list[str]:
    """Return the score, its baselines, and the model where it is not the network, a line each."""
    from pretune.evaluation.wording import show, span, words

    metrics = done.metrics
    primary = metrics["primary"]
    leading = primary["name"]
    ends = metrics[primary["split"]]["interval"].get(leading)
    interval = f" (95 % interval {span(leading, ends)})" if ends else ""
    floors = [f"  baseline, {name}: {show(leading, floor['value'])}" for name, floor in metrics["floors"].items()]
    if metrics["model"] == "baseline":
        floors.insert(0, f"  model: {metrics['baseline']['what']}")
        floors.append(f"  network: {show(leading, metrics['network'][primary['split']][leading])}")
    return [f"{primary['split']} {words(leading)} {show(leading, primary['value'])}{interval}", *floors]
