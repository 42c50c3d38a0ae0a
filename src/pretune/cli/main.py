"""Parse, dispatch, and turn errors into one plain message and an exit code; imports nothing heavy itself."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from pretune.errors import REFUSALS, PretuneError, SettingError, did_you_mean
from pretune.printable import json_text, printable

VERBS: dict[str, tuple[str, str]] = {
    "audit": ("DATA", "what is wrong with this data, before any training"),
    "finetune": ("DATA", "the main job: labelled data in, run folder out"),
    "pretrain": ("DATA", "learn a backbone from texts, images or sounds without labels"),
    "generate": ("RUN [PROMPT]", "new texts, sounds or pictures from a pretrained model"),
    "evaluate": ("RUN DATA", "metrics of a saved run on labelled data"),
    "predict": ("RUN INPUTS", "one row per input, CSV or JSON; bad inputs get an error of their own"),
    "list": ("[FAMILY|SOURCE]", "components and backbones there are"),
    "runs": ("[FOLDER]", "runs on disk, with their scores"),
    "inspect": ("RUN", "what a run is made of"),
    "cache": ("[clear]", "what the cache of decoded data and features holds"),
}

_COLUMNS = {
    "predict": ("text=COLUMN, path=COLUMN   the column to read, where it is not called as in the training data",),
    "evaluate": (
        "text=COLUMN, path=COLUMN, label=COLUMN, split=COLUMN   columns that are not called as in the training data",
        "part=train|val|test   only this split of the data",
    ),
}
"""The settings of verbs that read a run."""

USAGE = "usage: pretune VERB [DATA|RUN] [recipe.toml] [key=value …] [--json] [--offline]"


@dataclass(kw_only=True)
class Arguments:
    """A parsed command line."""

    verb: str
    words: list[str] = field(default_factory=list)
    """Positional words: data, runs, files."""
    recipes: list[str] = field(default_factory=list)
    """TOML files."""
    settings: list[str] = field(default_factory=list)
    """key=value."""
    json: bool = False
    offline: bool = False
    help: bool = False


def parse(argv: Sequence[str]) -> Arguments:
    """Return the parsed words.

    Raises:
        SettingError: an unknown verb or flag, the nearest named first.
    """
    out = Arguments(verb="")
    rest_is_words = False
    for word in argv:
        if rest_is_words:
            _place(out, word) if not out.verb else out.words.append(word)
        elif not word.startswith("-") or word == "-":
            _place(out, word)
        elif word == "--":
            rest_is_words = True
        elif word in ("--json", "--offline", "--help", "-h", "--version"):
            setattr(out, word.strip("-").replace("h", "help") if word == "-h" else word[2:], True)
        else:
            raise SettingError(
                f"no flag is called {word!r}. {did_you_mean(word, ['--json', '--offline', '--help', '--version'])} Settings are key=value."
            )
    if out.verb and out.verb not in VERBS:
        raise SettingError(f"no verb is called {out.verb!r}. {did_you_mean(out.verb, VERBS)}")
    return out


def _place(out: Arguments, word: str) -> None:
    head = word.partition("=")[0]
    if not out.verb:
        out.verb = word
    elif "=" in word and not os.path.exists(word) and all(part.isidentifier() for part in head.split(".")):
        out.settings.append(word)
    elif word.endswith(".toml"):
        out.recipes.append(word)
    else:
        out.words.append(word)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 cannot be carried out, 130 stopped, 1 our fault."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a name shows its number
    as_json = "--json" in words
    warnings.filterwarnings("ignore", module=r"PIL\b")  # what is wrong with a picture is in the ledger, or in its row of predictions
    try:
        with _terminable():
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except PretuneError as error:
        return _fail(str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        trains = bool({"finetune", "pretrain"} & set(words[:1]))
        again = "; the same command starts again, and with resume=true it goes on where training had begun" if trains else ""
        return _fail(f"stopped{again}", 130, as_json)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: our own faults become exit code 1
        if isinstance(error, OSError) and error.errno in REFUSALS:
            _give_up_stdout()
            return _fail(f"{error.filename or 'the output'} cannot be written or read: {error.strerror}", 2, as_json)
        traceback.print_exc()
        return _fail("internal error, not a mistake of yours; please report the lines above", 1, as_json)


@contextmanager
def _terminable() -> Generator[None]:
    """Within this context SIGTERM ends a verb as Ctrl-C does: with a message, and nothing left half-written."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _give_up_stdout() -> None:
    """Where stdout cannot be written to, drop what waits for it: Python would try again at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"pretune: {printable(message)}", file=sys.stderr)
    if as_json:
        print(json_text({"error": message, "exit_code": code}))
    return code


def _dispatch(words: list[str]) -> int:
    if "--version" in words:
        from pretune import __version__

        print(f"pretune {__version__}")
        return 0
    arguments = parse(words)
    if not arguments.verb:
        print(help_text())
        return 0 if arguments.help or not words else 2
    if arguments.help:
        print(verb_help(arguments.verb))
        return 0
    verb: Callable[[Arguments], dict[str, Any] | None] = importlib.import_module(f"pretune.cli.{arguments.verb}").main
    result = verb(arguments)
    if arguments.json and result is not None:
        print(json_text(result))
    return 0


def help_text() -> str:
    """Return the page `pretune --help` prints."""
    width = max(len(f"{verb} {takes}") for verb, (takes, _) in VERBS.items())
    lines = [f"  {f'{verb} {takes}':<{width}}  {what}" for verb, (takes, what) in VERBS.items()]
    return "\n".join(
        [
            "pretune: pretrain, then fine-tune. Data in, a measured and resumable run out.",
            "",
            USAGE,
            "",
            *lines,
            "",
            "  --json      one JSON object on stdout, everything else on stderr",
            "  --offline   never open a socket",
            "",
            "  pretune VERB --help   the verb's settings          pretune list   all components",
            "  example: pretune finetune photos/ strategy=full epochs=3 time=10m",
        ]
    )


def verb_help(verb: str) -> str:
    """Return a verb's page: for the training verbs with every setting, its default and its meaning."""
    takes, what = VERBS[verb]
    text = f"pretune {verb} {takes} [key=value …]\n{what}" + "".join(f"\n  {line}" for line in _COLUMNS.get(verb, ()))
    if verb not in ("finetune", "audit", "pretrain", "generate"):
        return text
    from pretune.cli.settings import generating_page, pretraining_page, recipe_page

    page = {"pretrain": pretraining_page, "generate": generating_page}.get(verb, recipe_page)
    return f"{text}\n\n{page()}"
