"""Data in: read, decode once, audit, split, fit the target space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pretune import config, registry
from pretune.auditing import audit, duplicates, usable
from pretune.auditing.ledger import ledger_lines
from pretune.data import splits
from pretune.data.dataset import StoreView
from pretune.labels import Labels
from pretune.modalities import Modality
from pretune.recipe import Place, Recipe
from pretune.runner.deadline import Deadline
from pretune.runner.interrupt import check
from pretune.runner.reporter import Reporter
from pretune.sources.names import names_of
from pretune.sources.table import Table
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested, Progress, ingest
from pretune.tasks import Space, Task
from pretune.training.device import cpu_threads
from pretune.types import Features, Finding, LedgerEntry, Row


@dataclass(kw_only=True)
class Prepared:
    """Decoded, audited and split data with their target space."""

    table: Table
    ingested: Ingested
    rows: list[Row]
    """Aligned with the store; every one has a split."""
    task: Task
    space: Space
    encoded: Labels
    """Aligned with rows."""
    splits: dict[str, np.ndarray]
    """Split (train, select, val, test) -> positions in the store."""
    findings: list[Finding]
    ledger: list[LedgerEntry]
    modality: Modality
    units: np.ndarray
    """(N,) number of the set that each row stays with in every split: its group and its duplicates."""
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def kept_whole(self) -> np.ndarray | None:
        """`units` where the task scores examples against each other, so that samples of them keep sets whole; else None."""
        return self.units if self.task.compares else None

    @property
    def score(self) -> str:
        """The split whose figures are the score: test, else val."""
        return "test" if "test" in self.splits else "val"

    def labels(self, split: str) -> Labels:
        """Return the labels of a split's examples."""
        return self.labels_at(self.splits[split])

    def labels_at(self, positions: np.ndarray) -> Labels:
        """Return the labels of some examples."""
        return self.encoded.take(torch.from_numpy(positions))

    def example(self) -> Features:
        """Return the first training example as a raw batch of one."""
        view = StoreView(self.ingested.store, self.splits["train"][:1], self.modality, None)
        return view.batch(np.zeros(1, dtype=np.int64), 0).inputs

    def audit_json(self) -> dict[str, Any]:
        """Return the audit as the report and other tools read it."""
        return {
            "layout": self.table.layout,
            "root": str(self.table.root),
            "modality": self.table.modality,
            "messages": self.table.messages,
            "counts": self.counts,
            "findings": [config.to_tree(finding) for finding in self.findings],
            "ledger": [config.to_tree(entry) for entry in self.ledger],
            "columns": self.table.columns,
        }

    @property
    def selects(self) -> str | None:
        """The split that may choose: the one set aside for it, else val where test is the score; None where every other one scores."""
        return "select" if "select" in self.splits else "val" if "val" in self.splits and self.score == "test" else None


def open_cache(place: Place, reporter: Reporter | None = None) -> Cache:
    """Return the cache that the settings name, or the person's own; the reporter receives warnings of damaged entries."""
    cache = Cache.bounded(place.cache, place.cache_size)
    if reporter is not None:
        cache.warn = reporter.warn
    wait = cache.pause

    def pause() -> None:
        check()
        wait()

    cache.pause = pause
    return cache


def followed(label: str, reporter: Reporter, deadline: Deadline | None = None) -> Progress:
    """Return what receives how far a pass over the data is: it reports that, and ends the pass after Ctrl-C or for want of time."""
    look = (deadline or Deadline(None)).reading(label)

    def progress(done: int, count: int) -> None:
        reporter.progress(label, done, count)
        look(done, count)

    return progress


def plain_modality(table: Table) -> Modality:
    """Return the preprocessing that looks at data where no backbone brings its own."""
    modality: Modality = registry.load("modalities", table.modality)()
    return modality.fitted_to(table.rows)[0]


