"""Parse, dispatch, and turn errors into one plain message and an exit code; imports nothing heavy itself."""

from __future__ import annotations

import contextlib
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
from types import FrameType
from typing import Any

from pretune import __version__
from pretune.cli import early, help
from pretune.cli.arguments import Arguments, parse
from pretune.cli.opening import is_first
from pretune.cli.verbs import VERBS
from pretune.errors import REFUSALS, PretuneError
from pretune.printable import json_text, printable


def command() -> None:
    """Run the command of this process and leave it at once.

    Python would take a second or more to free what torch has made, after the last line was printed.
    """
    code = main()
    if sys.gettrace() is None and sys.getprofile() is None:  # what watches a program writes its own result at the end
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
                stream.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 2 it cannot be run, 130 stopped, 1 an internal error."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a name shows its number
    as_json = "--json" in words
    warnings.filterwarnings("ignore", module=r"PIL\b")  # what is wrong with an image is in the ledger, or in its row of predictions
    try:
        with _terminable():
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except PretuneError as error:
        return _fail(str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        trains = bool({"finetune", "pretrain"} & set(words[:1]))
        again = "; run the same command to start again, or add resume=true to resume training if it had begun" if trains else ""
        return _fail(f"stopped{again}", 130, as_json)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: our own faults become exit code 1
        if isinstance(error, OSError) and error.errno in REFUSALS:
            _give_up_stdout()
            return _fail(f"{error.filename or 'the output'} cannot be written or read: {error.strerror}", 2, as_json)
        traceback.print_exc()
        return _fail("internal error in pretune; please report it with the traceback above", 1, as_json)


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
    arguments = parse(words)
    if arguments.version:
        print(f"pretune {__version__}")
        return 0
    if arguments.help or not arguments.verb:
        print(help.page(arguments.verb) if arguments.verb else help.overview())
        return 0 if arguments.help or not words else 2
    early.check(arguments)
    if VERBS[arguments.verb].slow and is_first():
        print(f"pretune {__version__}: {printable(' '.join(words))}", file=sys.stderr, flush=True)
    verb: Callable[[Arguments], dict[str, Any] | None] = importlib.import_module(f"pretune.cli.{arguments.verb}").main
    result = verb(arguments)
    if arguments.json and result is not None:
        print(json_text(result))
    return 0
