"""pretune audit DATA: what is wrong with the data."""

from __future__ import annotations

from typing import Any

from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the findings and return them, JSON-ready."""
    prepare_environment()
    if len(arguments.words) != 1:
        raise SettingError("name one folder or manifest, for example: pretune audit photos/")
    from pretune import api, config
    from pretune.cli.terminal import Terminal

    terminal = Terminal(stdout=not arguments.json)
    try:
        found = api.audit(arguments.words[0], reporter=terminal, **config.override({}, arguments.settings))
    finally:
        terminal.close()
    for line in [
        f"{found.layout}; {found.modality}, {found.task or 'no labels'}; {found.counts['used']} usable, {found.counts['dropped']} dropped",
        *found.said,
    ]:
        terminal.say(line)
    for name, count in found.counts["per_class"].items():
        terminal.say(f"  {name}: {count}")
    for finding in found.findings:
        (terminal.warn if finding.severity == "warning" else terminal.say)(finding.message)
    if not found.findings and not found.ledger:
        terminal.say("nothing to complain about")
    return found.to_json()
