"""Whether pretraining helped: the same network fine-tuned with it, without it, and without it for as long as both took.

The data are split once, and what is held out is kept from the pretraining, so nothing that is scored was ever trained on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from pretune import config, registry
from pretune.auditing import duplicates
from pretune.auditing.ledger import ledger_lines
from pretune.augmentations import preset
from pretune.corpus import corpus as corpora
from pretune.corpus.resemblance import Excluded, HeldOutTexts
from pretune.data import splits
from pretune.errors import DataError, RequestError, SettingError
from pretune.evaluation.pretraining_gain import LONGER, PRETRAINED, SCRATCH, summary, trivial
from pretune.pretraining import Pretraining
from pretune.recipe import Place, Recipe, Training
from pretune.runner import baselines
from pretune.runner.budget import BATCH
from pretune.runner.finetune import FineTuning
from pretune.runner.folder import close
from pretune.runner.job import RunContext, RunResult
from pretune.runner.prepare import open_cache, plain_modality
from pretune.runner.reporter import PrefixedReporter, within
from pretune.runner.runner import Runner
from pretune.sources import sources
from pretune.sources.table import Columns
from pretune.storage.ingest import ingest
from pretune.strategies import Defaults, suggested
from pretune.strategies.full import Full
from pretune.strategies.scratch import Scratch
from pretune.tasks import Task, infer
from pretune.training.checkpoint import Decisions
from pretune.training.device import Device, cpu_threads
from pretune.training.events import Event
from pretune.training.run_dir import RunDir
from pretune.types import LedgerEntry, Row, Split

MOST_EPOCHS = 2_000
"""Epochs at most of the run from scratch that may take as long as pretraining and fine-tuning together."""


@dataclass(frozen=True, kw_only=True)
class LabelledTask:
    """The labelled data of `then=`, split once."""

    recipe: Pretraining
    rows: list[Row]
    """Usable rows, each with a split."""
    task: Task
    held_out: Excluded
    """The contents of the rows that are not trained on, as pretraining knows them."""
    modality: str
    ledger: list[LedgerEntry]
    """What is wrong with the data."""
    predictor: Literal["network"] | None = None
    """'network' where a classical model could take its place in some of the runs."""

    def warnings(self) -> list[str]:
        """Return what a person should know before hours are spent."""
        lines = [f"then={self.recipe.gain.then}: {line}" for line in ledger_lines(self.ledger)]
        train = sum(row.split == "train" for row in self.rows)
        many = [f"{labels:g}" for labels in self.recipe.gain.labels if labels > train]
        if many:
            lines.append(f"labels={','.join(many)}: only {train:,} are there to learn from; these are taken.")
        return lines


def read_task(recipe: Pretraining) -> LabelledTask:
    """Read and split the data of `then=`.

    Raises:
        DataError: they cannot be used, or have no labels.
        SettingError: several processes were started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError("then= is measured in one process. Pretrain with torchrun, then fine-tune from run:FOLDER.")
    table = sources.read(Path(str(recipe.gain.then)), _columns(recipe))
    modality = plain_modality(table)
    done = ingest(table.rows, modality, open_cache(recipe.place), threads=cpu_threads(recipe.place.threads))
    twins = duplicates.find(done).near
    inferred = infer(table.target_type)
    rows, _ = splits.assign(done.rows, target=inferred.target_type, fraction=0.2, seed=recipe.training.seed, twins=twins)
    hashes = frozenset(known for row, known in zip(rows, done.hashes, strict=True) if row.split != "train")
    texts = None
    if table.modality == "text":  # a corpus knows texts by their words, however they are stored
        texts = HeldOutTexts(text for row in rows if row.split != "train" for text in corpora.documents_of(row))
    ledger = [*table.ledger, *done.ledger]
    held_out = Excluded(hashes=hashes, documents=texts)
    task = LabelledTask(
        recipe=recipe,
        rows=rows,
        task=inferred,
        held_out=held_out,
        modality=table.modality,
        ledger=ledger,
        predictor="network" if baselines.is_choice(inferred, modality) else None,
    )
    for labels in recipe.gain.labels:
        _labelled(task, labels, 0)  # too few are refused now, not after hours
    return task


