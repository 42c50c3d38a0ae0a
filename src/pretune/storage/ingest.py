"""Decode once: every file is read, hashed and decoded in threads into one store that all runs share."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pretune.errors import BadItem, DataError
from pretune.modalities import Modality
from pretune.storage.cache import Cache
from pretune.storage.cells import unpack
from pretune.storage.identity import code_of, code_of_package, versions
from pretune.storage.prefetch import prefetch
from pretune.storage.store import Arrays, Info, NoRoom, StoreWriter, shapes_of
from pretune.storage.streaming import KeptStore, StreamingStore, content_hash, read_row
from pretune.types import Decoded, LedgerEntry, Row

KIND = "decoded"
"""The cache's folder of decoded data."""
_FORMAT = 2
_CODE = ("formats", "modalities")
_LIBRARIES = ("numpy", "pillow", "soundfile", "tokenizers", "torch")
_ESTIMATE_AFTER = 256
"""Examples whose mean size tells what all will take."""

T = TypeVar("T")
Progress = Callable[[int, int], None]
Dropped = tuple[int, str, str]
"""Position among the readable rows, reason, detail."""


@dataclass(kw_only=True)
class Ingested:
    """Decoded data: `rows`, `hashes` and the store's positions go together."""

    store: Arrays
    rows: list[Row]
    """The rows that could be decoded, in their order."""
    ledger: list[LedgerEntry]
    """The rows that could not, in their order, and why."""
    hashes: list[str]
    """SHA-256 of each example's bytes (of inline text: of its UTF-8)."""
    hit: bool
    """True where nothing had to be decoded."""
    seconds: float
    notes: list[str] = field(default_factory=list)
    """Sentences about what had to be done otherwise for want of room."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A row whose content could be read."""

    row: Row
    hash: str


