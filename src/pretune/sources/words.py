"""The words of a text where nothing separates them but the text itself, and a text of words that were separated."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Span = tuple[int, int]
"""First character, and one past the last."""

_ASCII = re.compile(r"\w+|[^\w\s]")
_ALONE = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Characters of scripts without spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer): each is a word."""
_INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff\ufe0f")


def is_blank(text: str) -> bool:
    """Return whether a text has no character that can be seen."""
    return not (text if text.isascii() else text.translate(_INVISIBLE)).strip()


def words_of(text: str) -> tuple[Span, ...]:
    """Return the words of a text: runs of letters and digits with their accents; every other sign is a word by itself.

    Any place where an entity can begin or end is a border: "Putin's" is three words. What joins characters (zero-width joiners,
    variation selectors) belongs to the word before it.
    """
    if text.isascii():
        return tuple(match.span() for match in _ASCII.finditer(text))
    spans: list[Span] = []
    before = ""  # what the last character was: '' (white space), 'word', 'sign'
    for at, character in enumerate(text):
        kind = _kind(character)
        if (kind == "joins" and before) or (kind == "word" and before == "word"):
            spans[-1] = spans[-1][0], at + 1
            continue
        before = "sign" if kind in ("sign", "joins") else kind
        if kind:
            spans.append((at, at + 1))
    return tuple(spans)


def _kind(character: str) -> str:
    """Return what a character does: word (goes on with a word), sign (stands alone), joins (the one before), '' (white space)."""
    if character.isspace():
        return ""
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return "joins"
    if _ALONE.match(character):
        return "sign"
    return "word" if category[0] in "LN" or character == "_" else "sign"


def joined(words: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Return the text of separated words, and where each stands in it; no space between signs of scripts without spaces."""
    text, spans = "", []
    for word in words:
        if text and not (_ALONE.match(text[-1]) and _ALONE.match(word[:1])):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, tuple(spans)
