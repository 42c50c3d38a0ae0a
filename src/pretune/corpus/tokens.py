"""A corpus as one long file of token ids, mapped into memory, and the blocks that are cut from it.

Documents follow each other, a separator between them: packed, never padded. The file is made once, in passes over the
corpus that hold a piece of it at a time, and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import config
from pretune.corpus.corpus import Corpus
from pretune.corpus.documents import Piece
from pretune.data.dataset import Index
from pretune.errors import DataError
from pretune.storage.cache import Cache
from pretune.storage.identity import code_of_package, versions
from pretune.storage.store import NoRoom, Store, StoreWriter
from pretune.types import Batch, Features

_FORMAT = 2


class Tokenizes(Protocol):
    """What turns text into ids: the text modality."""

    @property
    def size(self) -> int:
        """Number of ids there are."""
        ...

    @property
    def separator(self) -> int | None:
        """The id that stands between documents; None where the tokenizer has none."""
        ...

    @property
    def unknown(self) -> int | None:
        """The id of what the vocabulary cannot spell."""
        ...

    def ids(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text, (T,), without special tokens."""
        ...

    def working(self) -> dict[str, Any]:
        """Return what ids depend on: part of the cache's key."""
        ...


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """The ids of one split of a corpus."""

    ids: NDArray[Any]
    """(N,) uint16 or uint32, mapped from a file."""
    characters: int
    documents: int
    unknown: int
    """Ids that stand for what the vocabulary cannot spell."""
    counts: NDArray[np.int64]
    """(V,) how often each id occurs: the unigram floor is made of these."""

    def __len__(self) -> int:
        return len(self.ids)


def made_by() -> list[object]:
    """Return what tokenizers and their ids depend on besides settings and texts: code and versions."""
    return [_FORMAT, code_of_package("formats", "modalities", "corpus/corpus.py", "corpus/documents.py"), versions("numpy", "tokenizers")]


def tokenized(
    corpora: Sequence[Corpus], split: str, tokenizer: Tokenizes, cache: Cache, progress: Callable[[int, int], None] | None = None
) -> TokenStream:
    """Return the ids of `train` or `held` of all corpora in a row, from the cache where they are known.

    Args:
        corpora: in their order.
        split: 'train' or 'held'.
        tokenizer: makes the ids.
        cache: keeps them.
        progress: called with (characters done, characters of all corpora) as tokenizing goes on; may raise to end it.

    Raises:
        DataError: there is no room for them, or the corpus has changed since it was read.
    """
    key = {
        "corpora": [corpus.parted for corpus in corpora],
        "part": split,
        "made_by": made_by(),
        **{k: v for k, v in tokenizer.working().items() if k != "max_tokens"},
    }

    def write(path: Path) -> None:
        pieces = (piece for corpus in corpora for piece in (corpus.train() if split == "train" else corpus.validation()))
        _write(path, pieces if progress is None else _counted(pieces, progress, sum(c.characters for c in corpora)), tokenizer, cache)

    store = kept(cache, "tokens", config.digest(key), write)
    facts = dict(store.meta)
    return TokenStream(ids=store.flat, counts=np.array(facts.pop("counts"), np.int64), **facts)


def _counted(pieces: Iterator[Piece], progress: Callable[[int, int], None], characters: int) -> Iterator[Piece]:
    done = 0
    for text, ends in pieces:
        yield text, ends
        done += len(text)
        progress(done, characters)


def kept(cache: Cache, kind: str, key: str, write: Callable[[Path], None]) -> Store:
    """Return what is made of a corpus, from the cache or written into it: it is not made without one.

    Raises:
        DataError: there is no room for it.
    """
    try:
        return cache.build(kind, key, write)
    except NoRoom as full:
        raise DataError(
            f"the {kind} of the corpus are kept in the cache, and {full}. "
            "Free some space there, or name a folder on a larger disk: cache=FOLDER, or PRETUNE_CACHE in the environment."
        ) from full


def _write(path: Path, pieces: Iterator[Piece], tokenizer: Tokenizes, cache: Cache) -> None:
    kind = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    counts = np.zeros(tokenizer.size, np.int64)
    facts = {"characters": 0, "documents": 0}
    writer = StoreWriter(path, dtype=kind.name, admit=cache.admit)
    try:
        for text, ends in pieces:
            ids = tokenizer.ids(text)
            if ends and tokenizer.separator is not None:
                ids = np.append(ids, tokenizer.separator)
            counts += np.bincount(ids, minlength=tokenizer.size)
            writer.append(ids.astype(kind), {})
            facts["characters"] += len(text)
            facts["documents"] += int(ends)
        unknown = 0 if tokenizer.unknown is None else int(counts[tokenizer.unknown])
        writer.close({**facts, "unknown": unknown, "counts": counts.tolist()})
    finally:
        writer.discard()


class BlockView:
    """Blocks of a stream, each an example; where they move, every epoch cuts at other places."""

    lengths: Index | None = None

    def __init__(self, stream: TokenStream, length: int, stride: int, *, moving: bool, seed: int, name: str) -> None:
        """Cut a stream.

        Args:
            stream: of ids.
            length: ids of a block.
            stride: ids between the beginnings of two blocks; `length` or less, where blocks share their ends.
            moving: draw a new offset below `stride` every epoch.
            seed: of the offsets.
            name: of the part, for messages.

        Raises:
            DataError: the stream is shorter than one block.
        """
        if len(stream) < length:
            raise DataError(
                f"the {name} text is too short: {len(stream):,} tokens, and one block needs {length}. "
                "Give more text, or shorter blocks: max_tokens=…"
            )
        self.stream, self.length, self.stride, self.seed = stream, length, stride, seed
        self.moving = moving and len(stream) >= length + stride
        self.count = (len(stream) - length - (stride - 1 if self.moving else 0)) // stride + 1

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Index, epoch: int) -> Batch:
        """Return these blocks as ids (B, T)."""
        offset = int(np.random.default_rng([self.seed, epoch]).integers(self.stride)) if self.moving else 0
        places = offset + index[:, None] * self.stride + np.arange(self.length)
        ids = torch.from_numpy(self.stream.ids[places].astype(np.int64))
        return Batch(inputs=Features(tensor=ids, layout="raw"), labels=None, index=torch.from_numpy(index))
