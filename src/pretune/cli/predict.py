"""pretune predict RUN INPUTS: one row per input, in order; to stdout, or to the file that out= names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened
from pretune.errors import SettingError
from pretune.printable import json_text

_ENDINGS = (".csv", ".json", ".jsonl", ".srt", ".vtt", ".npy", ".parquet")


def main(arguments: Arguments) -> dict[str, Any] | None:
    """Print CSV or write a file; return {"predictions": [...]} for --json."""
    settings = config.override({}, arguments.settings)
    run, inputs = arguments.words
    format = settings.get("format")
    out = _named(settings.get("out"), format) if format is not None else _checked(settings.get("out"), inputs)
    with opened() as terminal:
        from pretune import api
        from pretune.deploy import boxes, embeddings
        from pretune.deploy.answers import predictions_csv
        from pretune.runner.reporter import Noted
        from pretune.training.run_dir import write_atomic

        notes = Noted(terminal)
        columns = {key: settings.get(key) for key in ("text", "path", "predictor", "corpus")}
        rows = list(api.predict(run, inputs, **columns, task=settings.get("task"), trust=settings.get("trust", ()), reporter=notes))
        bad = sum("error" in row for row in rows)
        if bad:
            terminal.warn(f"{bad} of {len(rows)} inputs could not be read (see the error column)")
        if out is not None and format is not None:
            terminal.say(boxes.write(Path(run), rows, Path(inputs), out, format))
        elif out is not None and out.suffix.lower() in embeddings.ENDINGS:
            terminal.say(embeddings.write(rows, out))
        elif out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out, _content(rows, out.suffix, predictions_csv).encode())
            terminal.say(f"{len(rows)} rows written to {out}")
    if arguments.json:
        return {"run": run, "predictions": rows, "notes": notes.notes, **({"out": str(out)} if out else {})}
    if out is None:
        sys.stdout.write(predictions_csv(rows))
    return None


def _named(out: str | None, format: str) -> Path:
    """Return what a format is written to.

    Raises:
        SettingError: nothing is named.
    """
    if out is None:
        raise SettingError(f"format={format} needs out=: a .json file for coco, a folder for yolo and images")
    return Path(out).expanduser()


def _checked(out: str | None, inputs: str) -> Path | None:
    """Return the file to write; None where there is none.

    Raises:
        SettingError: it has no extension that says how, its folder does not exist, or it is what is read.
    """
    if out is None or out.lower() in ("auto", "none"):
        return None
    path = Path(out).expanduser()
    if path.suffix.lower() not in _ENDINGS or path.is_dir():
        raise SettingError(f"out={out}: name a file that ends in {', '.join(_ENDINGS)}, for example out=predictions.csv")
    if not path.parent.is_dir():
        raise SettingError(f"out={out}: there is no folder {path.parent}. Make it first.")
    if path.exists() and path.samefile(Path(inputs).expanduser()):
        raise SettingError(f"out={out} is the file that is read. Name another.")
    return path


def _content(rows: list[dict[str, Any]], ending: str, as_csv: Any) -> str:
    """Return rows as the content of a file: CSV, a JSON list, a JSON object a line, or subtitles."""
    if ending.lower() in (".srt", ".vtt"):
        from pretune.deploy import subtitles

        return subtitles.content(rows, ending.lower())
    if ending.lower() == ".csv":
        return as_csv(rows)
    if ending.lower() == ".json":
        return f"{json_text(rows, indent=1)}\n"
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
