"""What is wrong with a data set, found from its decoded examples before any training.

Policy. Examples of val and test that are in train as well stay, and are reported with their count before the
score. Images and clips with equal bytes and different classes are left out (`contradictions`): one label
of them is wrong, and nobody can say which. Texts stay: short ones mean different things to different people, and leaving out
what is hard would flatter the score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pretune.auditing import confounds
from pretune.auditing.duplicates import Duplicates, find
from pretune.auditing.lookalikes import lookalikes
from pretune.sources.classes import count
from pretune.sources.names import names_of
from pretune.sources.target_type import TargetType
from pretune.types import Finding, LedgerEntry, Row

if TYPE_CHECKING:
    from pretune.sources.table import Table
    from pretune.storage.ingest import Ingested

_IMBALANCE = 5.0
_FEW_IN_CLASS = 5
_FEW_TO_SCORE = 20
_TINY = 16
_STRETCHED = 8.0
_ITEMS = 300
_WEIGHTS = "class_weights=true evens them out."
_BY_CLASS = "Read the figures of each class too, not only those of all together"
_ADVICE = {"class": f"Read balanced accuracy and recall by class, not accuracy; {_WEIGHTS}", "classes": f"{_BY_CLASS}; {_WEIGHTS}"}
"""By the form of the targets; tasks with targets of their own, such as boxes and tags, may have no class weights."""


def audit(
    table: Table, ingested: Ingested, modality: Any, duplicates: Duplicates | None = None, used: Sequence[int] | None = None
) -> list[Finding]:
    """Return what there is to say about the data as a whole, the gravest first.

    Args:
        table: the table the examples were read from.
        ingested: its decoded examples; their rows may have splits already.
        modality: the modality object (its `unit` names the examples in messages).
        duplicates: from `duplicates.find`, where it has been called before.
        used: positions of the examples that are used; the others are only looked at for contradictions. None uses all.
    """
    if not ingested.rows:
        return []
    positions = range(len(ingested.rows)) if used is None else used
    inside = set(positions)
    rows = [row if position in inside else replace(row, split=None) for position, row in enumerate(ingested.rows)]
    kept, infos = [rows[position] for position in positions], [ingested.store.infos[position] for position in positions]
    same, there = duplicates or find(ingested), count(kept)
    units = f"{modality.unit}s"
    findings = [
        *_contradictions(rows, same, table, units),
        *_leaks(rows, same, units),
        *_groups_on_two_sides(rows),
        *_repeats(rows, same, units),
        *lookalikes(tuple(name for name in table.classes if name in there)),
        *_missing(kept, table),
        *_balance(kept, units, table.target_type),
        *_too_few(kept, units, _kind(table)),
        *_confounds(kept, infos, table),
    ]
    if table.modality == "image":
        findings += _odd_images(ingested)
    return sorted(findings, key=lambda finding: finding.severity != "warning")


def twins(ingested: Ingested) -> list[list[int]]:
    """Return the index lists of exact and near duplicates, for splits."""
    return find(ingested).near


def contradictions(table: Table, ingested: Ingested, duplicates: Duplicates | None = None) -> list[LedgerEntry]:
    """Return an entry for every image or clip whose bytes occur under another class too; these are to be left out."""
    kind = _kind(table)
    if table.modality == "text" or not kind.exclusive:
        return []
    same = duplicates or find(ingested)
    entries = []
    for group in same.exact:
        rows = [ingested.rows[position] for position in group]
        for row in rows:
            other = next((o for o in rows if kind.differ(row.target, o.target)), None)
            if other is not None:
                mine, others = repr(str(row.target)), repr(str(other.target))
                detail = f"is labelled {mine} and holds the same bytes as {other.id}, labelled {others}; one label is wrong"
                entries.append(LedgerEntry(item=row.id, action="dropped", reason="contradictory_label", detail=detail))
    return entries


# --- duplicates ----------------------------------------------------------------------------------


def _contradictions(rows: list[Row], same: Duplicates, table: Table, units: str) -> list[Finding]:
    """Report equal examples with different targets, exact ones and near ones apart."""
    spread = float(np.std([row.target for row in rows])) if _kind(table).numeric else 0.0
    exact = [group for group in same.exact if _disagree(rows, group, spread, _kind(table))]
    inside = {position for group in exact for position in group}
    near = [group for group in same.near if _disagree(rows, group, spread, _kind(table)) and not inside & set(group)]
    what = "targets" if _kind(table).numeric else "labels"
    fate = " They are dropped: one of the labels is wrong." if table.modality != "text" and _kind(table).exclusive else ""
    equal = "the same words" if table.modality == "text" else "the same bytes"
    alike = "words that differ in case or spaces only" if table.modality == "text" else "near-duplicates"
    findings = []
    for groups, how, after in ((exact, equal, fate), (near, alike, " Check which is right.")):
        if groups:
            copies = sum(map(len, groups))
            example = "; ".join(_beside(rows, group) for group in groups[:4]) + ("; …" if len(groups) > 4 else "")
            message = f"{_number(groups, units, 'occur')} with different {what} ({how}, {copies} {units}): {example}.{after}"
            findings.append(Finding(kind="contradiction", severity="warning", message=message, items=_ids(rows, groups)))
    return findings


def _beside(rows: list[Row], group: list[int]) -> str:
    """Return two of a group whose targets differ, with their classes; without where those are equal, as of boxes in other places."""
    pair = _differing(rows, group)
    named = len({_target(rows[at]) for at in pair}) > 1
    return " = ".join(f"{rows[at].id} ({_target(rows[at])})" if named else rows[at].id for at in pair)


def _differing(rows: list[Row], group: list[int]) -> list[int]:
    """Return the first two of a group whose targets differ."""
    other = next((at for at in group[1:] if rows[at].target != rows[group[0]].target), group[1])
    return [group[0], other]


def _disagree(rows: list[Row], group: list[int], spread: float, kind: TargetType) -> bool:
    """Return whether targets of equal examples differ; numbers by more than a tenth of their standard deviation."""
    targets = [rows[position].target for position in group]
    if all(isinstance(target, int | float) for target in targets):
        numbers = [float(target) for target in targets if isinstance(target, int | float)]
        return max(numbers) - min(numbers) > 0.1 * spread
    return any(kind.differ(targets[0], other) for other in targets[1:])


def _kind(table: Table) -> TargetType:
    """Return the type of the targets; of data without labels none of those that anything is said of."""
    return table.target_type or TargetType()


def _target(row: Row) -> str:
    names = names_of(row)
    return str(row.target) if isinstance(row.target, int | float) or not names else "+".join(names)


def _leaks(rows: list[Row], same: Duplicates, units: str) -> list[Finding]:
    """Report examples of val and test that are in train too, and of test that are in val."""
    findings = []
    for split, earlier in (("test", "train"), ("val", "train"), ("test", "val")):
        exact = _shared(rows, same.exact, split, earlier)
        near = sorted({*exact, *_shared(rows, same.near, split, earlier)})
        if not near:
            continue
        total = sum(row.split == split for row in rows)
        more = f" ({len(near)} with near-duplicates)" if exact and len(near) > len(exact) else ""
        what = f"{len(exact)} of {total} {split} {units} are also in {earlier}{more}"
        if not exact:
            what = f"{len(near)} of {total} {split} {units} have near-duplicates in {earlier}"
        examples = ", ".join(rows[position].id for position in near[:3])
        message = f"{what}, for example {examples}. The {split} score is inflated by what was learned by heart; take them out of {earlier}."
        findings.append(
            Finding(kind="leak", severity="warning", message=message, items=tuple(rows[position].id for position in near[:_ITEMS]))
        )
    return findings


def _shared(rows: list[Row], groups: list[list[int]], split: str, earlier: str) -> list[int]:
    hit = [group for group in groups if any(rows[position].split == earlier for position in group)]
    return [position for group in hit for position in group if rows[position].split == split]


def _groups_on_two_sides(rows: list[Row]) -> list[Finding]:
    """Report groups that the data's own splits separate."""
    sides: dict[str, set[str | None]] = {}
    for row in rows:
        if row.group is not None:
            sides.setdefault(row.group, set()).add(row.split)
    torn = sorted(group for group, splits in sides.items() if "train" in splits and len(splits) > 1)
    if not torn:
        return []
    shown = ", ".join(torn[:5]) + (" …" if len(torn) > 5 else "")
    message = (
        f"{len(torn)} of {len(sides)} groups have examples in train and in another split ({shown}): "
        "the score says little about new groups. split=new makes splits that keep groups whole."
    )
    return [Finding(kind="group_leak", severity="warning", message=message, items=tuple(torn[:_ITEMS]))]


