"""Tokenizers by content: the JSON text of a `tokenizer.json` is the tokenizer, wherever it came from.

Encoding, truncation and special tokens are done apart: `tokenizers` turns text into ids, the frame of
special tokens is read from it once, and what truncation cut off is counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pretune.errors import WeightsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int32]
FILE = "tokenizer.json"
ENDS = ("<|endoftext|>", "</s>", "[SEP]", "<|im_end|>")
"""Tokens that end a document, the first that a vocabulary has."""
MASKS = ("[MASK]", "<mask>")
"""Tokens that stand where one is hidden."""


@dataclass(frozen=True)
class Frame:
    """The special tokens that stand around one text, or around and between two."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def framed(self, segments: Sequence[Ids]) -> Ids:
        """Return one array: before, first, [between, second,] after."""
        pieces = [np.asarray(self.before, np.int32), segments[0]]
        if len(segments) > 1:
            pieces += [np.asarray(self.between, np.int32), segments[1]]
        return np.concatenate([*pieces, np.asarray(self.after, np.int32)])


@functools.lru_cache(maxsize=8)
def load(content: str) -> Tokenizer:
    """Return the tokenizer of a JSON text, without truncation or padding of its own.

    Text that looks like a special token ("[SEP]" in a review) is read as the text it is.

    Raises:
        WeightsError: it is no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # noqa: BLE001 - that is all the library raises
        raise WeightsError(f"the weights' {FILE} is no tokenizer: {' '.join(str(error).split())[:160]}. Take another copy of it.") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


@functools.lru_cache(maxsize=8)
def sha256(content: str) -> str:
    """Return the content's hash: what a tokenizer is known by."""
    return hashlib.sha256(content.encode()).hexdigest()


@functools.lru_cache(maxsize=16)
def frame(content: str, pair: bool) -> Frame:
    """Return the special tokens a tokenizer puts around one text or a pair."""
    tokenizer = load(content)
    segments = ("a", "b") if pair else ("a",)
    whole = tokenizer.encode(*segments)
    sequence = [None if special else segment for special, segment in zip(whole.special_tokens_mask, whole.sequence_ids, strict=True)]
    places = [i for i, segment in enumerate(sequence) if segment is not None]
    if not places:
        return Frame((), (), ())
    first, last = places[0], places[-1]
    between = tuple(whole.ids[i] for i in range(first, last) if sequence[i] is None)
    return Frame(tuple(whole.ids[:first]), between, tuple(whole.ids[last + 1 :]))


@functools.lru_cache(maxsize=8)
def special_id(content: str, *tokens: str) -> int | None:
    """Return the id of the first of these tokens that the vocabulary has."""
    tokenizer = load(content)
    ids = (tokenizer.token_to_id(token) for token in tokens)
    return next((i for i in ids if i is not None), None)


def special_word(content: str, *tokens: str) -> str:
    """Return the first of these tokens that the vocabulary has, as it is written; '' where it has none."""
    tokenizer = load(content)
    return next((token for token in tokens if tokenizer.token_to_id(token) is not None), "")


@functools.lru_cache(maxsize=8)
def special_ids(content: str) -> tuple[int, ...]:
    """Return the ids of all special tokens, in order."""
    return tuple(sorted(int(token["id"]) for token in json.loads(content)["added_tokens"] if token["special"]))


def with_special(content: str, token: str) -> str:
    """Return the tokenizer with one more special token; all others keep their ids."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(content)
    tokenizer.add_special_tokens([AddedToken(token, special=True)])
    return tokenizer.to_str()


@functools.lru_cache(maxsize=8)
def unknown_id(content: str) -> int | None:
    """Return the id that stands for text the vocabulary cannot spell, if there is one."""
    model = load(content).model
    token = getattr(model, "unk_token", None)
    if token is None:  # Unigram models keep an index, and only in their JSON
        index = json.loads(content)["model"].get("unk_id")
        return None if index is None else int(index)
    return load(content).token_to_id(token)


def encode(content: str, segments: Sequence[str]) -> list[Ids]:
    """Return the ids of each text, whole and without special tokens."""
    return [np.asarray(e.ids, np.int32) for e in load(content).encode_batch_fast(list(segments), add_special_tokens=False)]


def offsets(content: str, text: str) -> NDArray[np.int64]:
    """Return the characters (T, 2), first and one past the last, that each id of a text stands for, whole and without special tokens."""
    return np.asarray(load(content).encode(text, add_special_tokens=False).offsets, np.int64).reshape(-1, 2)


def encode_segments(content: str, segments: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids (T,) of a text that a template and a person wrote in turn, and the segment (T,) that each id ends in.

    The words of special tokens are those tokens in the template's segments (the first, the third, …); in a person's they are the text
    they are, so nobody can write the end of a turn. What lies between two special tokens is tokenized as one text, as `transformers` does.
    """
    specials = _special_words(content)
    ids: list[int] = []
    owners: list[int] = []
    run: list[tuple[str, int]] = []

    def flush() -> None:
        if run:
            found = load(content).encode("".join(text for text, _ in run), add_special_tokens=False)
            ends = np.cumsum([len(text) for text, _ in run])
            places = np.searchsorted(ends, [max(stop - 1, start) for start, stop in found.offsets], side="right")
            ids.extend(found.ids)
            owners.extend(run[min(place, len(run) - 1)][1] for place in places)
            run.clear()

    for number, segment in enumerate(segments):
        pieces = re.split(f"({'|'.join(map(re.escape, specials))})", segment) if specials and number % 2 == 0 else [segment]
        for piece in pieces:
            if number % 2 == 0 and piece in specials:
                flush()
                ids.append(specials[piece])
                owners.append(number)
            elif piece:
                run.append((piece, number))
    flush()
    return np.asarray(ids, np.int32), np.asarray(owners, np.int64)


@functools.lru_cache(maxsize=8)
def _special_words(content: str) -> dict[str, int]:
    """Return the special tokens as they are written, the longest first, with their ids."""
    found = {str(token["content"]): int(token["id"]) for token in json.loads(content).get("added_tokens", ()) if token["special"]}
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def truncate(segments: Sequence[Ids], room: int) -> list[Ids]:
    """Cut the ends so that `room` ids are left in all, the longer part first."""
    if len(segments) == 1:
        return [segments[0][:room]]
    short, long = sorted((len(segments[0]), len(segments[1])))
    if short + long <= room:
        return list(segments)
    most = max(room - short, room - room // 2)  # what the longer one may keep; both lose where both are long
    first = min(len(segments[0]), most if len(segments[0]) >= len(segments[1]) else room - min(len(segments[1]), most))
    return [segments[0][:first], segments[1][: room - first]]
