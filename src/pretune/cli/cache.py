"""pretune cache [clear]: what the cache holds, whether it is whole, and how to empty it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pretune import config
from pretune.cli.arguments import Arguments
from pretune.errors import RequestError, SettingError, did_you_mean


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the entries, damaged and half-built ones marked, or remove them all."""
    from pretune.storage.cache import Cache

    root = config.override({}, arguments.settings).get("cache")
    cache = Cache(Path(root) if root else None)
    if arguments.words and arguments.words[0] != "clear":
        raise SettingError(f"pretune cache does not know {arguments.words[0]!r}. {did_you_mean(arguments.words[0], ['clear'])}")
    if cache.root.exists() and not cache.root.is_dir():
        raise RequestError(f"{cache.root} is not a folder, so nothing is cached. Remove it, or name another: PRETUNE_CACHE=FOLDER")
    clear = bool(arguments.words)
    entries = cache.clear() if clear else list(cache.inspected())
    left = list(cache.entries()) if clear else []
    total = sum(entry.bytes for entry in entries)
    if not arguments.json:
        for entry in entries:
            print(f"{entry.kind:<10} {entry.key[:16]}  {entry.bytes / 1e6:10.1f} MB  {entry.state}".rstrip())
        print(f"{'removed' if clear else 'in all'} {total / 1e6:.1f} MB in {len(entries)} entries under {cache.root}")
        if left:
            print(f"{len(left)} entries are left: a running process uses them, or they cannot be removed")
        elif any(entry.state for entry in entries) and not clear:
            print("damaged entries are built again when they are needed; half-built ones go with: pretune cache clear")
    return {
        "root": str(cache.root),
        "entries": [{"kind": e.kind, "key": e.key, "bytes": e.bytes, "state": e.state or "whole"} for e in entries],
        "bytes": total,
        "cleared": clear,
        "left": len(left),
    }