def _number(examples: Sequence[Any], units: str, verb: str) -> str:
    """Return '2 images occur' or '1 image occurs'."""
    return f"{len(examples)} {units} {verb}" if len(examples) != 1 else f"1 {units.removesuffix('s')} {verb}s"


def _repeats(rows: list[Row], same: Duplicates, units: str) -> list[Finding]:
    """Note duplicates of one target within one part: they count several times."""
    exact, near = ([group for group in groups if _is_harmless(rows, group)] for groups in (same.exact, same.near))
    findings = []
    if exact:
        example = " = ".join(rows[position].id for position in exact[0][:3])
        extra = sum(len(group) - 1 for group in exact)
        message = f"{_number(range(extra), units, 'repeat')} others byte for byte ({example}); automatic splits keep duplicates together."
        findings.append(Finding(kind="exact_duplicate", severity="note", message=message, items=_ids(rows, exact)))
    known = {tuple(group) for group in exact}
    near = [group for group in near if tuple(group) not in known]
    if near:
        example = " ~ ".join(rows[position].id for position in near[0][:3])
        message = f"{sum(map(len, near))} {units} have near-duplicates ({example}); automatic splits keep duplicates together."
        findings.append(Finding(kind="near_duplicate", severity="note", message=message, items=_ids(rows, near)))
    if same.chained:
        message = (
            f"{same.chained} {units} form one long chain of near-duplicates, too long to be kept in one split; "
            "give group= to split by what they share."
        )
        findings.append(Finding(kind="near_duplicate_chain", severity="warning", message=message))
    return findings


