"""One exception tree; every message says what is wrong, where, and what to do next.

PretuneError
├── RequestError        the request cannot be run: exit code 2, one plain message
│   ├── SettingError    an unknown key or name, or a value out of range
│   ├── DataError       the folder or manifest as a whole cannot be used
│   ├── WeightsError    weights missing, corrupt, or of another architecture
│   └── MissingExtra    an optional package is not installed
├── BadItem             one datum cannot be used: it goes to the ledger, never further
├── TrainingError       training cannot go on (NaN, divergence, memory): exit code 2
└── Interrupted         Ctrl-C or a time limit from outside: exit code 130, resumable
"""

import difflib
import errno
from collections.abc import Iterable

from pretune.printable import printable

REFUSALS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM))
"""Numbers of an OSError that say no more than that the disk is full or closed to us: nobody's fault."""


def disk_remedy(error: Exception) -> str:
    """Return what to do about a file that could not be written: room does not help where writing is forbidden."""
    forbidden = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return f"{'Check its permissions' if forbidden else 'Free some space'} or choose another folder (out=…)."


class PretuneError(Exception):
    """Base of everything pretune raises on purpose."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the message on one line, with what names of files and classes hide written out."""
        return printable(super().__str__())


class RequestError(PretuneError):
    """The request cannot be run as given."""


class SettingError(RequestError):
    """A setting's key, name or value is not one of those allowed."""


class DataError(RequestError):
    """The data as a whole cannot be used."""


class WeightsError(RequestError):
    """Weights are missing, corrupt, or do not fit the architecture."""


class MissingExtra(RequestError):
    """An optional package is needed and not installed."""

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need}. Install it with: pip install 'pretune[{extra}]'")


class BadItem(PretuneError):
    """One datum cannot be used. `reason` is a slug for the ledger, the message a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class TrainingError(PretuneError):
    """Training cannot go on; the run folder keeps the last good checkpoint."""


class Interrupted(PretuneError):
    """The person stopped the run; it can be resumed."""

    exit_code = 130


_WHOLE = 80
"""Names up to which a list of them is printed whole; a longer one is filtered."""


def did_you_mean(got: str, known: Iterable[str], meant: str | None = None) -> str:
    """Return a sentence that lists the known names, the nearest to `got` first; of many names only those that are like it.

    Args:
        got: what was written.
        known: what there is.
        meant: which of them it stands for, where that is known.
    """
    names = list(known)
    near = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    near = [meant, *(name for name in near if name != meant)] if meant in names else near
    first = f"Did you mean {near[0]!r}? " if near else ""
    if not names:
        return f"{first}None are known."
    others = [name for name in names if name not in near]
    if len(names) <= _WHOLE:
        return f"{first}Known: {', '.join([*near, *others])}."
    alike = near + [name for name in others if got and got.casefold() in name.casefold()]
    shown = alike[:12] or names[:12]
    return f"{first}Known: {', '.join(shown)}, and {len(names) - len(shown)} more."
