"""The real command line, run inside the test's process: what a subprocess costs is mostly importing torch again."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from pretune.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and all it printed."""

    code: int
    stdout: str
    stderr: str


def pretune(*words: str, code: int = 0) -> Done:
    """Run `pretune WORDS…`; the exit code must be `code`, and there must be no traceback."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ), redirect_stdout(out), redirect_stderr(err):
        done = Done(main(list(words)), out.getvalue(), err.getvalue())
    assert done.code == code, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done