def _is_harmless(rows: list[Row], group: list[int]) -> bool:
    """Return whether equal examples have one target and lie in one split; the others are reported as contradictions and leaks."""
    return len({rows[position].target for position in group}) == 1 and len({rows[position].split for position in group}) == 1


def _ids(rows: list[Row], groups: list[list[int]]) -> tuple[str, ...]:
    return tuple(rows[position].id for group in groups for position in group)[:_ITEMS]


# --- counts --------------------------------------------------------------------------------------


def _missing(rows: list[Row], table: Table) -> list[Finding]:
    """Report classes without an example in a val or test split that the data give."""
    findings, known = [], count(rows)
    for split in ("val", "test"):
        there = count([row for row in rows if row.split == split])
        missing = [name for name in table.classes if name in known and name not in there] if there and split in table.counts() else []
        if missing:
            shown = ", ".join(map(repr, missing[:8])) + (" …" if len(missing) > 8 else "")
            message = f"{split} has no example of {shown}: the {split} score does not cover {'it' if len(missing) == 1 else 'them'}."
            findings.append(Finding(kind="class_missing", severity="warning", message=message, items=tuple(missing)))
    return findings


def _balance(rows: list[Row], units: str, target_type: TargetType | None) -> list[Finding]:
    """Report uneven classes, and classes too small to be trusted, in what is learned from."""
    counts = count([row for row in rows if row.split in (None, "train")])
    findings = []
    if len(counts) > 1:
        ordered = counts.most_common()
        (largest, most), (smallest, least) = ordered[0], ordered[-1]
        if most >= _IMBALANCE * least:
            shown = ", ".join(f"{name} {n}" for name, n in (ordered if len(ordered) <= 8 else [*ordered[:4], *ordered[-4:]]))
            message = (
                f"the classes are uneven ({shown}{'; …' if len(ordered) > 8 else ''}): {largest!r} has {most / least:.0f} times the "
                f"{units} of {smallest!r}. {_ADVICE.get(target_type.form if target_type else '', f'{_BY_CLASS}.')}"
            )
            findings.append(Finding(kind="imbalance", severity="warning", message=message, items=(largest, smallest)))
    total = count(rows)
    tiny = sorted((n, name) for name, n in total.items() if n < _FEW_IN_CLASS)
    if tiny:
        shown = ", ".join(f"{name!r} ({n})" for n, name in tiny[:10]) + (" …" if len(tiny) > 10 else "")
        message = f"very small classes: {shown}. Metrics of a class of fewer than {_FEW_IN_CLASS} {units} are mostly chance."
        findings.append(Finding(kind="tiny_class", severity="warning", message=message, items=tuple(name for _, name in tiny[:_ITEMS])))
    return findings


