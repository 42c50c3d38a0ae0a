"""Weights files that a person named and that may have to be downloaded: found first, fetched only then, always reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pretune.backbones._network import require_reachable
from pretune.backbones._packages import folder, sha256
from pretune.errors import WeightsError
from pretune.printable import printable


def find(name: str, kept: Path | None) -> Path | None:
    """Return a weights file that is on this machine: in PRETUNE_WEIGHTS by name, or where its library keeps it."""
    own = folder()
    for path in ((own / name) if own else None, kept):
        if path is not None and path.is_file():
            return path
    return None


def verify(path: Path, prefix: str, again: str) -> None:
    """Refuse a file whose SHA-256 does not begin with the digits its name promises."""
    got = sha256(path)
    if not got.startswith(prefix):
        raise WeightsError(f"{path} is damaged: its sha256 begins {got[: len(prefix)]}, expected {prefix}. Delete it and {again}.")


def absent(id: str, address: str, name: str, where: str) -> WeightsError:
    """Return the error of a file that is not here while no socket may be opened."""
    own = folder()
    place = f"in the folder PRETUNE_WEIGHTS points to ({own})" if own else "in a folder that the environment variable PRETUNE_WEIGHTS names"
    return WeightsError(
        f"{id} is not on this machine and --offline forbids fetching it. Download {address} elsewhere and put it as {name} "
        f"{place}, or as {where}; or leave --offline out."
    )


def fetch(id: str, address: str, size: str, licence: str, download: Callable[[], Path]) -> Path:
    """Report what is downloaded, and download it.

    Raises:
        WeightsError: the network or the server refused.
    """
    require_reachable(id, address, "put the file in the folder that PRETUNE_WEIGHTS names")
    sys.stderr.write(printable(f"downloading {id}: {address} ({size}; licence: {licence})") + "\n")
    try:
        return download()
    except (OSError, RuntimeError, ValueError, *network_errors()) as error:
        why = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{id} could not be downloaded from {address}: {type(error).__name__}: {why}. "
            "Check the network, or put the file in the folder that PRETUNE_WEIGHTS names."
        ) from None


def network_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's HTTP library raises where there is no network, if it has been loaded; its errors are not OSErrors."""
    loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return tuple(module.HTTPError for module in loaded if module is not None)
