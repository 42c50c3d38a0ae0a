"""pretune predict RUN INPUTS: one row per input, in order."""

from __future__ import annotations

import sys
from typing import Any

from pretune import config
from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Print CSV, or return {"predictions": [...]} for --json."""
    prepare_environment()
    settings = config.override({}, arguments.settings)
    unknown = sorted(settings.keys() - {"trust"})
    if unknown:
        raise SettingError(f"predict has no setting {unknown[0]!r}. Known: trust.")
    if len(arguments.words) != 2:
        raise SettingError("name a run and what to predict, for example: pretune predict runs/photos-linear_probe-001 new_photos/")
    from pretune import api

    rows = list(api.predict(*arguments.words, trust=settings.get("trust", ())))
    bad = sum("error" in row for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} inputs could not be read; their rows carry an error", file=sys.stderr)
    if arguments.json:
        return {"run": arguments.words[0], "predictions": rows}
    sys.stdout.write(api.predictions_csv(rows))
    return None