def _columns(recipe: Pretraining) -> Columns:
    return Columns(label=recipe.gain.then_label, group=recipe.gain.then_group)


def measure(task: LabelledTask, pretrained: RunResult, untrained: bool, run: RunContext) -> Generator[Event, bool | None, dict[str, Any]]:
    """Fine-tune with and without the pretraining, yielding the events of these runs; return (and write) what it gained.

    Args:
        task: the labelled data.
        pretrained: the finished pretraining run.
        untrained: whether it began with randomly initialised weights.
        run: reports, and says whether sockets may be opened.
    """
    rows: list[dict[str, Any]] = []
    gain, reporter = task.recipe.gain, run.reporter
    trials = max(1, len(gain.labels)) * gain.seeds
    seconds = _begun(task, pretrained.folder, pretrained.metrics["timing"]["train_s"])
    reporter.say(
        f"measuring the benefit of pretraining: {trials} × 3 fine-tuning runs (pretrained; from scratch; from scratch with the same "
        f"total training time, which may take as long as the pretraining did: {seconds:.0f} s)"
    )
    if task.recipe.training.time is not None:
        reporter.say(f"these runs are not part of time={task.recipe.training.time:g}s, which bounds the pretraining")
    done: set[tuple[int, int]] = set()
    for labels in gain.labels or (None,):
        for seed in range(gain.seeds):
            of_rows = _labelled(task, labels, seed)
            count = sum(split == "train" for split in of_rows.values())
            if (count, seed) not in done:  # two numbers may both be more than there are
                done.add((count, seed))
                trial = _Trial(task=task, pretrained=pretrained, splits=of_rows, seed=seed, run=run, untrained=untrained)
                rows += yield from trial.compare(seconds)
    found = summary(rows)
    for line in found["messages"]:
        reporter.say(line)
    return pretrained.folder.write_json("gain.json", found)


def _begun(task: LabelledTask, pretrained: RunDir, seconds: float) -> float:
    """Return the seconds that this comparison counts for pretraining: those it was begun with, where it is resumed.

    Raises:
        RequestError: it was begun on other labelled data.
    """
    decisions = Decisions(pretrained.path / "decisions.jsonl", Device(device=torch.device("cpu")))
    known = config.digest([[row.id, row.target, row.split, row.group] for row in task.rows])
    if decisions.make("gain/data", lambda: known) != known:
        raise RequestError(
            f"the data of then={task.recipe.gain.then} have changed since {pretrained.path} began to measure its gain. "
            "Put them back as they were, or start again with another out=…"
        )
    return decisions.make("gain/seconds", lambda: seconds)