def prepare(
    recipe: Recipe, table: Table, task: Task, modality: Modality, cache: Cache, reporter: Reporter, deadline: Deadline | None = None
) -> Prepared:
    """Return the data, ready to train on; everything dropped or odd has been reported.

    Raises:
        DataError: nothing usable is left, or fewer than two classes.
        RequestError: reading them takes longer than the run may.
    """
    task = task if table.target_type is None else task.suited(table.target_type)
    _cut(table, task, modality)
    progress = followed(f"reading {modality.unit}s", reporter, deadline)
    done = ingest(table.rows, modality, cache, threads=cpu_threads(recipe.place.threads), progress=progress)
    same = duplicates.find(done)
    used = usable.settle(table, done, same, least=recipe.splits.min_examples, most=modality.most if task.whole else None)
    ledger = used.ledger
    used.require_classes(done, table, modality.unit)
    rows, of_split = _split(recipe, task, done, used, same)
    done.rows = rows
    table.messages += usable.sentences(table, used.rows(done), ledger)
    found = audit.audit(table, done, modality, same, used.positions)
    findings = [*table.findings, *used.findings, *of_split, *found, *modality.findings(done.store.infos)]
    for line in [*table.messages, *done.notes]:
        reporter.say(line)
    report_ledger(ledger, reporter)
    report_findings(findings, reporter)
    space = task.fit([row for row in rows if row.split == "train"], table.classes)
    of_labels = task.findings([row for row in rows if row.split is not None], space)
    report_findings(of_labels, reporter)
    findings += of_labels
    positions = _positions(recipe, rows, task, same.near)
    all_lengths = done.store.lengths[used.positions] if task.whole else done.store.lengths
    modality, message = modality.windowed(done.store.lengths[positions["train"]], all_lengths, whole=task.whole)
    if message:
        reporter.say(message)
    encoded = _encode(rows, positions, task, space, modality)
    return Prepared(
        table=table,
        ingested=done,
        rows=rows,
        task=task,
        space=space,
        encoded=encoded,
        splits=positions,
        findings=findings,
        ledger=ledger,
        modality=modality,
        units=splits.units_of(rows, same.near),
        counts=_counts(rows, positions, used, space),
    )


def _split(recipe: Recipe, task: Task, done: Ingested, used: usable.Usable, same: duplicates.Duplicates) -> tuple[list[Row], list[Finding]]:
    """Return the decoded rows, those that are used with their split and the others without, and messages about the split."""
    assigned, findings = splits.assign(
        used.rows(done),
        target=task.target_type,
        fraction=recipe.splits.val,
        seed=recipe.training.seed,
        twins=splits.within(same.near, used.positions),
    )
    rows = [replace(row, split=None) for row in done.rows]
    for position, row in zip(used.positions, assigned, strict=True):
        rows[position] = row
    return rows, findings


def _cut(table: Table, task: Task, modality: Modality) -> None:
    """Put examples that are longer than what the network is shown into the table as pieces, where the task can predict them so."""
    pieces = [task.pieces(row, modality) for row in table.rows]
    longer = [one for one in pieces if len(one) > 1]
    if longer:
        unit = modality.unit
        table.messages.append(
            f"{len(longer):,} {unit}(s) longer than the network is shown at once are used in {sum(map(len, longer)):,} pieces."
        )
        table.rows = [piece for one in pieces for piece in one]


def report_findings(findings: Sequence[Finding], reporter: Reporter) -> None:
    """Report what was found in the data, and warn of what should not be missed."""
    for finding in findings:
        (reporter.warn if finding.severity == "warning" else reporter.say)(finding.message)


def report_ledger(ledger: list[LedgerEntry], reporter: Reporter) -> None:
    """Report what was dropped or repaired."""
    for line in ledger_lines(ledger):
        reporter.warn(line)


def _positions(recipe: Recipe, rows: list[Row], task: Task, twins: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Return the positions of each split's examples; with patience, some of train are set aside, duplicates and groups whole."""
    named = {split: [i for i, row in enumerate(rows) if row.split == split] for split in ("train", "val", "test")}
    found = {split: np.array(positions, dtype=np.int64) for split, positions in named.items() if positions}
    if recipe.training.patience is not None or task.selects:
        if "test" in found and "val" in found:
            found["select"] = found["val"]
        else:
            carved = splits.carve(rows, target=task.target_type, fraction=0.15, seed=recipe.training.seed, twins=twins)
            found["select"] = np.array(carved, dtype=np.int64)
            found["train"] = np.setdiff1d(found["train"], found["select"])
    return found


def _encode(rows: list[Row], positions: dict[str, np.ndarray], task: Task, space: Space, modality: Modality) -> Labels:
    """Encode the rows that are in a split; rows outside all splits get a zero that nothing reads."""
    used = np.unique(np.concatenate(list(positions.values())))
    return task.encode([rows[i] for i in used], space, modality).placed(torch.from_numpy(used), len(rows))


def _counts(rows: list[Row], positions: dict[str, np.ndarray], used: usable.Usable, space: Space) -> dict[str, Any]:
    shown = {split: found for split, found in positions.items() if split != "select" or found is not positions.get("val")}
    per_class: dict[str, dict[str, int]] = {}
    for split, found in shown.items():
        for name, count in Counter(name for i in found for name in names_of(rows[i])).items():
            per_class.setdefault(name, {})[split] = count
    ordered = {name: per_class[name] for name in space.classes if name in per_class}
    sizes = {split: len(found) for split, found in shown.items()}
    return {"used": len(used.positions), "dropped": used.dropped, **sizes, "per_class": ordered}
