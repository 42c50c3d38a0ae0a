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
        from pretune.evaluation.wording import show, span, words

        result = api.evaluate(run, data, reporter=terminal, **config.override({}, arguments.settings))
        primary = result["primary"]
        name, ends = primary["name"], primary["interval"]
        interval = f" (95 % interval {span(name, ends)})" if ends else ""
        terminal.say(f"{words(name)} {show(name, primary['value'])}{interval}")
        for name, value in result["metrics"].items():
            if isinstance(value, float) and name != primary["name"]:
                terminal.say(f"  {words(name)}: {show(name, value)}")
        for entry in result["dropped"][:8]:
            terminal.warn(f"dropped {entry['item']}: {entry['detail']}")
        terminal.say(f"{result['counts']['used']} used, {result['counts']['dropped']} dropped")
    return {**result, "run": run}