def _labelled(task: LabelledTask, labels: float | None, seed: int) -> dict[str, Split]:
    """Return the split of every row that is used: all that are not trained on, and a stratified sample of the training rows.

    Raises:
        DataError: there are fewer labels than classes.
    """
    train = [row for row in task.rows if row.split == "train"]
    count = len(train) if labels is None else round(labels * len(train)) if labels < 1 else int(labels)
    if count < len(train):
        target = task.task.target_type
        if target.single and count < (classes := len(set(target.strata(train)))):
            raise DataError(f"labels={count} is fewer than the {classes} classes of {task.recipe.gain.then}.")
        train = splits.sampled_evenly(train, count, target=target, seed=seed, whole=task.task.compares)
    others: dict[str, Split] = {row.id: row.split for row in task.rows if row.split not in (None, "train")}
    return {**{row.id: "train" for row in train}, **others}


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """The runs of one seed on one sample of labels."""

    task: LabelledTask
    pretrained: RunResult
    splits: Mapping[str, Split]
    seed: int
    run: RunContext
    untrained: bool

    def compare(self, seconds: float) -> Generator[Event, bool | None, list[dict[str, Any]]]:
        """Return the scores with pretraining, without, and without for as long as both took."""
        gain, shared = self.task.recipe.gain, self._recipe()
        defaults = suggested(Scratch(), self.task.modality)
        epochs = gain.then_epochs or defaults.epochs_over(math.ceil(self._labels / BATCH))
        scratch = replace(shared, strategy=Scratch())
        if self.untrained and gain.then_strategy == "full":
            tuned = _like(defaults, self.task.modality, shared)
        else:
            tuned = replace(shared, strategy=registry.load("strategies", gain.then_strategy)())
        first = yield from self._run(PRETRAINED, tuned, epochs, "pretrained")
        second = yield from self._run(SCRATCH, scratch, epochs, "scratch")
        longer = math.ceil(epochs * (seconds + second["seconds"]) / max(1e-3, second["seconds"]))
        third = yield from self._run(LONGER, scratch, min(MOST_EPOCHS, longer), "longer")
        return [first, second, third]

    @property
    def _labels(self) -> int:
        return sum(split == "train" for split in self.splits.values())

    def _recipe(self) -> Recipe:
        """Return what the three runs share: they differ in where they begin only, and compute as the pretraining did."""
        recipe, precision = self.task.recipe, self.pretrained.metrics["precision"]
        return Recipe(
            data=str(recipe.gain.then),
            backbone=f"run:{self.pretrained.folder.path}",
            predictor=self.task.predictor,
            columns=_columns(recipe),
            training=Training(seed=self.seed, precision="bfloat16" if precision["bfloat16"] else "float32"),
            place=Place(cache=recipe.place.cache, threads=recipe.place.threads, resume=True),
        )

    def _run(self, kind: str, recipe: Recipe, epochs: int, name: str) -> Generator[Event, bool | None, dict[str, Any]]:
        labels = self._labels
        folder = self.pretrained.folder.path / "then" / f"{labels}-labels-seed-{self.seed}" / name
        training, place = replace(recipe.training, epochs=epochs), replace(recipe.place, out=folder)
        metrics = yield from self._finished(replace(recipe, training=training, place=place), RunDir(folder))
        primary, took = metrics["primary"], metrics["timing"]["train_s"]
        self.run.reporter.say(f"{labels} labels, seed {self.seed}: {kind}: {primary['name']} {primary['value']:.4g} ({took:.0f} s)")
        return {
            "kind": kind,
            "labels": labels,
            "seed": self.seed,
            "metric": primary["name"],
            "value": primary["value"],
            "higher_is_better": primary["higher_is_better"],
            "macro_f1": metrics[primary["split"]].get("macro_f1"),
            "held": (metrics.get("counts") or {}).get(primary["split"]),
            "baseline": trivial(metrics, primary["higher_is_better"]),
            "seconds": took,
            "epochs": epochs,
            "run": str(folder),
        }

    def _finished(self, recipe: Recipe, folder: RunDir) -> Generator[Event, bool | None, dict[str, Any]]:
        """Return the figures of a run; one that an earlier process finished is read, one that it began is resumed."""
        if (folder.path / "metrics.json").exists():
            close(folder.path)
            return folder.read_json("metrics.json")
        label = f"{folder.path.name.replace('_', ' ')}, seed {self.seed}"
        job = FineTuning(recipe=recipe, splits=self.splits)
        events = Runner(job, reporter=PrefixedReporter(self.run.reporter, label), offline=self.run.offline).events()
        result = yield from within(events, label)
        return result.metrics


def _like(scratch: Defaults, modality: str, recipe: Recipe) -> Recipe:
    """Return a full fine-tuning that differs from training from scratch in where it begins only.

    The strategy's own settings are for networks that learned from millions of examples: slow, slower towards the input, norms frozen.
    """
    return replace(
        recipe,
        strategy=Full(lr_decay=1.0, probe_first=False, freeze_norms=False),
        training=replace(recipe.training, lr=scratch.lr, weight_decay=scratch.weight_decay),
        augment=scratch.augment if preset(scratch.augment, modality) else "none",  # a preset may be empty for a modality
    )
