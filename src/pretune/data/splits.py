"""Sample splits: stratified, no group and no pair of twins on two sides, the same whenever the rows are the same.

Rows are joined to units (equal group, or twins). Units are taken in an order that depends only on the
seed and on the ids, and each goes to the held-out side where that brings its classes nearer to their
share. So for rows without groups each class gives its rounded share, and adding rows to a folder
moves few others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import DataError
from pretune.sources.names import names_of
from pretune.sources.target_type import TargetType
from pretune.types import Finding, Row

_Counts = Mapping[str, int]


def assign(
    rows: list[Row], *, target: TargetType, fraction: float, seed: int, twins: Sequence[Sequence[int]] = ()
) -> tuple[list[Row], list[Finding]]:
    """Fill in the part of every row.

    Where the data have a val or test split, rows without one belong to train. Else `fraction` of all
    rows becomes val, which is then the score.

    Args:
        rows: labelled rows.
        target: the type of the rows' targets, which says what a split is stratified by.
        fraction: share of the rows to hold out, in (0, 1).
        seed: changes which rows are held out.
        twins: index lists of duplicates; each list stays on one side.

    Returns:
        The rows in the same order, each with a split, and what there is to say about the splits.

    Raises:
        DataError: there is no row to train on, or nothing that could be held out.
    """
    named = {row.split for row in rows}
    if named & {"val", "test"}:
        if "train" not in named and None not in named:
            names = " and ".join(sorted(map(str, named)))
            raise DataError(f"the data have only {names} splits and none to train on. Add a train split, or give split=new.")
        return [replace(row, split=row.split or "train") for row in rows], _splits_left_open(rows)
    held_out = set(_hold_out(rows, list(range(len(rows))), target, fraction, seed, twins))
    if not held_out or len(held_out) == len(rows):
        why = (
            "they are all of one group"
            if len({row.group for row in rows}) == 1 and rows[0].group
            else "each class has a single example or group"
        )
        raise DataError(f"no val split can be held out of {len(rows)} rows: {why}. Add data, or give a val split.")
    out = [replace(row, split="val" if index in held_out else "train") for index, row in enumerate(rows)]
    return out, _describe(out, target, fraction, seed)


def carve(rows: list[Row], *, target: TargetType, fraction: float, seed: int, twins: Sequence[Sequence[int]] = ()) -> list[int]:
    """Return the indices of train rows to hold out for choosing (early stopping, best checkpoint), sorted.

    Args:
        rows: rows with their splits; only those of train are sampled.
        target: the type of the rows' targets, which says what a split is stratified by.
        fraction: share of the train rows, in (0, 1).
        seed: changes which rows are held out.
        twins: index lists of duplicates; each list stays on one side.
    """
    train = [index for index, row in enumerate(rows) if row.split == "train"]
    return _hold_out(rows, train, target, fraction, seed + 1, twins)


# --- sampling ------------------------------------------------------------------------------------


def at_random(
    rows: list[Row],
    positions: NDArray[np.int64],
    twins: Sequence[Sequence[int]] = (),
    *,
    fraction: float,
    seed: int,
    what: str,
    least: int = 1,
) -> dict[str, NDArray[np.int64]]:
    """Return the positions for training and those held out of examples without labels, at random; groups and near-duplicates stay together.

    Args:
        rows: all of them.
        positions: (N,) of those that are used.
        twins: positions of rows that are nearly equal, set by set.
        fraction: held out.
        seed: of the sample.
        what: is split, as the message names it.
        least: examples of each split.

    Raises:
        DataError: there are too few.
    """
    count = max(least, round(len(positions) * fraction))
    units = kept_together(rows, positions.tolist(), twins)
    order = np.random.default_rng(seed).permutation(len(units))
    cut = int(np.searchsorted(np.cumsum([len(units[unit]) for unit in order]), count)) + 1
    if sum(len(units[unit]) for unit in order[cut:]) < least:
        grouped = " in groups and sets of duplicates that stay whole" if len(units) < len(positions) else ""
        raise DataError(f"{what}: {len(positions)}{grouped}. That is too few to learn from and to hold some out; add data.")
    cuts = {"train": order[cut:], "held": order[:cut]}
    found = {split: np.sort([place for unit in chosen for place in units[unit]]) for split, chosen in cuts.items()}
    # Held-out examples lie in no order: where the time allows measuring only the first, they stand for all.
    return found | {"held": np.random.default_rng(seed).permutation(found["held"])}


def sampled_evenly(rows: list[Row], count: int, *, target: TargetType, seed: int, whole: bool = False) -> list[Row]:
    """Return about `count` rows, evenly from all strata of their targets.

    Args:
        rows: to sample from.
        count: rows that are wanted.
        target: how the rows are labelled.
        seed: of the sample.
        whole: whether rows of one group stay together, as where they are scored against each other.
    """
    strata = target.strata(rows)
    units = kept_together(rows, list(range(len(rows)))) if whole else [[place] for place in range(len(rows))]
    by_stratum: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for place in np.random.default_rng(seed).permutation(len(units)):
        by_stratum[strata[units[place][0]]].append(units[place])
    shares = [(place + 0.5) / len(of_stratum) for of_stratum in by_stratum.values() for place in range(len(of_stratum))]
    ranked = [unit for of_stratum in by_stratum.values() for unit in of_stratum]
    order = [ranked[place] for place in np.argsort(shares, kind="stable")]
    most = int(np.searchsorted(np.cumsum([len(unit) for unit in order]), count, side="right"))
    return [rows[place] for unit in order[: max(1, most)] for place in unit]


def _hold_out(
    rows: list[Row], pool: list[int], target: TargetType, fraction: float, seed: int, twins: Sequence[Sequence[int]]
) -> list[int]:
    """Return which of `pool` to hold out."""
    labels = dict(zip(pool, target.strata([rows[index] for index in pool]), strict=True))
    units = kept_together(rows, pool, twins)
    order = sorted(units, key=lambda unit: _draw(min(rows[index].id for index in unit), seed))
    alone = {names: dict.fromkeys(names, 1) for names in set(labels.values())}
    counts = [alone[labels[unit[0]]] if len(unit) == 1 else Counter(name for index in unit for name in labels[index]) for unit in order]
    total = Counter(name for names in labels.values() for name in names)
    chosen = _fill(counts, total, fraction)
    _touch_every_class(counts, total, chosen)
    return sorted(index for unit, is_held_out in zip(order, chosen, strict=True) if is_held_out for index in unit)


def _draw(item: str, seed: int) -> bytes:
    """Return a random rank of an id that does not depend on the other ids."""
    return hashlib.blake2b(f"{seed}:{item}".encode(errors="surrogateescape"), digest_size=8).digest()


def kept_together(rows: list[Row], pool: list[int], twins: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Return the sets of rows that must stay together: equal groups and twins, joined where they overlap."""
    inside = set(pool)
    bonds: list[list[int]] = [[index for index in same if index in inside] for same in twins]
    by_group: dict[str, list[int]] = defaultdict(list)
    for index in pool:
        group = rows[index].group
        if group is not None:
            by_group[group].append(index)
    joined = merge([*bonds, *by_group.values()])
    bound = {index for unit in joined for index in unit}
    return joined + [[index] for index in pool if index not in bound]


