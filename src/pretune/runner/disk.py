"""A disk that is full or may not be written to: one message that says how to go on."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from safetensors import SafetensorError

from pretune.errors import REFUSALS, RequestError, disk_remedy


@contextmanager
def explained_refusals(cure: str) -> Generator[None]:
    """Within this context a refusal of the disk is a RequestError that says what helps, and ends with `cure`."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise RequestError(f"{error.filename or 'the run folder'}: {error.strerror}. {disk_remedy(error)} {cure}") from error
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise RequestError(f"the weights cannot be written: no space left on device. {disk_remedy(error)} {cure}") from error
