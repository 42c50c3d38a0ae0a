"""pretune generate RUN [PROMPT]: texts to stdout, sounds and pictures to files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pretune import config
from pretune.cli.environment import prepare_environment
from pretune.cli.main import Arguments
from pretune.errors import SettingError


def main(arguments: Arguments) -> dict[str, Any]:
    """Generate, and return what was made: texts themselves, paths of all else."""
    prepare_environment()
    if not 1 <= len(arguments.words) <= 2:
        raise SettingError('name a run and, if you like, a prompt: pretune generate runs/x "Once upon a time"')
    if arguments.recipes:
        raise SettingError(f"generate reads no recipe; {arguments.recipes[0]} has no use here. Settings are key=value.")
    settings = config.override({}, arguments.settings)
    if "prompt" in settings and len(arguments.words) == 2:
        raise SettingError("the prompt is given twice: as a word, and as prompt=…")
    out = Path(settings.pop("out", "generated"))
    run, prompt = arguments.words[0], (arguments.words[1:] or [settings.pop("prompt", "")])[0]
    from pretune import api

    made = []
    for number, sample in enumerate(api.generate(run, prompt, **settings)):
        if sample.text is not None:
            made.append({"text": sample.text})
            if not arguments.json:
                sys.stdout.write(sample.text + "\n")
        else:
            path = out / f"{sample.label or 'sample'}-{number:03d}{'.wav' if sample.sound is not None else '.png'}"
            api.save_sample(sample, path)
            made.append({"file": str(path), "label": sample.label})
            print(path, file=sys.stderr)
    return {"run": run, "samples": made}
