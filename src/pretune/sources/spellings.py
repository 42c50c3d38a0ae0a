"""Spellings of one class name: which are merged when a table is read, and names in the forms that are compared."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pretune.sources.names import names_of
from pretune.sources.numbers import is_number
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.types import Finding

_RARE, _RARE_SHARE = 1, 0.1
"""Examples of a spelling, or its share of the usual one's, up to which it counts as a slip."""
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
"""Spaces that mean nothing: '1 2' is not 12."""


def merged(table: Table, merge: bool | None) -> None:
    """Give rows of look-alike classes one name, the most frequent spelling, and report it.

    Args:
        table: its rows, findings and ledger are changed.
        merge: True merges names that differ only in letter case, spaces or signs; False none; None only rare spellings, which are
            slips, and spellings that train does not have, that differ in letter case or spaces: 'a' and 'A', or 'C' and 'C++', may be
            different classes.
    """
    if merge is False or table.target_type is None or table.target_type.form not in ("class", "classes"):
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
    kind = table.target_type or TargetType()
    table.rows = [replace(row, target=kind.renamed(row.target, renamed)) for row in table.rows]
    renamings = ", ".join(
        f"{shown(name)} ({counts[name]}) is {shown(usual)} ({counts[usual]})" for name, usual in list(renamed.items())[:8]
    )
    more = " …" if len(renamed) > 8 else ""
    message = f"look-alike class names were merged: {renamings}{more}. merge_classes=false keeps them apart."
    table.findings.append(Finding(kind="merged_classes", severity="warning", message=message, items=tuple(renamed)))


def align(table: Table, classes: Sequence[str]) -> None:
    """Give labels that a run does not know the name of its only class that differs in letter case, spaces or Unicode form, and say so."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        by_form[loose(name)].append(name)
    there = Counter(name for row in table.rows for name in names_of(row))
    renamed = {name: by_form[loose(name)][0] for name in there if name not in classes and len(by_form[loose(name)]) == 1}
    if renamed:
        kind = table.target_type or TargetType()
        table.rows = [replace(row, target=kind.renamed(row.target, renamed)) for row in table.rows]
        renamings = ", ".join(f"{shown(name)} ({there[name]}) as {shown(known)}" for name, known in list(renamed.items())[:8])
        table.messages.append(
            f"labels that differ from a class of the run in letter case, spaces or Unicode form only are read as it: {renamings}."
        )


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
