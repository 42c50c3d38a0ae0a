"""Texts and sentence pairs, as the token ids of the tokenizer that a set of weights carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pretune.config import Within
from pretune.errors import BadItem, SettingError, WeightsError
from pretune.formats import encodings
from pretune.formats.files import TEXT
from pretune.modalities import _languages, _tokenizer_training, _word_starts
from pretune.modalities._base import Modality
from pretune.modalities._tfidf import Tfidf
from pretune.modalities._tokenizer_training import Units
from pretune.modalities.transforms import tokenizing
from pretune.types import Decoded, Features, Finding

if TYPE_CHECKING:
    from pretune.types import Row

_FORMAT = 1
"""Version of what `decode` returns; raised whenever stored ids would come out differently."""
TOKENIZER_FILE = tokenizing.FILE
TEMPLATE_FILE = "chat_template.jinja"
"""As `transformers` calls it."""
SEGMENTS = 3
"""Strings from which they are segments of one text."""
_UNKNOWN_SHARE = 0.1
"""Share of unknown tokens from which the tokenizer is said not to fit."""


@dataclass(frozen=True, kw_only=True)
class Text(Modality):
    """Preprocessing of texts, as a set of weights carries it.

    A text is tokenized once: special tokens included, cut to `max_tokens`. Nothing else is done to it
    (lower-casing and the like are the tokenizer's own). Three strings or more are the segments of one text: those of a template and those
    of a person in turn, the template's first and last.
    """

    extensions: ClassVar[frozenset[str]] = TEXT
    unit: ClassVar[str] = "text"
    by_length: ClassVar[bool] = True
    carries_files: ClassVar[bool] = True
    baseline_words: ClassVar[str] = "TF-IDF"

    tokenizer: str = field(default="", repr=False)
    """Content of a tokenizer.json; empty for an untrained network, whose tokenizer is made from the training texts."""
    max_tokens: Annotated[int, Within(4)] = 256
    """Tokens a text is cut to, special tokens included."""
    positions: Annotated[int | None, Within(4)] = None
    """Tokens the network has positions for; auto where it has no limit."""
    vocabulary: Annotated[int, Within(1)] = 10_000
    """Entries at most of a tokenizer that is made here."""
    units: Units = "word"
    """What a tokenizer that is made here cuts texts into: word, piece (byte-pair encoding), unigram, character."""
    verbatim: bool = False
    """Whether a tokenizer that is made here keeps case, spaces and line ends: what writing texts needs."""
    chat_template: str = field(default="", repr=False)
    """Jinja template of a conversation, as the weights were trained with it; empty where they have none."""
    written_language: str = ""
    """Token of the language that a decoder begins with, of a tokenizer with one for each language; empty elsewhere."""

    def __post_init__(self) -> None:
        if self.positions is not None and self.max_tokens > self.positions:
            raise SettingError(
                f"max_tokens must be at most {self.positions}, which is what this backbone has positions for; got {self.max_tokens}."
            )

    def working(self) -> dict[str, Any]:
        """Return what stored ids depend on: part of the store's cache key."""
        import tokenizers

        return {
            "modality": "text",
            "format": _FORMAT,
            "tokenizer": tokenizing.sha256(self.tokenizer),
            "max_tokens": self.max_tokens,
            "tokenizers": tokenizers.__version__,
        }

    def files(self) -> dict[str, str]:
        """Return the files that travel with saved weights, name -> content; `with_files` reads them back."""
        found = {TOKENIZER_FILE: self.tokenizer, TEMPLATE_FILE: self.chat_template}
        return {name: content for name, content in found.items() if content}

    def with_files(self, files: dict[str, str]) -> Text:
        """Return the same preprocessing with the content of its files.

        Raises:
            WeightsError: it is no tokenizer.
        """
        tokenizing.load(files[TOKENIZER_FILE])
        return replace(self, tokenizer=files[TOKENIZER_FILE], chat_template=files.get(TEMPLATE_FILE, ""))

    def fitted_to(self, rows: Sequence[Row]) -> tuple[Text, str]:
        """Return the same preprocessing with a tokenizer, made from these rows' texts where none came with the weights, and a sentence."""
        if self.tokenizer:
            return self, ""
        made = self.learned_from(_content(row) for row in rows)
        size = tokenizing.load(made.tokenizer).get_vocab_size()
        return made, f"tokenizer made from {len(rows):,} texts (labels unseen): {size:,} {self.units}s"

    def learned_from(self, documents: Iterable[str], *, masked: bool = False) -> Text:
        """Return the same preprocessing with a tokenizer made from these texts; `masked` adds a token to hide others behind.

        Raises:
            SettingError: the vocabulary cannot hold even single letters (of pieces: the 256 bytes).
        """
        content = _tokenizer_training.make(documents, self.vocabulary, self.units, verbatim=self.verbatim, masked=masked)
        size = tokenizing.load(content).get_vocab_size()
        if size > self.vocabulary:
            raise SettingError(f"vocabulary={self.vocabulary} is too small: the {self.units}s alone need {size}.")
        return replace(self, tokenizer=content)

    @property
    def languages(self) -> tuple[str, ...]:
        """The tokens that stand for languages; none of a tokenizer of one language."""
        return _languages.languages(self.tokenizer)

    def special_id(self, token: str) -> int:
        """Return the id of a special token.

        Raises:
            WeightsError: the tokenizer has no such token.
        """
        found = tokenizing.special_id(self.tokenizer, token)
        if found is None:
            raise WeightsError(f"the tokenizer of these weights has no token {token!r}. Take another copy of it.")
        return found

    def translating(self, source: str, target: str) -> tuple[Text, str]:
        """Return the preprocessing that marks texts with the languages of a translation, and a sentence; of one language as it is, and ''.

        Raises:
            SettingError: a name may mean several of the tokenizer's languages.
        """
        count = len(self.languages)
        if not count:
            return self, ""
        read, written = self._language(source, "source"), self._language(target, "target")
        out = replace(self, tokenizer=_languages.marked(self.tokenizer, read) if read else self.tokenizer, written_language=written)
        shown = " and ".join([f"{source} is read as {read or 'its default'}", f"{target} is written as {written or 'its default'}"])
        return out, f"the tokenizer has {count} languages: {shown}."

    def _language(self, name: str, side: str) -> str:
        found = _languages.tokens_for(name, self.tokenizer)
        if len(found) > 1:
            raise SettingError(
                f"{name!r} may be {', '.join(found)} for the tokenizer of these weights. Give the side of the data the name of one "
                f"({name} -> {found[0]}), and name it: task.{side}={found[0]}."
            )
        return found[0] if found else ""

    # --- streams -----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of ids there are."""
        return tokenizing.load(self.tokenizer).get_vocab_size()

    @property
    def separator(self) -> int | None:
        """The id that stands between the documents of a stream."""
        return tokenizing.special_id(self.tokenizer, *tokenizing.ENDS)

    @property
    def unknown(self) -> int | None:
        """The id of what the vocabulary cannot spell."""
        return tokenizing.unknown_id(self.tokenizer)

    @property
    def mask(self) -> int | None:
        """The id that stands where a token is hidden; None where the tokenizer has none."""
        return tokenizing.special_id(self.tokenizer, *tokenizing.MASKS)

    @property
    def special(self) -> tuple[int, ...]:
        """The ids that are no text, the unknown among them."""
        return tokenizing.special_ids(self.tokenizer)

    @property
    def room(self) -> int:
        """Tokens of a text that fit between the special ones around it."""
        return self.max_tokens - len(tokenizing.frame(self.tokenizer, False))

    @property
    def framed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before a text and after it."""
        frame = tokenizing.frame(self.tokenizer, False)
        return frame.before, frame.after

    def words(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which ids (V,) begin a word, and after which ids the next one does."""
        return _word_starts.of(self.tokenizer)

    def with_mask(self) -> Text:
        """Return the same preprocessing with a token to hide others behind; all ids stay."""
        return self if self.mask is not None else replace(self, tokenizer=tokenizing.with_special(self.tokenizer, tokenizing.MASKS[0]))

    def ids(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text, (T,), whole and without special tokens."""
        return tokenizing.encode(self.tokenizer, [text])[0]

    def unknown_note(self, ids: NDArray[np.int32]) -> list[str]:
        """Return a sentence where some of a prompt's ids stand for what the vocabulary cannot spell."""
        count = 0 if self.unknown is None else int((ids == self.unknown).sum())
        return [f"{count:,} of the prompt's {len(ids):,} tokens are unknown to the tokenizer and not seen."] if count else []

    def text_of(self, ids: Sequence[int]) -> str:
        """Return the text that ids spell, special tokens left out."""
        return tokenizing.load(self.tokenizer).decode(list(ids))

    # --- decoding ----------------------------------------------------------------------------

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Return int32 ids (T,), special tokens included, and the counts the audit reads.

        Raises:
            BadItem: there is no text, or bytes are not text.
        """
        text = _text(raw)
        if len(text) >= SEGMENTS:
            ids, _ = self.segments(text)
            return self._decoded(text, ids[: self.max_tokens], len(ids), max(0, len(ids) - self.max_tokens))
        text = self._as_read(text)
        return self._framed(text, tokenizing.encode(self.tokenizer, text))

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Return the characters (T, 2) that each token of a text stands for, whole and without special tokens.

        Raises:
            BadItem: there is no text.
        """
        return tokenizing.offsets(self.tokenizer, _text((text,))[0])

    def spans(self, text: str) -> NDArray[np.int64]:
        """Return the characters (T, 2), first and one past the last, that each id stands for which `decode` returns of one text.

        Those of special tokens are (0, 0). What was cut off has none.

        Raises:
            BadItem: there is no text.
        """
        frame = tokenizing.frame(self.tokenizer, False)
        kept = self.offsets(text)[: self.max_tokens - len(frame)]
        return np.pad(kept, ((len(frame.before), len(frame.after)), (0, 0)))

    def segments(self, text: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids (T,) of a text in segments, whole, and the segment (T,) that each id ends in."""
        return tokenizing.encode_segments(self.tokenizer, [encodings.replace_damage(part) for part in text])

    def _as_read(self, text: tuple[str, ...]) -> tuple[str, ...]:
        """Put two texts into one where the tokenizer has no token to stand between them."""
        if len(text) == 1 or tokenizing.frame(self.tokenizer, True).between:
            return text
        return ("\n".join(text),)

    def _framed(self, text: tuple[str, ...], segments: list[NDArray[np.int32]]) -> Decoded:
        frame = tokenizing.frame(self.tokenizer, len(segments) > 1)
        tokens = sum(map(len, segments))
        if not tokens:
            raise BadItem("empty", "holds nothing that can be read: the tokenizer drops all of its characters")
        kept = tokenizing.truncate(segments, self.max_tokens - len(frame))
        return self._decoded(text, frame.framed(kept), tokens, tokens - sum(map(len, kept)))

    def _decoded(self, text: tuple[str, ...], ids: NDArray[np.int32], tokens: int, lost: int) -> Decoded:
        unknown = tokenizing.unknown_id(self.tokenizer)
        count = 0 if unknown is None else int((ids == unknown).sum())
        return Decoded(array=ids, info={"chars": sum(map(len, text)), "tokens": tokens, "lost": lost, "unknown": count})

    # --- batches -----------------------------------------------------------------------------

    def collate(self, views: list[NDArray[np.int32]]) -> Features:
        """Pad to the longest: raw int64 (B, T), with a mask that is True on real tokens."""
        lengths = np.fromiter(map(len, views), np.int64, len(views))
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate(views)
        return Features(tensor=torch.from_numpy(ids), layout="raw", mask=torch.from_numpy(mask))

    def normaliser(self) -> nn.Module:
        """Return the identity: ids are what the network takes."""
        return nn.Identity()

    # --- what is said ------------------------------------------------------------------------

    def content(self, row: Row, array: NDArray[np.int32]) -> str:
        """Return a row's text; the two of a pair in one."""
        return _content(row)

    def text_in(self, row: Row) -> str:
        """Return a row's text, of which `spans` counts characters; nothing for a file that is no text."""
        return _content(row)

    def fit_baseline_features(self, items: Sequence[str]) -> tuple[Tfidf, Any]:
        """Return TF-IDF with the terms and weights of the training texts, and theirs: sparse rows (N, D)."""
        return Tfidf.fitted(items)

    def load_baseline_features(self, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Tfidf:
        """Return the TF-IDF that a run saved.

        Raises:
            ValueError: it makes no sense.
        """
        return Tfidf.read(settings, arrays)

    def findings(self, infos: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return what tokenizing cost: the share of tokens cut off, and of those the vocabulary cannot spell."""
        tokens, lost, unknown = (sum(int(info[key]) for info in infos) for key in ("tokens", "lost", "unknown"))
        cut = sum(int(info["lost"]) > 0 for info in infos)
        longest = max(int(info["tokens"]) for info in infos)
        message = f"{tokens:,} tokens in {len(infos):,} texts; truncation to {self.max_tokens} loses {_percent(lost, tokens)} of them"
        if cut:
            message += f", in {cut:,} of the texts (the longest has {longest:,}); max_tokens=… keeps more"
        found = [Finding(kind="truncation", severity="warning" if lost > 0.05 * tokens else "note", message=message + ".")]
        if unknown > _UNKNOWN_SHARE * (tokens - lost):
            share = _percent(unknown, tokens - lost)
            hint = "take a backbone trained on this language, or strategy=scratch with backbone=scratch:textcnn"
            found.append(
                Finding(kind="unknown_tokens", severity="warning", message=f"{share} of the tokens are unknown to this tokenizer; {hint}.")
            )
        return found


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(1, whole)
    return "0 %" if part == 0 else "less than 0.1 %" if share < 0.1 else f"{share:.1f} %"


def _text(raw: bytes | tuple[str, ...]) -> tuple[str, ...]:
    """Return an example's text, one string or two."""
    text = (encodings.decode(raw).text,) if isinstance(raw, bytes) else raw
    if not any(part.strip() for part in text):
        raise BadItem("empty", "the text is empty")
    return tuple(encodings.replace_damage(part) for part in text)


def _content(row: Row) -> str:
    """Return a row's text; the two of a pair in one, and nothing for a file that is no text."""
    if row.text is not None:
        return "\n".join(row.text)
    assert row.path is not None
    try:
        return _text(row.path.read_bytes())[0]
    except (BadItem, OSError):
        return ""  # whoever decodes it says why
