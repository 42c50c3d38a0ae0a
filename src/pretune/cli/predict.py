"""pretune predict RUN INPUTS: one row per input, in order."""

from __future__ import annotations

import sys
from typing import Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.cli.environment import prepare_environment


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Print CSV, or return {"predictions": [...]} for --json."""
    prepare_environment()
    settings = config.override({}, arguments.settings)
    from pretune import api
    from pretune.cli.terminal import Terminal
    from pretune.runner.reporter import Noted

    said = Noted(Terminal())
    run, inputs = arguments.words
    given = {key: settings.get(key) for key in ("text", "path", "predictor")}
    rows = list(api.predict(run, inputs, **given, trust=settings.get("trust", ()), reporter=said))
    bad = sum("error" in row for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} inputs could not be read; their rows carry an error", file=sys.stderr)
    if arguments.json:
        return {"run": run, "predictions": rows, "notes": said.notes}
    sys.stdout.write(api.predictions_csv(rows))
    return None
