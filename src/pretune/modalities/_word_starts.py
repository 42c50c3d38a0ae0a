"""Where words begin in a row of token ids, whatever the tokenizer's mark for it: "##" pieces, byte-level "Ġ", "▁"."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
from numpy.typing import NDArray

from pretune.modalities.transforms.tokenizing import load, special_ids

_INSIDE = re.compile(r"\w")
_HAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Characters that are words of their own: Chinese ones and kana."""


@functools.lru_cache(maxsize=8)
def of(content: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which ids (V,) begin a word wherever they stand, and which end one: what follows them begins a word."""
    settings, tokenizer = json.loads(content), load(content)
    size = tokenizer.get_vocab_size()
    begins, ends = np.ones(size, bool), np.zeros(size, bool)
    kind = settings["model"]["type"]
    if kind == "WordLevel":
        return begins, ends
    prefix = settings["model"].get("continuing_subword_prefix") or "##"
    by_bytes = '"ByteLevel"' in json.dumps([settings.get("decoder"), settings.get("pre_tokenizer")])
    for token, place in tokenizer.get_vocab().items():
        if kind == "WordPiece":
            begins[place] = not token.startswith(prefix)
        else:
            begins[place], ends[place] = _of_bytes(token) if by_bytes else _of_text(token.replace("▁", " "))
    special = list(special_ids(content))
    begins[special] = ends[special] = True
    return begins, ends


def _of_text(text: str) -> tuple[bool, bool]:
    first, last = text[:1], text[-1:]
    return not _is_inside(first), not _is_inside(last) and last != " "  # a space alone belongs to the word after it


def _is_inside(character: str) -> bool:
    return bool(_INSIDE.match(character)) and not _HAN.match(character)


def _of_bytes(token: str) -> tuple[bool, bool]:
    """Judge a token of bytes; its ends may be parts of a character."""
    raw = bytes(_bytes()[character] for character in token if character in _bytes())
    text = raw.decode("utf-8", "replace")
    cut = raw[:1] >= b"\x80" and text.startswith("\ufffd")
    begins = raw[:1] >= b"\xe3" if cut else _of_text(text)[0]  # a Chinese character's first byte; the others go on with one
    return begins, not text.endswith("\ufffd") and _of_text(text)[1]


@functools.lru_cache(maxsize=1)
def _bytes() -> dict[str, int]:
    """Return the byte that each character of GPT-2's alphabet stands for (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}
