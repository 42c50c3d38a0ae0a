"""pretune pretrain DATA: learn a backbone from data without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune import STARTED
from pretune.cli._training import carried_out
from pretune.cli.arguments import Arguments
from pretune.cli.environment import prepare_environment
from pretune.printable import shell_word

if TYPE_CHECKING:
    from pretune.api import Run


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Carry out the recipe of the command line; return metrics.json plus the run folder, on the first rank only."""
    prepare_environment()
    from pretune import api, pretraining

    made = pretraining.read(arguments.words[0] if arguments.words else None, arguments.recipes, arguments.settings)
    return carried_out(lambda terminal: api.run_pretraining(made, reporter=terminal, offline=arguments.offline, started=STARTED), _told)


def _told(done: Run) -> list[str]:
    """Return the held-out figures, the floors, and how the result is used, a line each."""
    held = ", ".join(f"{name} {value:.4g}" for name, value in done.metrics["held"].items())
    floors = [f"  floor, {name}: {floor:.4g}" for name, floor in done.metrics["floors"].items()]
    return [f"held out: {held}", *floors, f"use it: pretune finetune DATA {shell_word(f'backbone=run:{done.path}')}"]