def _too_few(rows: list[Row], units: str, target_type: TargetType) -> list[Finding]:
    """Report data from which no meaningful score can come."""
    if any(map(target_type.is_cut, rows)):
        return []  # there are as many examples as pieces, which are not cut yet
    splits = Counter(row.split for row in rows)
    split = "test" if splits["test"] else "val"
    scored = splits[split]
    if len(rows) < _FEW_TO_SCORE:
        message = (
            f"{len(rows)} {units} cannot give a meaningful score: chance decides. Collect at least {_FEW_TO_SCORE}, better some hundred."
        )
        return [Finding(kind="too_few", severity="warning", message=message)]
    if 0 < scored < _FEW_TO_SCORE:
        message = f"the {split} split has only {scored} {units}: one more or less right moves the score by {1 / scored:.0%}."
        return [Finding(kind="too_few", severity="note", message=message)]
    return []


# --- facts about the files -----------------------------------------------------------------------


def _confounds(rows: list[Row], infos: list[dict[str, Any]], table: Table) -> list[Finding]:
    if _kind(table).numeric:
        return confounds.correlates(infos, np.array([row.target for row in rows], dtype=float))
    kind = _kind(table)
    single = [(info, name) for info, row in zip(infos, rows, strict=True) if row.target is not None and (name := kind.kind_of(row.target))]
    if not single:
        return []
    return confounds.confounds([info for info, _ in single], [name for _, name in single])


def _odd_images(ingested: Ingested) -> list[Finding]:
    """Name images of one colour, tiny ones and very long ones."""
    rows, infos = ingested.rows, ingested.store.infos
    findings = []
    blank = [at for at, info in enumerate(infos) if info.get("dhash") == "0" * 16 and np.ptp(ingested.store[at], axis=(0, 1)).max() <= 2]
    if blank:
        message = f"{len(blank)} image(s) show one colour only: {', '.join(rows[at].id for at in blank[:5])}. They are used; check them."
        findings.append(Finding(kind="constant_image", severity="note", message=message, items=tuple(rows[at].id for at in blank[:_ITEMS])))
    sizes = [(at, int(info["width"]), int(info["height"])) for at, info in enumerate(infos) if "width" in info and "height" in info]
    odd = [(at, w, h) for at, w, h in sizes if min(w, h) < _TINY or max(w, h) > _STRETCHED * min(w, h)]
    if odd and len(odd) <= len(rows) / 2:
        shown = ", ".join(f"{rows[at].id} ({w}x{h})" for at, w, h in odd[:5])
        message = f"{len(odd)} image(s) are tiny or very long: {shown}. They are used; little can be seen in them."
        findings.append(Finding(kind="odd_size", severity="note", message=message, items=tuple(rows[at].id for at, _, _ in odd[:_ITEMS])))
    return findings
