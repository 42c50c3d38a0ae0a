"""pretune pretrain DATA: learn a backbone from data without labels."""

from __future__ import annotations

import os
from typing import Any

from pretune import STARTED
from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Carry out the recipe of the command line; return metrics.json plus the run folder, on the first rank only."""
    prepare_environment()
    if len(arguments.words) > 1:
        first, *others = arguments.words
        raise SettingError(f"one corpus at a time; further ones are written {first} also={','.join(others)}")
    from pretune import api, pretraining
    from pretune.cli.terminal import Terminal

    made = pretraining.read(arguments.words[0] if arguments.words else None, arguments.recipes, arguments.settings)
    terminal = Terminal()
    try:
        done = api.run_pretraining(made, reporter=terminal, offline=arguments.offline, started=STARTED)
    finally:
        terminal.close()
    if int(os.environ.get("RANK", "0")):
        return None
    metrics = done.metrics
    held = ", ".join(f"{name} {value:.4g}" for name, value in metrics["held"].items())
    terminal.say(f"held out: {held}")
    for name, floor in metrics["floors"].items():
        terminal.say(f"  floor, {name}: {floor:.4g}")
    terminal.say(f"{metrics['timing']['total_s']:.1f} s in all; report: {done.report}")
    terminal.say(f"use it: pretune finetune DATA backbone=run:{done.path}")
    return {**metrics, "run": str(done.path)}
