"""Unlabelled text to pretrain on, read in pieces: files, folders of them, JSONL, Parquet, tables.

A corpus is a stream of documents. Nothing holds more of it than a piece, whatever its size: it is read once to count,
hash and look at, and once for each thing made of it (a tokenizer, a file of tokens).
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretune.corpus import documents
from pretune.corpus.documents import Piece
from pretune.corpus.resemblance import HeldOutTexts
from pretune.corpus.sifting import Sifted, sifted
from pretune.errors import BadItem, DataError
from pretune.formats import encodings
from pretune.formats.files import ending
from pretune.sources import sources
from pretune.sources.special import existing
from pretune.sources.split_names import split_of_file, split_of_folder
from pretune.sources.table import Columns
from pretune.sources.tree import FileEntry, walk
from pretune.types import LedgerEntry, Row, Split

_TEXT_SUFFIXES = frozenset((".txt", ".md", ".text", ".rst", ".log"))
_LINES = frozenset((".jsonl", ".ndjson"))
_PARQUET = frozenset((".parquet", ".pq"))
_TABLES = frozenset((".csv", ".tsv", ".json"))
_ABOUT = frozenset(("readme", "license", "licence"))
"""Names, without endings, of files that are about a corpus and not part of it."""

_FORMAT = 3
"""Version of which documents are held out; raised whenever the same corpus would be parted differently."""

Reader = Callable[[], Iterator[Piece]]
"""Begins at the first document, every time."""


@dataclass(kw_only=True)
class Corpus:
    """Documents that can be gone through again and again."""

    root: Path
    read: Reader
    """Begins at the first document; the same every time."""
    messages: list[str] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    documents: int = 0
    characters: int = 0
    replaced: int = 0
    """Characters that stand for bytes that were no text."""
    left: Sifted = field(default_factory=Sifted)
    """What is left out, as it is or resembles held-out examples of a later task."""
    copies: int = 0
    """Documents that are an earlier one, but for letter case and white space."""
    keys: array[int] = field(default_factory=lambda: array("Q"))
    """A hash of each document: eight bytes of it is all that is held of many."""
    digest: str = ""
    """Hash of all text: what caches know the corpus by."""
    validation_fraction: float = 0.0
    seed: int = 0

    @property
    def parted(self) -> list[str | float]:
        """What is made of its splits depends on: what caches know these by."""
        return [_FORMAT, self.digest, self.validation_fraction, self.seed]

    @property
    def damage(self) -> str:
        """A message about bytes that were no text; empty where there were none."""
        if not self.replaced:
            return ""
        share = self.replaced / self.characters
        return f"{self.replaced:,} invalid bytes ({share:.2%} of the text) are read as the replacement character U+FFFD."

    def note(self, entry: LedgerEntry) -> None:
        """Keep what was left out; texts are gone through more than once, and reported the first time."""
        if not self.digest:
            self.ledger.append(entry)

    def train(self) -> Iterator[Piece]:
        """Yield what is learned from."""
        return self._pieces(validation=False)

    def validation(self) -> Iterator[Piece]:
        """Yield what is only measured on: of many documents some at random, of a few the end of the last."""
        return self._pieces(validation=True)

    @property
    def few(self) -> bool:
        """Whether there are too few documents to hold whole ones out."""
        return self.documents * self.validation_fraction < 1

    def _pieces(self, *, validation: bool) -> Iterator[Piece]:
        if self.few:
            yield from self._end(int(self.characters * (1 - self.validation_fraction)), validation)
            return
        chosen = self.chosen()
        number = 0
        for text, ends in self._again():
            if number < len(chosen) and chosen[number] == validation:
                yield text, ends
            number += ends

    def _again(self) -> Iterator[Piece]:
        """Yield all pieces once more.

        Raises:
            DataError: they are not those that were read at first: what is made of them would be kept under a wrong name.
        """
        whole = _Digest()
        for text, ends in self.read():
            yield text, ends
            whole.add(text.encode("utf-8", "replace"), ends)
        if whole.hexdigest() != self.digest:
            raise DataError(f"{self.root} changed while it was being read. Start again when nothing writes to it.")

    def chosen(self) -> np.ndarray:
        """Return which documents are held out, (documents,) bool; at least one and not all, and none that has a copy elsewhere."""
        count = min(self.documents - 1, max(1, round(self.documents * self.validation_fraction)))
        order = np.random.default_rng(self.seed).permutation(self.documents)
        if self.copies:
            _, which, often = np.unique(np.frombuffer(self.keys, np.uint64), return_inverse=True, return_counts=True)
            single = often[which] == 1
            order = order[single[order]] if single.any() else order
        out = np.zeros(self.documents, bool)
        out[order[:count]] = True
        return out

    def _end(self, cut: int, validation: bool) -> Iterator[Piece]:
        place = 0
        for text, ends in self._again():
            here = min(max(cut - place, 0), len(text))
            place += len(text)
            piece = text[here:] if validation else text[:here]
            if piece:
                yield piece, ends or (not validation and place >= cut)


def read_corpus(path: Path, columns: Columns, *, validation_fraction: float, seed: int, exclude: HeldOutTexts | None = None) -> Corpus:
    """Look through a corpus once and return it.

    Args:
        path: a text file, a folder of them, JSONL, Parquet, a manifest, or labelled texts, of which only `train` is read.
        columns: `text` names the column of a table.
        validation_fraction: share that is held out for measuring.
        seed: of which documents are held out.
        exclude: texts that must not be learned from, nor what resembles them: the test examples of a later task.

    Raises:
        DataError: nothing here is text.
    """
    path = existing(path)
    corpus = Corpus(root=path, read=lambda: iter(()), validation_fraction=validation_fraction, seed=seed)
    open_pieces = _opened(path, columns, corpus)
    corpus.read = open_pieces if exclude is None else functools.partial(sifted, open_pieces, exclude, corpus.left)
    _look_through(corpus)
    if not corpus.characters:
        why = f": {corpus.ledger[0].item} {corpus.ledger[0].detail}" if corpus.ledger else ""
        if corpus.left.characters:
            raise DataError(f"{path}: all of its text is, or resembles, held-out items of the task that follows. Give another corpus.")
        raise DataError(f"{path} holds no text to learn from{why}.")
    _describe(corpus)
    return corpus


class _Digest:
    """The hash of a corpus, piece by piece."""

    def __init__(self) -> None:
        self._whole = hashlib.blake2b(digest_size=16)

    def add(self, raw: bytes, ends: bool) -> None:
        """Take a piece, which may end a document."""
        self._whole.update(raw)
        if ends:
            self._whole.update(b"\0")

    def hexdigest(self) -> str:
        """Return the hash of all so far."""
        return self._whole.hexdigest()


def _look_through(corpus: Corpus) -> None:
    whole, document = _Digest(), hashlib.blake2b(digest_size=8)
    for text, ends in corpus.read():
        raw = text.encode("utf-8", "replace")
        corpus.documents += ends
        corpus.characters += len(text)
        corpus.replaced += text.count("\ufffd")
        whole.add(raw, ends)
        document.update(_plain(text))
        if ends:
            corpus.keys.append(int.from_bytes(document.digest()))
            document = hashlib.blake2b(digest_size=8)
    corpus.copies = corpus.documents - len(np.unique(np.frombuffer(corpus.keys, np.uint64)))
    corpus.digest = whole.hexdigest()


def _plain(text: str) -> bytes:
    """Return what documents are compared by, however they were cut into pieces: no white space, one Unicode form, one letter case."""
    return unicodedata.normalize("NFKC", "".join(text.split())).casefold().encode("utf-8", "replace")


def documents_of(row: Row) -> list[str]:
    """Return what a corpus would know a labelled text by: the whole of it, and each of a pair."""
    if row.text is not None:
        return ["\n".join(row.text), *row.text]
    assert isinstance(row.path, Path)
    return ["".join(text for text, _ in documents.text_file(row.path, documents.codec_of(row.path)))]


def _describe(corpus: Corpus) -> None:
    word = "document" if corpus.documents == 1 else "documents"
    corpus.messages.insert(0, f"{corpus.root}: {corpus.documents:,} {word}, {corpus.characters:,} characters.")
    corpus.messages += [corpus.damage] if corpus.damage else []
    if corpus.copies:
        note = "the held-out text may be among them" if corpus.few else "what is held out is drawn from those without a copy"
        corpus.messages.append(
            f"{corpus.copies:,} documents are copies of earlier ones (but for letter case and white space) and learned from again; {note}."
        )
    corpus.messages += corpus.left.messages(corpus.characters)


def has_columns(path: Path) -> bool:
    """Return whether there is a file under `path` whose records have fields."""
    names = [file.parts[-1] for file in walk(path).files] if path.is_dir() else [path.name]
    return any(ending(name) in _LINES | _PARQUET | _TABLES for name in names)


# --- what there is -------------------------------------------------------------------------------


def _opened(path: Path, columns: Columns, corpus: Corpus) -> Reader:
    """Return what goes through all pieces under `path`."""
    if path.is_file():
        return _file(path, columns, corpus)
    tree = walk(path)
    wanted = [file for file in tree.files if file.parts[-1].casefold().partition(".")[0] not in _ABOUT]
    streams = [file for file in wanted if ending(file.parts[-1]) in _TEXT_SUFFIXES | _LINES | _PARQUET]
    if not streams or _has_classes(path, columns, streams):
        return _labelled(path, columns, corpus)
    corpus.ledger += tree.ledger("text")
    corpus.messages += tree.messages()
    corpus.messages += _unread(tree.files, wanted, streams)
    readers = [_member(tree.path(file), columns, corpus) for file in _learned_from(streams, corpus)]
    found = [reader for reader in readers if reader is not None]
    if not found and corpus.ledger:
        raise DataError(f"{path} holds no text to learn from: {corpus.ledger[0].item} {corpus.ledger[0].detail}.")
    return lambda: (piece for reader in found for piece in reader())


def _unread(files: Sequence[FileEntry], wanted: Sequence[FileEntry], streams: Sequence[FileEntry]) -> list[str]:
    """Report which files of a folder are ignored."""
    messages = []
    if len(wanted) < len(files):
        about = sorted({file.parts[-1] for file in files} - {file.parts[-1] for file in wanted})
        messages.append(f"not learned from, as they are about the corpus: {', '.join(about)}.")
    if len(streams) < len(wanted):
        kinds = Counter(ending(file.parts[-1]) or "no ending" for file in wanted)
        kinds.subtract(ending(file.parts[-1]) or "no ending" for file in streams)
        named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common() if count)
        messages.append(f"{len(wanted) - len(streams):,} files of other kinds are not read ({named}); unpack or convert what is text.")
    return messages


def _has_classes(path: Path, columns: Columns, streams: list[FileEntry]) -> bool:
    """Return whether a folder of text files is labelled data: records say themselves which split they are of."""
    if not all(ending(file.parts[-1]) in _TEXT_SUFFIXES for file in streams):
        return False
    table = sources.labelled(path, "text", columns, learn=True)
    return table is not None and table.task is not None


def _learned_from(files: list[FileEntry], corpus: Corpus) -> list[FileEntry]:
    """Leave out the files of val and test where others are called train."""
    splits = [_split_of(file) for file in files]
    if "train" not in splits:
        return files
    chosen = [file for file, split in zip(files, splits, strict=True) if split not in ("val", "test")]
    if len(chosen) < len(files):
        corpus.messages.append(f"{len(files) - len(chosen):,} files of the splits val and test are ignored.")
    return chosen


def _split_of(file: FileEntry) -> Split | None:
    folders = [part for name in file.parts[:-1] if (part := split_of_folder(name))]
    return folders[0] if folders else split_of_file(Path(file.parts[-1]).stem)


def _member(path: Path, columns: Columns, corpus: Corpus) -> Reader | None:
    """Return the reader of one of many files; None, and a note, where there is no text in it."""
    if ending(path.name) in _PARQUET:
        return functools.partial(_whole_or_noted, path, lambda: documents.parquet(path, columns, corpus.note), corpus.note)
    codec = documents.codec_or_note(path, corpus.note)
    if codec is None:
        return None
    if ending(path.name) in _LINES:
        return functools.partial(_whole_or_noted, path, lambda: documents.json_lines(path, codec, columns, corpus.note), corpus.note)
    return functools.partial(documents.text_file, path, codec)


def _whole_or_noted(path: Path, read: Reader, note: documents.Note) -> Iterator[Piece]:
    """Yield the documents of one of many files; where it cannot be read, the others still can."""
    try:
        yield from read()
    except BadItem as error:
        note(LedgerEntry(item=path.name, action="dropped", reason=error.reason, detail=error.detail))


def _file(path: Path, columns: Columns, corpus: Corpus) -> Reader:
    kind = ending(path.name)
    if kind in _PARQUET:
        return functools.partial(_whole, path, lambda: documents.parquet(path, columns, corpus.note))
    if kind in _TABLES:
        return _labelled(path, columns, corpus)
    try:
        codec = documents.codec_of(path)
    except BadItem as error:
        raise DataError(f"{path} {error.detail}. Give plain text files; convert others first.") from None
    if kind in _LINES:
        return functools.partial(_whole, path, lambda: documents.json_lines(path, codec, columns, corpus.note))
    return functools.partial(documents.text_file, path, codec)


def _whole(path: Path, read: Reader) -> Iterator[Piece]:
    """Yield the documents of the only file there is."""
    try:
        yield from read()
    except BadItem as error:
        raise DataError(f"{path} {error.detail}.") from None


def _labelled(path: Path, columns: Columns, corpus: Corpus) -> Reader:
    """Read a table or labelled texts, of which only the training split may be learned from."""
    table = sources.labelled(path, "text", columns) or sources.read_unlabelled(path, "text", columns)
    rows = [row for row in table.rows if row.split in (None, "train")]
    corpus.messages += table.messages
    if len(rows) < len(table.rows):
        corpus.messages.append(f"only the {len(rows):,} texts of the train split are used; val and test are ignored.")
    corpus.ledger += table.ledger
    return lambda: (piece for row in rows for piece in _row(row, corpus))


def _row(row: Row, corpus: Corpus) -> Iterator[Piece]:
    if not isinstance(row.path, Path):
        yield encodings.replace_damage("\n".join(row.text or ())), True
    elif (codec := documents.codec_or_note(row.path, corpus.note)) is not None:
        yield from documents.text_file(row.path, codec)
