"""pretune audit DATA: what is wrong with the data."""

from __future__ import annotations

from typing import Any

from pretune.cli.arguments import Arguments
from pretune.cli.environment import prepare_environment


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the findings and return them, JSON-ready."""
    prepare_environment()
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
        terminal.say("no problems found")
    return found.to_json()
