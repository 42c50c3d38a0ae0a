"""Unlabelled text to pretrain on, read in pieces: files, folders of them, JSONL, Parquet, tables.

A corpus is a stream of documents. Nothing holds more of it than a piece, whatever its size: it is read once to count,
hash and look at, and once for each thing made of it (a tokenizer, a file of tokens).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretune.data import arrow, sources
from pretune.data.table import Columns
from pretune.data.tree import walk
from pretune.errors import BadItem, DataError
from pretune.modalities import _encodings
from pretune.modalities._formats import ending
from pretune.types import LedgerEntry

PIECE = 1 << 20
"""Characters of a document that are held at a time, about."""
_TEXTS = frozenset((".txt", ".md", ".text", ".rst"))
_TABLES = frozenset((".csv", ".tsv", ".json"))
_NAMES = ("text", "content", "document", "body", "sentence")
"""Columns that hold a document, where none is named."""

Piece = tuple[str, bool]
"""Some text, and whether its document ends here."""


@dataclass(kw_only=True)
class Corpus:
    """Documents that can be gone through again and again."""

    root: Path
    read: Callable[[], Iterator[Piece]]
    """Begins at the first document; the same every time."""
    said: list[str] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    documents: int = 0
    characters: int = 0
    replaced: int = 0
    """Characters that stand for bytes that were no text."""
    digest: str = ""
    """Hash of all text: what caches know the corpus by."""
    held_share: float = 0.0
    seed: int = 0

    def train(self) -> Iterator[Piece]:
        """Yield what is learned from."""
        return self._part(held=False)

    def held(self) -> Iterator[Piece]:
        """Yield what is only measured on: of one document its end, of several whole documents at random."""
        return self._part(held=True)

    def _part(self, *, held: bool) -> Iterator[Piece]:
        if self.documents == 1:
            yield from self._end(int(self.characters * (1 - self.held_share)), held)
            return
        chosen = self.chosen()
        number = 0
        for text, ends in self.read():
            if chosen[number] == held:
                yield text, ends
            number += ends

    def chosen(self) -> np.ndarray:
        """Return which documents are held out, (documents,) bool; at least one and not all."""
        count = min(self.documents - 1, max(1, round(self.documents * self.held_share)))
        out = np.zeros(self.documents, bool)
        out[np.random.default_rng(self.seed).permutation(self.documents)[:count]] = True
        return out

    def _end(self, cut: int, held: bool) -> Iterator[Piece]:
        place = 0
        for text, ends in self.read():
            here = min(max(cut - place, 0), len(text))
            place += len(text)
            part = text[here:] if held else text[:here]
            if part:
                yield part, ends or (not held and place >= cut)


def read(path: Path, columns: Columns, *, held: float, seed: int, exclude: frozenset[str] = frozenset()) -> Corpus:
    """Look through a corpus once and return it.

    Args:
        path: a text file, a folder of them, JSONL, Parquet, a manifest, or labelled texts, of which only `train` is read.
        columns: `text` names the column of a table.
        held: share that is held out for measuring.
        seed: of which documents are held out.
        exclude: hashes (see `digest`) of texts that must not be learned from: the test items of a later task.

    Raises:
        DataError: nothing here is text.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist. Name a text file, or a folder of text files.")
    corpus = Corpus(root=path, read=lambda: iter(()), held_share=held, seed=seed)
    open_pieces = _opened(path, columns, corpus)
    skipped = 0

    def pieces() -> Iterator[Piece]:
        for text, ends in open_pieces():
            if not exclude or digest(text) not in exclude:
                yield text, ends

    corpus.read = pieces
    whole = hashlib.blake2b(digest_size=16)
    for text, ends in open_pieces():
        if exclude and digest(text) in exclude:
            skipped += 1
            continue
        corpus.documents += ends
        corpus.characters += len(text)
        corpus.replaced += text.count("\ufffd")
        whole.update(text.encode("utf-8", "replace"))
        whole.update(b"\0" if ends else b"")
    corpus.digest = whole.hexdigest()
    if not corpus.characters:
        raise DataError(f"{path} holds no text to learn from.")
    _say(corpus, skipped)
    return corpus


def digest(text: str) -> str:
    """Return the hash by which a document is known, spaces at its ends left out."""
    return hashlib.blake2b(text.strip().encode("utf-8", "replace"), digest_size=16).hexdigest()


def _say(corpus: Corpus, skipped: int) -> None:
    corpus.said.insert(0, f"{corpus.root}: {corpus.documents:,} documents, {corpus.characters:,} characters.")
    if corpus.replaced:
        share = corpus.replaced / corpus.characters
        corpus.said.append(f"{corpus.replaced:,} invalid bytes ({share:.2%} of the text) are read as the replacement character U+FFFD.")
    if skipped:
        corpus.said.append(f"{skipped:,} documents are left out: they are held-out items of the task that follows.")


