"""pretune evaluate RUN DATA: a saved run's metrics on labelled data."""

from __future__ import annotations

from typing import Any

from pretune import config
from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError, did_you_mean


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the metrics and return them."""
    prepare_environment()
    if len(arguments.words) != 2:
        raise SettingError("name a run and labelled data, for example: pretune evaluate runs/photos-linear_probe-001 photos/test")
    from pretune import api
    from pretune.cli.terminal import Terminal

    settings = config.override({}, arguments.settings)
    for key in settings:
        if key not in api.EVALUATE_SETTINGS:
            raise SettingError(f"evaluate has no setting {key!r}. {did_you_mean(key, api.EVALUATE_SETTINGS)}")
    terminal = Terminal(stdout=not arguments.json)
    run, data = arguments.words
    result = api.evaluate(run, data, reporter=terminal, **settings)
    primary = result["primary"]
    around = " (95 % interval {:.4g} to {:.4g})".format(*primary["interval"]) if primary["interval"] else ""
    terminal.say(f"{primary['name']} {primary['value']:.4g}{around}")
    for name, value in result["metrics"].items():
        if isinstance(value, float) and name != primary["name"]:
            terminal.say(f"  {name}: {value:.4g}")
    for entry in result["dropped"][:8]:
        terminal.warn(f"dropped {entry['item']}: {entry['detail']}")
    terminal.say(f"{result['counts']['used']} used, {result['counts']['dropped']} dropped")
    return {**result, "run": arguments.words[0]}
