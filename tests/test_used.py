"""One ledger, one count: what is dropped is not used, what is repaired is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pretune.auditing import usable
from pretune.auditing.duplicates import Duplicates
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS
from pretune.types import LedgerEntry, Row, Split


def entry(item: str, action: Any = "dropped") -> LedgerEntry:
    return LedgerEntry(item=item, action=action, reason="test", detail="is a test")


def settled(rows: list[Row], same: Duplicates | None = None, read: tuple[LedgerEntry, ...] = (), least: int = 1) -> usable.Usable:
    table = Table(rows=rows, modality="image", target_type=ONE_CLASS, root=Path(), layout="folders", ledger=list(read))
    done: Any = SimpleNamespace(rows=rows, ledger=[], hashes=[row.id for row in rows])
    return usable.settle(table, done, same or Duplicates(exact=[], near=[]), least=least)


def row(item: str, target: str, split: Split = "train") -> Row:
    return Row(id=item, path=Path(item), target=target, split=split)


def test_repaired_items_are_not_dropped() -> None:
    used = settled([row("1", "a"), row("2", "b")], read=(entry("0"), entry("1", "repaired")))
    assert used.dropped == 1
    assert used.positions == [0, 1]


def test_copies_with_two_labels_are_dropped_and_copies_with_one_are_used() -> None:
    rows = [row("1", "a"), row("2", "b"), row("3", "a"), row("4", "a"), row("5", "b")]
    used = settled(rows, Duplicates(exact=[[0, 1], [2, 3]], near=[[0, 1], [2, 3]]))
    assert [rows[position].id for position in used.positions] == ["3", "4", "5"]
    assert {one.item for one in used.ledger} == {"1", "2"}
    assert used.dropped == 2


def test_what_no_training_item_is_left_of_cannot_be_scored() -> None:
    rows = [row("1", "a"), row("2", "b"), row("3", "c", "val"), row("4", "a", "val")]
    used = settled(rows)
    assert [rows[position].id for position in used.positions] == ["1", "2", "4"]
    assert [(one.item, one.reason) for one in used.ledger] == [("3", "unknown_class")]
    assert usable.per_class(
        Table(rows=rows, modality="image", target_type=ONE_CLASS, root=Path(), layout="folders", classes=("a", "b")),
        [rows[position] for position in used.positions],
    ) == {"a": 2, "b": 1}


def test_a_class_needs_the_least_number_of_examples() -> None:
    rows = [row("1", "a"), row("2", "a"), row("3", "rare"), row("4", "b"), row("5", "b", "val")]
    assert settled(rows, least=1).positions == [0, 1, 2, 3, 4]
    used = settled(rows, least=2)
    assert used.positions == [0, 1, 3, 4]
    assert [(one.item, one.reason) for one in used.ledger] == [("3", "rare_class")]
