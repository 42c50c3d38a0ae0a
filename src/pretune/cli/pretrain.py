"""pretune pretrain DATA: learn a backbone from data without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune import STARTED
from pretune.cli._training import finished, until
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened
from pretune.printable import shell_word

if TYPE_CHECKING:
    from pretune.api import Run


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Run the recipe of the command line; return metrics.json plus the run folder, on the first process only."""
    with opened() as terminal:
        from pretune import api, pretraining

        made = pretraining.read_pretraining(arguments.words[0] if arguments.words else None, arguments.recipes, arguments.settings)
        terminal.until = until(made.training.time)
        run = api.run_pretraining(made, reporter=terminal, offline=arguments.offline, started=STARTED)
        return finished(run, terminal, _lines)


def _lines(done: Run) -> list[str]:
    """Return the held-out figures, the floors, and how the result is used, a line each."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in done.metrics["held"].items())
    floors = [f"  baseline, {name}: {floor:.4g}" for name, floor in done.metrics["floors"].items()]
    return [f"held-out {figures}", *floors, f"use it: pretune finetune DATA {shell_word(f'backbone=run:{done.path}')}"]
