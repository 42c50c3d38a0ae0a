"""pretune generate RUN [PROMPT]: texts to stdout, audio and images to files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened
from pretune.errors import SettingError
from pretune.printable import file_name, printable

if TYPE_CHECKING:
    from pretune.objectives import Sample


def main(arguments: Arguments) -> dict[str, Any]:
    """Generate, and return what was made: texts themselves, paths of all else."""
    settings = config.override({}, arguments.settings)
    if "prompt" in settings and len(arguments.words) == 2:
        raise SettingError("the prompt is given twice: as a word, and as prompt=…")
    out, keeps = Path(settings.get("out", "generated")), settings.pop("out", None) is not None
    trust = settings.pop("trust", ())
    run, prompt = arguments.words[0], (arguments.words[1:] or [settings.pop("prompt", "")])[0]
    if out.exists() and not out.is_dir():
        raise SettingError(f"out={out} is a file; name a folder.")
    with opened() as terminal:
        from pretune import api

        terminal.progress("generating", 0, 0)
        samples = api.generate(run, prompt, trust=trust, **settings)
    return {"run": run, "samples": _shown(samples, out, keeps=keeps, as_json=arguments.json)}


def _shown(samples: list[Sample], out: Path, *, keeps: bool, as_json: bool) -> list[dict[str, Any]]:
    """Print texts, write everything else to files (texts too with `keeps`), and return what there is of each sample."""
    from pretune import api

    made, number = [], _first_number(out)
    for sample in samples:
        if sample.note and not made:
            print(f"! {printable(sample.note)}", file=sys.stderr)
        row: dict[str, Any] = {} if sample.text is None else {"text": sample.text}
        if sample.text is not None and not as_json:
            sys.stdout.write(printable(sample.text, keep="\n\t") + "\n")
        if sample.text is None or keeps:
            path, number = _new_file(out, sample, number)
            api.save_sample(sample, path)
            row |= {"file": str(path), "label": sample.label}
            print(printable(str(path)), file=sys.stderr)
        made.append(row | ({"note": sample.note} if sample.note else {}))
    return made


def _first_number(folder: Path) -> int:
    """Return the number after those of the files that are there: earlier ones are kept."""
    found = [re.search(r"-(\d{3,9})\.\w+$", path.name) for path in (folder.iterdir() if folder.is_dir() else ())]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _new_file(folder: Path, sample: Sample, number: int) -> tuple[Path, int]:
    """Make an empty file for a sample, inside the folder whatever its class is called; return its path and the next number."""
    folder.mkdir(parents=True, exist_ok=True)
    name = file_name(sample.label or "") or "sample"
    while True:
        path = folder / f"{name}-{number:03d}{_ending(sample)}"
        number += 1
        try:
            path.open("xb").close()
        except FileExistsError:  # another process writes here too
            continue
        return path, number


def _ending(sample: Sample) -> str:
    return ".txt" if sample.text is not None else ".wav" if sample.audio is not None else ".png"
