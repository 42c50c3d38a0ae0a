"""pretune finetune DATA: audit, train, score, report."""

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
        raise SettingError(f"one folder or manifest at a time; got {', '.join(arguments.words)}. A setting is key=value, without spaces.")
    from pretune import api, recipe
    from pretune.cli.terminal import Terminal

    made = recipe.read(arguments.words[0] if arguments.words else None, arguments.recipes, arguments.settings)
    terminal = Terminal()
    try:
        done = api.run(made, reporter=terminal, offline=arguments.offline, started=STARTED)
    finally:
        terminal.close()
    if int(os.environ.get("RANK", "0")):
        return None
    metrics = done.metrics
    primary = metrics["primary"]
    ends = metrics[primary["split"]]["interval"].get(primary["name"])
    around = f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})" if ends else ""
    terminal.say(f"{primary['split']} {primary['name']} {primary['value']:.4g}{around}")
    for name, floor in metrics["floors"].items():
        terminal.say(f"  floor, {name}: {floor['value']:.4g}")
    terminal.say(f"{metrics['timing']['total_s']:.1f} s in all; report: {done.report}")
    return {**metrics, "run": str(done.path)}
