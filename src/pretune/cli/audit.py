"""pretune audit DATA: what is wrong with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened

if TYPE_CHECKING:
    from pretune.api import Audit


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the findings and return them, JSON-ready."""
    with opened(stdout=not arguments.json) as terminal:
        from pretune import api

        found = api.audit(arguments.words[0], reporter=terminal, **config.override({}, arguments.settings))
        for line in _lines(found):
            terminal.say(line)
        for finding in found.findings:
            (terminal.warn if finding.severity == "warning" else terminal.say)(finding.message)
        if not found.findings and not found.ledger:
            terminal.say("no problems found")
        return found.to_json()


def _lines(found: Audit) -> list[str]:
    """Return what the data are, and how many examples each class has."""
    counts = found.counts
    head = f"{found.layout}; {found.modality}, {found.task or 'no labels'}; {counts['used']} usable, {counts['dropped']} dropped"
    return [head, *found.messages, *(f"  {name}: {count}" for name, count in counts["per_class"].items())]
