"""pretune cache [clear]: what the cache holds, and how to empty it."""

from __future__ import annotations

from typing import Any

from pretune.cli.main import Arguments
from pretune.errors import SettingError, did_you_mean


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the entries, or remove them all."""
    from pretune.data.cache import Cache

    cache = Cache()
    if arguments.words and arguments.words[0] != "clear":
        raise SettingError(f"pretune cache does not know {arguments.words[0]!r}. {did_you_mean(arguments.words[0], ['clear'])}")
    entries = cache.entries()
    total = sum(entry.bytes for entry in entries)
    if arguments.words:
        cache.clear()
    if not arguments.json:
        for entry in entries:
            print(f"{entry.kind:<10} {entry.key[:16]}  {entry.bytes / 1e6:10.1f} MB")
        print(f"{'removed' if arguments.words else 'in all'} {total / 1e6:.1f} MB in {len(entries)} entries under {cache.root}")
    return {
        "root": str(cache.root),
        "entries": [{"kind": e.kind, "key": e.key, "bytes": e.bytes} for e in entries],
        "bytes": total,
        "cleared": bool(arguments.words),
    }