# --- what there is -------------------------------------------------------------------------------


def _opened(path: Path, columns: Columns, corpus: Corpus) -> Callable[[], Iterator[Piece]]:
    """Return a function that goes through all pieces under `path`."""
    if path.is_file():
        return _file(path, columns, corpus)
    tree = walk(path)
    files = [tree.path(file) for file in tree.files]
    texts = [file for file in files if ending(file.name) in _TEXTS and not file.name.startswith(("README", "LICENSE", "LICENCE"))]
    if texts and not _is_labelled(path, columns):
        return lambda: (piece for file in texts for piece in _text_file(file, corpus))
    lines = [file for file in files if ending(file.name) in (".jsonl", ".ndjson", ".parquet")]
    if lines and not _is_labelled(path, columns):
        readers = [_file(file, columns, corpus) for file in lines]
        return lambda: (piece for reader in readers for piece in reader())
    return _labelled(path, columns, corpus)


def _file(path: Path, columns: Columns, corpus: Corpus) -> Callable[[], Iterator[Piece]]:
    kind = ending(path.name)
    if kind in (".jsonl", ".ndjson"):
        return lambda: _json_lines(path, columns)
    if kind == ".parquet":
        return lambda: _parquet(path, columns)
    if kind in _TABLES:
        return _labelled(path, columns, corpus)
    return lambda: _text_file(path, corpus)


def _is_labelled(path: Path, columns: Columns) -> bool:
    try:
        return sources.read(path, columns, modality="text").task is not None
    except DataError:
        return False


def _labelled(path: Path, columns: Columns, corpus: Corpus) -> Callable[[], Iterator[Piece]]:
    """Read a table or labelled texts, of which only the training part may be learned from."""
    try:
        table = sources.read(path, columns, modality="text", learn=False)
    except DataError:
        table = sources.read_unlabelled(path, "text", columns)
    rows = [row for row in table.rows if row.split in (None, "train")]
    corpus.said += table.said
    if len(rows) < len(table.rows):
        corpus.said.append(f"only the {len(rows):,} texts of the part train are learned from; val and test are left alone.")
    corpus.ledger += table.ledger
    return lambda: ((text, True) for row in rows for text in [_row_text(row.text, row.path)] if text)


def _row_text(text: tuple[str, ...] | None, path: Path | None) -> str:
    return "\n".join(text) if text is not None else _encodings.decode(path.read_bytes()).text if path else ""


# --- kinds of files ------------------------------------------------------------------------------


def _text_file(path: Path, corpus: Corpus) -> Iterator[Piece]:
    r"""Yield one file's text: line ends become "\n"; marks of byte order and form feeds go."""
    try:
        codec = _codec(path)
    except BadItem as error:
        raise DataError(f"{path} {error.detail}. Give plain text files; convert others first.") from None
    decoder = codecs.getincrementaldecoder(codec)("replace")
    before, held = "", ""
    with path.open("rb") as stream:
        while raw := stream.read(PIECE):
            if before:
                yield before, False
            text = held + decoder.decode(raw)
            held = "\r" if text.endswith("\r") else ""  # its line feed may come with the next piece
            before = _cleaned(text.removesuffix("\r"))
    yield before + _cleaned(held + decoder.decode(b"", final=True)), True


def _codec(path: Path) -> str:
    """Return the codec a file's beginning shows."""
    with path.open("rb") as stream:
        head = stream.read(PIECE)
    found = _encodings.decode(head[: len(head) - len(head) % 4] or head)
    known = {"Windows-1252": "cp1252", "Latin-1": "latin-1", "GB18030": "gb18030", "UTF-16": "utf-16", "UTF-32": "utf-32"}
    codec = known.get(found.encoding, "utf-8")
    if codec == "utf-16" and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return codec


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\f", "\n")


def _json_lines(path: Path, columns: Columns) -> Iterator[Piece]:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number} is not JSON ({error}).") from None
            yield _field(record, columns, f"{path}:{number}"), True


def _field(record: object, columns: Columns, where: str) -> str:
    """Return a record's document: the named column, else the usual one, else its only text."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict):
        raise DataError(f"{where} is neither a text nor an object with one.")
    name = columns.text or next((n for n in _NAMES if isinstance(record.get(n), str)), None)
    strings = [key for key, value in record.items() if isinstance(value, str)]
    name = name or (strings[0] if len(strings) == 1 else None)
    if name is None or not isinstance(record.get(name), str):
        raise DataError(f"{where}: it is not clear which field is the text ({', '.join(map(str, record))}). Name it: text=…")
    return record[name]


def _parquet(path: Path, columns: Columns) -> Iterator[Piece]:
    for batch in arrow.batches(path):
        for record in batch:
            yield _field(record, columns, str(path)), True


def pieces_text(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield the text alone, for whoever does not care where documents end."""
    return (text for text, _ in pieces)
