"""Whether a server can be reached at all: known within seconds, where the libraries that download would try again for half a minute."""

from __future__ import annotations

import queue
import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pretune.errors import WeightsError

SECONDS = 4.0
"""What finding the address and connecting may take together."""


def require_reachable(id: str, address: str, instead: str) -> None:
    """Refuse to download from a server that cannot be reached; a proxy from the environment is tried in its place.

    Args:
        id: of the network that is wanted.
        address: where it would be downloaded from.
        instead: how it is given without the network.

    Raises:
        WeightsError: the server does not answer.
    """
    host, port = _server(address)
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_refusal(host, port)), daemon=True).start()  # the search for a name has no time limit
    try:
        why = answers.get(timeout=SECONDS)
    except queue.Empty:
        why = f"no answer within {SECONDS:g} s"
    if why:
        raise WeightsError(f"{id} could not be downloaded: {host} cannot be reached ({why}). Check the network, or {instead}.")


def _server(address: str) -> tuple[str, int]:
    """Return host and port that a download would connect to."""
    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(str(parts.hostname)):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return str(parts.hostname), parts.port or (80 if parts.scheme == "http" else 443)


def _refusal(host: str, port: int) -> str:
    """Return why a server cannot be connected to; empty where it can."""
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""
