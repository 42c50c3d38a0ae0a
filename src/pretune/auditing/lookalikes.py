"""Class names that are probably one class written in several ways."""

from __future__ import annotations

from collections import defaultdict

from pretune.data.splits import merge
from pretune.sources.spellings import fold, shown
from pretune.types import Finding

_LONG, _LONG_SWAP = 6, 4
"""Letters from which one wrong letter, or two neighbours that changed places, is more likely a slip than another word."""


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
    """Return whether two folded names differ by two swapped neighbours or, if long, by one inserted, missing or other letter; no digits."""
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
