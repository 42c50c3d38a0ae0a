"""pretune evaluate RUN DATA: a saved run's metrics on labelled data."""

from __future__ import annotations

from typing import Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the metrics and return them."""
    run, data = arguments.words
    with opened(stdout=not arguments.json) as terminal:
        from pretune import api

        result = api.evaluate(run, data, reporter=terminal, **config.override({}, arguments.settings))
        primary = result["primary"]
        interval = " (95 % interval {:.4g} to {:.4g})".format(*primary["interval"]) if primary["interval"] else ""
        terminal.say(f"{primary['name']} {primary['value']:.4g}{interval}")
        for name, value in result["metrics"].items():
            if isinstance(value, float) and name != primary["name"]:
                terminal.say(f"  {name}: {value:.4g}")
        for entry in result["dropped"][:8]:
            terminal.warn(f"dropped {entry['item']}: {entry['detail']}")
        terminal.say(f"{result['counts']['used']} used, {result['counts']['dropped']} dropped")
    return {**result, "run": run}
