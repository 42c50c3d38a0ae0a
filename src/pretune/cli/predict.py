"""pretune predict RUN INPUTS: one row per input, in order."""

from __future__ import annotations

import sys
from typing import Any

from pretune import config
from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError, did_you_mean

SETTINGS = ("text", "path", "trust")


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Print CSV, or return {"predictions": [...]} for --json."""
    prepare_environment()
    if len(arguments.words) != 2:
        raise SettingError("name a run and what to predict, for example: pretune predict runs/photos-linear_probe-001 new_photos/")
    settings = config.override({}, arguments.settings)
    for key in settings:
        if key not in SETTINGS:
            raise SettingError(f"predict has no setting {key!r}. {did_you_mean(key, SETTINGS)}")
    from pretune import api
    from pretune.cli.terminal import Terminal
    from pretune.runner.reporter import Noted

    said = Noted(Terminal())
    run, inputs = arguments.words
    given = {key: settings.get(key) for key in ("text", "path")}
    rows = list(api.predict(run, inputs, **given, trust=settings.get("trust", ()), reporter=said))
    bad = sum("error" in row for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} inputs could not be read; their rows carry an error", file=sys.stderr)
    if arguments.json:
        return {"run": run, "predictions": rows, "notes": said.notes}
    sys.stdout.write(api.predictions_csv(rows))
    return None