def within(twins: Sequence[Sequence[int]], positions: Sequence[int]) -> list[list[int]]:
    """Return index lists as places in `positions`, without what is not there; lists of fewer than two are left out."""
    place = {position: at for at, position in enumerate(positions)}
    inside = [[place[position] for position in same if position in place] for same in twins]
    return [same for same in inside if len(same) > 1]


def units_of(rows: list[Row], twins: Sequence[Sequence[int]] = ()) -> NDArray[np.int64]:
    """Return the number of the unit of each row, (N,): rows of one number must stay together."""
    out = np.empty(len(rows), dtype=np.int64)
    for number, unit in enumerate(kept_together(rows, list(range(len(rows))), twins)):
        out[unit] = number
    return out


def merge(sets: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the connected components of overlapping index lists, each sorted (union-find)."""
    parent: dict[int, int] = {}

    def find(index: int) -> int:
        while parent.setdefault(index, index) != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for members in sets:
        for index in members:
            parent[find(index)] = find(members[0])
    out: dict[int, list[int]] = defaultdict(list)
    for index in sorted(parent):
        out[find(index)].append(index)
    return list(out.values())


def _fill(counts: Sequence[_Counts], total: Counter[str], fraction: float) -> list[bool]:
    """Take units while that lessens the sum over classes of (held - wanted)² / size, and leaves each class an example."""
    held_out = dict.fromkeys(total, 0)
    chosen = []
    for unit in counts:
        change, leaves_some = 0.0, True
        for name, n in unit.items():
            size, have = total[name], held_out[name]
            change += n * (n + 2 * (have - fraction * size)) / size
            leaves_some = leaves_some and have + n < size
        chosen.append(change < 0 and leaves_some)
        if chosen[-1]:
            for name, n in unit.items():
                held_out[name] += n
    return chosen


def _touch_every_class(counts: Sequence[_Counts], total: Counter[str], chosen: list[bool]) -> None:
    """Give every class that can spare one an example on the held-out side, by its smallest unit."""
    held_out: Counter[str] = Counter()
    for unit, is_held_out in zip(counts, chosen, strict=True):
        if is_held_out:
            held_out.update(unit)
    missing = [name for name in sorted(total, key=lambda name: (total[name], name)) if not held_out[name]]
    for name in missing:
        holders = [at for at, unit in enumerate(counts) if name in unit] if not held_out[name] else []
        spare = [at for at in holders if all(held_out[other] + n < total[other] for other, n in counts[at].items())]
        if spare:
            at = min(spare, key=lambda at: (sum(counts[at].values()), at))
            chosen[at] = True
            held_out.update(counts[at])


# --- words ---------------------------------------------------------------------------------------


def _splits_left_open(rows: list[Row]) -> list[Finding]:
    open_rows = sum(row.split is None for row in rows)
    if not open_rows:
        return []
    return [Finding(kind="split", severity="note", message=f"{open_rows} example(s) without a split are used as train.")]


def _describe(rows: list[Row], target: TargetType, fraction: float, seed: int) -> list[Finding]:
    """Report how the splits were sampled, and which classes the held-out split lacks."""
    held_out = sum(row.split == "val" for row in rows)
    classes = not target.numeric and len(set(target.strata(rows))) > 1
    how = "stratified by class, " if classes else ""
    groups = len({row.group for row in rows if row.group is not None})
    how += f"whole groups ({groups}), " if groups else ""
    message = (
        f"the data have no val or test split: {held_out} of {len(rows)} examples are held out as val ({how}seed {seed}); "
        "the score is measured on val."
    )
    findings = [Finding(kind="split", severity="note", message=message)]
    share = held_out / len(rows)
    if groups and abs(share - fraction) > 0.5 * fraction:
        message = f"groups are so uneven that val has {share:.0%} of the examples instead of {fraction:.0%}."
        findings.append(Finding(kind="uneven_groups", severity="warning", message=message))
    return findings + _unseen(rows)


def _unseen(rows: list[Row]) -> list[Finding]:
    total: Counter[str] = Counter(name for row in rows for name in names_of(row))
    held_out: Counter[str] = Counter(name for row in rows if row.split == "val" for name in names_of(row))
    single = sorted(name for name, n in total.items() if n == 1)
    grouped = sorted(name for name, n in total.items() if n > 1 and not held_out[name])
    findings = []
    if single:
        message = f"a single example: {_quoted(single)}. It stays in train, so that class has no validation score."
        findings.append(Finding(kind="single_item_class", severity="warning", message=message, items=tuple(single)))
    if grouped:
        message = f"all examples of {_quoted(grouped)} belong together, so they stay in train; that class has no validation score."
        findings.append(Finding(kind="single_group_class", severity="warning", message=message, items=tuple(grouped)))
    return findings


def _quoted(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:10])) + (" …" if len(names) > 10 else "")