def ingest(rows: list[Row], modality: Modality, cache: Cache, *, threads: int, progress: Progress | None = None) -> Ingested:
    """Return all rows in the modality's working form, from the cache where the same bytes were decoded before.

    Args:
        rows: examples with a path or inline text.
        modality: how they are decoded; its `working()` is part of the cache's key.
        cache: keeps what is decoded; where it has no room, examples are decoded at every access, with a note. A damaged entry is made
            again; examples in a damaged block of a large one, which is verified as it is read, are decoded again from their files.
        threads: that read, hash and decode.
        progress: called with (decoded, all) as decoding goes on.

    Raises:
        DataError: a file changed between hashing and decoding, or the cache has no room for the files inside a table.
    """
    started = time.perf_counter()
    unpack(rows, cache)
    sources, unread = _hash_all(rows, threads)
    decoding = _Decoding(sources=sources, modality=modality, cache=cache, threads=threads, progress=progress)
    notes: list[str] = []
    store: Arrays
    try:
        kept = cache.build(KIND, _key(modality, sources), decoding.run, as_read=True)
        dropped = [tuple(entry) for entry in kept.meta["dropped"]]
        store = KeptStore(kept=kept, again=_streaming(sources, dropped, modality, kept.infos, kept.shapes), warn=cache.warn)
    except NoRoom as full:
        notes.append(f"{full}. Each {modality.unit} is decoded again whenever it is used, which is slower.")
        if not decoding.ended:
            decoding.run(None)
        dropped = decoding.dropped
        store = _streaming(sources, dropped, modality, decoding.infos, shapes_of(decoding.shapes))
    gone = {position for position, _, _ in dropped}
    used = [source for position, source in enumerate(sources) if position not in gone]
    bad = {**unread, **{sources[position].row.id: (reason, detail) for position, reason, detail in dropped}}
    return Ingested(
        store=store,
        rows=[source.row for source in used],
        ledger=[_entry(row.id, *bad[row.id]) for row in rows if row.id in bad] + _mended(used, store.infos),
        hashes=[source.hash for source in used],
        hit=not decoding.ended,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


# --- hashing -------------------------------------------------------------------------------------


def _hash_all(rows: list[Row], threads: int) -> tuple[list[_Source], dict[str, tuple[str, str]]]:
    """Return the rows that can be read with their hashes, and by id why others cannot."""
    sources: list[_Source] = []
    unread: dict[str, tuple[str, str]] = {}
    for chunk in prefetch(_hash_chunk, _chunks(rows, 32), threads=_pool(threads), ahead=4 * threads):
        for row, result in chunk:
            if isinstance(result, _Source):
                sources.append(result)
            else:
                unread[row.id] = result
    return sources, unread


def _hash_chunk(rows: list[Row]) -> list[tuple[Row, _Source | tuple[str, str]]]:
    return [(row, _hash(row)) for row in rows]


def _hash(row: Row) -> _Source | tuple[str, str]:
    try:
        raw = read_row(row)
    except FileNotFoundError:
        return "missing_file", f"does not exist ({row.path})"
    except OSError as error:
        return "unreadable", f"cannot be read ({error.strerror})"
    except BadItem as bad:
        return bad.reason, bad.detail
    return _Source(row=row, hash=content_hash(raw))


def _key(modality: Modality, sources: list[_Source]) -> str:
    facts = {
        "format": _FORMAT,
        **modality.working(),
        "code": [code_of_package(*_CODE), code_of(type(modality))],
        "libraries": versions(*_LIBRARIES),
        "hashes": [source.hash for source in sources],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


# --- decoding ------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Decoding:
    """One pass over the sources, into a store as long as there is room for one."""

    sources: list[_Source]
    modality: Modality
    cache: Cache
    threads: int
    progress: Progress | None
    dropped: list[Dropped] = field(default_factory=list)
    infos: list[Info] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    ended: bool = False

    def run(self, path: Path | None) -> None:
        """Decode everything into a store at `path`, or only describe it where that is None.

        Raises:
            NoRoom: after the pass is over, which need not be repeated.
        """
        writer = StoreWriter(path, admit=self.cache.admit) if path else None
        full: NoRoom | None = None
        try:
            for position, result in enumerate(self._results()):
                if not isinstance(result, Decoded):
                    self.dropped.append((position, *result))
                    continue
                self.infos.append(result.info)
                self.shapes.append(result.array.shape)
                if writer and not full:
                    full = self._keep(writer, result)
            self.ended = True
            if writer and not full:
                writer.close({"dropped": self.dropped})
        finally:
            if writer:
                writer.discard()
        if full:
            raise full

    def _keep(self, writer: StoreWriter, item: Decoded) -> NoRoom | None:
        """Write one example; return why that, or all that are to come, does not fit."""
        try:
            writer.append(item.array, item.info)
            if len(writer.infos) == _ESTIMATE_AFTER:
                self.cache.admit(writer.nbytes * len(self.sources) // _ESTIMATE_AFTER, writer.nbytes)
        except NoRoom as full:
            writer.discard()
            return full
        return None

    def _results(self) -> Iterator[Decoded | tuple[str, str]]:
        chunks = list(_chunks(self.sources, 8 if any(source.row.text is None for source in self.sources[:1]) else 256))
        done = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\b")  # what is wrong with a file is said in the ledger
            for results in prefetch(self._decode_chunk, chunks, threads=_pool(self.threads), ahead=2 * self.threads):
                yield from results
                done += len(results)
                if self.progress:
                    self.progress(done, len(self.sources))

    def _decode_chunk(self, sources: list[_Source]) -> list[Decoded | tuple[str, str]]:
        return [self._decode(source) for source in sources]

    def _decode(self, source: _Source) -> Decoded | tuple[str, str]:
        try:
            raw = read_row(source.row)
        except OSError as error:
            raise DataError(f"{source.row.id} could be read a moment ago and cannot be read now ({error.strerror}).") from error
        if source.row.text is None and content_hash(raw) != source.hash:
            raise DataError(f"{source.row.id} changed while it was being read. Start again when nothing writes to the data.")
        try:
            return self.modality.decode(raw)
        except BadItem as bad:
            return bad.reason, bad.detail  # not the exception: its frames would keep the file's bytes alive
        except Exception as error:
            error.add_note(f"while decoding {source.row.id}")
            raise


def _streaming(
    sources: list[_Source], dropped: Sequence[Dropped], modality: Modality, infos: list[Info], shapes: NDArray[np.int64]
) -> StreamingStore:
    """Return what decodes an example whenever it is asked for."""
    gone = {position for position, _, _ in dropped}
    used = [source for position, source in enumerate(sources) if position not in gone]
    rows, hashes = [source.row for source in used], [source.hash for source in used]
    return StreamingStore(rows=rows, hashes=hashes, modality=modality, infos=infos, shapes=shapes)


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _pool(threads: int) -> int:
    """Return how many threads work besides this one, which only writes."""
    return threads if threads > 1 else 0


def _mended(sources: list[_Source], infos: list[Info]) -> list[LedgerEntry]:
    """Return entries for what a decoder had to mend: its `repaired` is a sentence."""
    return [
        LedgerEntry(item=source.row.id, action="repaired", reason="mended", detail=str(info["repaired"]))
        for source, info in zip(sources, infos, strict=True)
        if "repaired" in info
    ]


def _entry(item: str, reason: str, detail: str) -> LedgerEntry:
    return LedgerEntry(item=item, action="dropped", reason=reason, detail=detail)
