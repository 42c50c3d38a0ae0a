"""Texts in sentences and in clauses, in scripts with and without spaces between words."""

from __future__ import annotations

import re

_WIDE = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_AFTER = "[\"'”’」』)\\]）】]*"
"""What may close a sentence after its stop."""
_ABBREVIATIONS = frozenset(
    [
        "e.g",
        "i.e",
        "etc",
        "al",
        "fig",
        "figs",
        "eq",
        "eqs",
        "sec",
        "ref",
        "refs",
        "no",
        "vs",
        "cf",
        "approx",
        "resp",
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "jr",
        "sr",
        "inc",
        "ltd",
        "co",
        "u.s",
    ]
)
_END = re.compile(
    rf"""(?:[.!?…]+{_AFTER}\s+(?=[^\sa-z])      # a stop and a space before what is no small letter
    | [。！？!?；;]+{_AFTER}(?=[{_WIDE}])        # a stop in a script without spaces
    | [。！？]+{_AFTER}
    | (?<=[{_WIDE}%)\]])[.．](?=[{_WIDE}\w(])   # a full stop of half width between wide letters
    | \n\s*)""",
    re.VERBOSE,
)
_CLAUSE = re.compile(rf"(?<=[{_WIDE}\w\d%)\]])[,，、:：;；](?=[{_WIDE}])|(?<=[{_WIDE}])[,，、:：;；]|(?:[,;:]|\s[-–—])\s+")
_EDGES = " \t\r\n,，、:：;；.．。-–—"


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in order, each with its stop, without white space around it; a line end ends one too."""
    out, begin = [], 0
    for found in _END.finditer(text):
        if _is_abbreviated(text[begin : found.start()], found.group()):
            continue
        out.append(text[begin : found.end()].strip())
        begin = found.end()
    out.append(text[begin:].strip())
    return [one for one in out if any(map(str.isalnum, one))]


def _is_abbreviated(before: str, stop: str) -> bool:
    """Return whether a full stop ends an abbreviation or an initial rather than a sentence."""
    if stop.strip() != ".":
        return False
    word = before.rsplit(maxsplit=1)[-1].lstrip("(\"'[") if before.strip() else ""
    return word.casefold() in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word.isupper() and word.isascii() and word != "I")


def has_no_spaces(text: str) -> bool:
    """Return whether a text has letters or stops of Chinese or Japanese, between which no spaces stand."""
    return re.search(f"[{_WIDE}]", text) is not None


def clauses(text: str) -> list[str]:
    """Return what stands between commas, colons, semicolons and stops, without these at its edges."""
    parts = [part.strip(_EDGES) for sentence in sentences(text) for part in _CLAUSE.split(sentence)]
    return [part for part in parts if any(map(str.isalnum, part))]
