"""Class names that are probably one class written in several ways."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pretune.data.names import names_of
from pretune.data.numbers import is_number
from pretune.data.splits import merge
from pretune.types import Finding, Row

if TYPE_CHECKING:
    from pretune.data.table import Table

_RARE, _RARE_SHARE = 1, 0.1
"""Examples of a spelling, or its share of the usual one's, up to which it is taken for a slip."""
_LONG, _LONG_SWAP = 6, 4
"""Letters from which one wrong letter, or two neighbours that changed places, is more likely a slip than another word."""
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
"""Spaces that mean nothing: '1 2' is not 12."""


def lookalikes(classes: tuple[str, ...]) -> list[Finding]:
    """Return a warning per set of names that differ in case, space, punctuation or Unicode form, a note per likely typing slip."""
    folded: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(classes):
        folded[fold(name)].append(index)
    findings = []
    for same in folded.values():
        if len(same) > 1:
            names = [classes[index] for index in same]
            message = (
                f"{len(names)} look-alike class names: {', '.join(map(shown, names))}. They differ only in letter case, spaces or signs "
                "and are different classes here; if they are one, merge_classes=true merges them."
            )
            findings.append(Finding(kind="lookalike_classes", severity="warning", message=message, items=tuple(names)))
    return findings + [_slip([classes[index] for index in pair]) for pair in _one_letter_apart(classes)]


def merged(table: Table, merge: bool | None) -> None:
    """Give rows of look-alike classes one name, the most frequent spelling, and report it.

    Args:
        table: its rows, findings and ledger are changed.
        merge: True merges names that differ only in letter case, spaces or signs; False none; None only rare spellings, which are
            slips, and spellings that train does not have, that differ in letter case or spaces: 'a' and 'A', or 'C' and 'C++', may be
            different classes.
    """
    if merge is False or table.task not in ("classification", "multilabel"):
        return
    counts = Counter(name for row in table.rows for name in names_of(row))
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        alike[fold(name) if merge else loose(name)].append(name)
    trained = {name for row in table.rows if row.split in (None, "train") for name in names_of(row)}
    renamed: dict[str, str] = {}
    for names in alike.values():
        known = [name for name in names if name in trained]
        if not known:
            continue
        usual = max(known, key=lambda name: (counts[name], name))
        rare = max(_RARE, _RARE_SHARE * counts[usual])
        slips = [name for name in known if name != usual and (merge or (counts[name] <= rare < counts[usual] and len(name) > 2))]
        unscored = [name for name in names if name not in trained] if len(known) == len(slips) + 1 else []
        renamed |= dict.fromkeys([*slips, *unscored], usual)
    if not renamed:
        return
    table.rows = [_renamed(row, renamed) for row in table.rows]
    said = ", ".join(f"{shown(name)} ({counts[name]}) is {shown(usual)} ({counts[usual]})" for name, usual in list(renamed.items())[:8])
    more = " …" if len(renamed) > 8 else ""
    message = f"look-alike class names were merged: {said}{more}. merge_classes=false keeps them apart."
    table.findings.append(Finding(kind="merged_classes", severity="warning", message=message, items=tuple(renamed)))


def _renamed(row: Row, renamed: dict[str, str]) -> Row:
    if isinstance(row.target, tuple):
        return replace(row, target=tuple(dict.fromkeys(renamed.get(name, name) for name in row.target)))
    return replace(row, target=renamed[row.target]) if isinstance(row.target, str) and row.target in renamed else row


def align(table: Table, classes: Sequence[str]) -> None:
    """Give labels that a run does not know the name of its only class that differs in letter case, spaces or Unicode form, and say so."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        by_form[loose(name)].append(name)
    there = Counter(name for row in table.rows for name in names_of(row))
    renamed = {name: by_form[loose(name)][0] for name in there if name not in classes and len(by_form[loose(name)]) == 1}
    if renamed:
        table.rows = [_renamed(row, renamed) for row in table.rows]
        said = ", ".join(f"{shown(name)} ({there[name]}) as {shown(known)}" for name, known in list(renamed.items())[:8])
        table.said.append(f"labels that differ from a class of the run in letter case, spaces or Unicode form only are read as it: {said}.")


def loose(name: str) -> str:
    """Return a name without letter case, spaces and what Unicode writes in two ways; signs stay, and so do spaces between digits."""
    return _SPACES.sub("", unicodedata.normalize("NFKC", name).casefold().strip())


def fold(name: str) -> str:
    """Return what is left of a name without case, accents' encoding, spaces and punctuation; a number stays: -1 is not 1, 1.5 not 15."""
    plain = unicodedata.normalize("NFKC", name).casefold().strip()
    return plain if is_number(plain) else re.sub(r"[\W_]+", "", plain) or plain


def shown(name: str) -> str:
    """Return a name in quotes in which spaces and invisible characters can be seen."""
    decomposed = unicodedata.normalize("NFC", name) != name
    return ascii(name) if decomposed or not name.isprintable() else repr(name)


def _slip(names: list[str]) -> Finding:
    differ = f"the class names {' and '.join(map(shown, names))} differ in one letter or in the order of two"
    message = f"{differ}; if that is a slip, give them one name."
    return Finding(kind="lookalike_classes", severity="note", message=message, items=tuple(names))


def _one_letter_apart(classes: tuple[str, ...]) -> list[list[int]]:
    """Return sets of names one slip apart, by shared deletions (Mor & Fraenkel 1982): linear in their number."""
    keys: dict[str, set[int]] = defaultdict(set)
    folded = [fold(name) for name in classes]
    for index, name in enumerate(folded):
        if len(name) >= _LONG_SWAP:
            for variant in {name} | {name[:at] + name[at + 1 :] for at in range(len(name))}:
                keys[variant].add(index)
    pairs = {(a, b) for near in keys.values() for a in near for b in near if a < b and _is_slip(folded[a], folded[b])}
    return merge([list(pair) for pair in sorted(pairs)])


def _is_slip(a: str, b: str) -> bool:
    """Tell whether two folded names differ by two swapped neighbours or, if long, by one inserted, missing or other letter; no digits."""
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    tail_a, tail_b = a[start:], b[start:]
    if len(a) == len(b) and tail_a[:2] == tail_b[1::-1] and tail_a[2:] == tail_b[2:]:
        return tail_a[:2].isalpha()
    if min(len(a), len(b)) < _LONG:
        return False
    if len(a) == len(b):
        return tail_a[1:] == tail_b[1:] and not (tail_a[0].isdigit() or tail_b[0].isdigit())
    longer, shorter = (tail_a, tail_b) if len(a) > len(b) else (tail_b, tail_a)
    plural = longer == "s" and not shorter
    return longer[1:] == shorter and not longer[0].isdigit() and not plural
