"""The verbs: what the command line and the web page call, and what Python users import."""

from __future__ import annotations

import time
from collections import abc
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune import backbones, config, registry
from pretune.auditing import audit as auditing
from pretune.auditing import duplicates, usable
from pretune.backbones import Backbone
from pretune.deploy import embeddings, familiar, report, report_images, samples, scored
from pretune.deploy.card import card
from pretune.deploy.generator import Generator
from pretune.deploy.nearest import SearchedTexts
from pretune.deploy.predictor import Predictor
from pretune.formats.encodings import replace_damage
from pretune.models.learner import Loss
from pretune.objectives import Sample, Wanted
from pretune.pretraining import Pretraining
from pretune.recipe import Recipe
from pretune.requests import Auditing, Evaluating, Predicting
from pretune.runner import FineTuning, Reporter, Runner, Silent
from pretune.runner.finetune import FineTuned
from pretune.runner.job import RunContext, RunResult
from pretune.runner.prepare import open_cache, plain_modality, report_ledger
from pretune.runner.pretrain import Pretrained, PretrainingJob
from pretune.sources import sources
from pretune.sources.table import RunColumns, Table
from pretune.storage.ingest import ingest
from pretune.tasks import Task, infer
from pretune.training.device import cpu_threads
from pretune.training.events import Event
from pretune.training.run_dir import RunDir
from pretune.types import Finding, LedgerEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run on disk."""

    path: Path
    known: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """What metrics.json holds, of a run that was just carried out."""

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return self.known or RunDir(self.path).read_json("metrics.json")

    @property
    def report(self) -> Path:
        """The page to read."""
        return self.path / "report.html"

    def predict(self, inputs: str | Path, **settings: Any) -> list[dict[str, Any]]:
        """Return one dictionary per input; see `pretune.predict`."""
        return list(predict(self.path, inputs, **settings))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts, (N, D) float32 of length one: dot products are cosines.

        Raises:
            DataError: a text cannot be embedded (it is empty); the message names it.
            SettingError: the run is of a task whose predictions are no embeddings.
        """
        return embeddings.embed(Predictor(self.path), texts)

    def evaluate(self, data: str | Path, *, part: str | None = None, **columns: str) -> dict[str, Any]:
        """Return metrics on labelled data; see `pretune.evaluate`."""
        return evaluate(self.path, data, part=part, reporter=None, **columns)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the score beside its baselines."""
        return card(self.path, self.metrics)


def finetune(
    data: str | Path,
    *,
    backbone: str | Backbone | None = None,
    loss: Loss | None = None,
    reporter: Reporter | None = None,
    offline: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune a pretrained model on labelled data.

    Args:
        data: a folder or a manifest.
        backbone: an id such as 'torchvision:resnet50', or a Backbone of your own.
        loss: (outputs, targets) -> scalar, in place of the task's own.
        reporter: receives progress and messages; none by default.
        offline: never open a socket.
        settings: any key of the recipe: a value, a component such as LoRA(rank=4), or a dictionary of its settings.

    Raises:
        RequestError: the request cannot be run; the message says what, where, and what to do.
    """
    own = backbone if isinstance(backbone, Backbone) else None
    recipe = Recipe.from_settings(str(data), backbone=own.builder.id if own else backbone, **settings)
    return run(recipe, backbone=own, loss=loss, reporter=reporter, offline=offline)


def run(
    recipe: Recipe,
    *,
    backbone: Backbone | None = None,
    loss: Loss | None = None,
    reporter: Reporter | None = None,
    offline: bool = False,
    started: float | None = None,
) -> Run:
    """Run a recipe: train, score, and write the run folder with its report.

    Args:
        recipe: what to do.
        backbone: a Backbone of your own, in place of the recipe's.
        loss: (outputs, targets) -> scalar, in place of the task's own.
        reporter: receives messages and events; nobody by default.
        offline: never open a socket.
        started: time.monotonic() at which the clock of `time=` started; now by default.
    """
    job = FineTuning(recipe=recipe, backbone=backbone, loss=loss)
    return _run_of(Runner(job, reporter=reporter, offline=offline, started=started, publish=_publish).run_job())


def pretrain(data: str | Path, *, reporter: Reporter | None = None, offline: bool = False, **settings: Any) -> Run:
    """Pretrain a network on data without labels; every strategy can take the result as `run:PATH`.

    Args:
        data: a text file, a folder of texts, images or audio, JSONL, Parquet.
        reporter: receives progress and messages; none by default.
        offline: never open a socket.
        settings: any key of Pretraining: a value, a component such as Causal(), or a dictionary of its settings.

    Raises:
        RequestError: the request cannot be run; the message says what, where, and what to do.
    """
    return run_pretraining(Pretraining.from_settings(str(data), **settings), reporter=reporter, offline=offline)


def run_pretraining(recipe: Pretraining, *, reporter: Reporter | None = None, offline: bool = False, started: float | None = None) -> Run:
    """Run a pretraining recipe, measure its gain where a task is named (`then=`), and write the run folder with its report."""
    job = PretrainingJob(recipe=recipe)
    return _run_of(Runner(job, reporter=reporter, offline=offline, started=started, publish=_publish_pretraining).run_job())


class Events(Iterator[Event]):
    """The events of a run that goes on as they are asked for; `run` is there after the last one."""

    run: Run

    def __init__(self, events: abc.Generator[Event, bool | None, RunResult]) -> None:
        self._events = events

    def __next__(self) -> Event:
        """Return the next event.

        Raises:
            RequestError: the request cannot be run.
            Interrupted: Ctrl-C came while the run had its turn; it can be resumed.
        """
        try:
            return next(self._events)
        except StopIteration as end:
            if end.value is not None:
                self.run = _run_of(end.value)
            raise

    def close(self) -> None:
        """Stop here: the state is saved, and the run can be resumed."""
        self._events.close()


def events(recipe: Recipe | Pretraining, *, reporter: Reporter | None = None, offline: bool = False) -> Events:
    """Return the events of a run, which is carried out as they are asked for; between two of them it is suspended.

    Nothing of the process is left changed while a run is suspended, so several can take turns, and its clock (`time=`) stands still.

    Args:
        recipe: of a fine-tuning or a pretraining.
        reporter: receives messages; nobody by default.
        offline: never open a socket.
    """
    if isinstance(recipe, Pretraining):
        return Events(Runner(PretrainingJob(recipe=recipe), reporter=reporter, offline=offline, publish=_publish_pretraining).events())
    return Events(Runner(FineTuning(recipe=recipe), reporter=reporter, offline=offline, publish=_publish).events())


def _run_of(result: RunResult) -> Run:
    return Run(path=result.folder.path, known=result.metrics or None)


def _publish(result: FineTuned, run: RunContext) -> None:
    report_images.write(result.folder.path, result.state, result.state.data)
    _report(result, run, result.state.data.task)


def _publish_pretraining(result: Pretrained, run: RunContext) -> None:
    samples.write(result.folder.path, result.objective)
    samples.write_reconstructions(result.folder.path, result.reconstructions)
    _report(result, run)


def _report(result: RunResult, run: RunContext, task: Task | None = None) -> None:
    """Write the whole verb's seconds, then the report, which says that a run is finished."""
    result.metrics["timing"]["total_s"] = run.deadline.clock.seconds
    result.folder.write_json("metrics.json", result.metrics)
    report.write(result.folder.path, task)


def generate(run: str | Path, prompt: str = "", *, trust: str | Collection[str] = (), **settings: Any) -> list[Sample]:
    """Return what a pretrained model makes: texts that go on from a prompt, audio, images.

    Args:
        run: a finished pretraining run's folder.
        prompt: a text to go on from, or with <mask> where something is missing, or the name of a class.
        trust: modules of your own that the run's network may be built by.
        settings: count, length, temperature, top_k, top_p, seed.
    """
    wanted = config.build(Wanted, {"prompt": replace_damage(str(prompt)), **settings})
    return Generator(Path(run), trust=backbones.modules_of(trust)).generate(wanted)


def save_sample(sample: Sample, path: Path) -> None:
    """Write audio as 16-bit WAV or an image as PNG; a text as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if sample.audio is not None:
        import soundfile

        soundfile.write(path, sample.audio, sample.sample_rate, subtype="PCM_16")
    elif sample.image is not None:
        from PIL import Image

        Image.fromarray(sample.image).save(path)
    else:
        path.write_text(sample.text or "", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is wrong with a data set, before any training."""

    layout: str
    modality: str
    task: str | None
    messages: list[str]
    findings: list[Finding]
    ledger: list[LedgerEntry]
    counts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the audit, JSON-ready."""
        return config.to_tree(self)


def audit(data: str | Path, *, reporter: Reporter | None = None, **settings: Any) -> Audit:
    """Look for unreadable files, duplicates, leaks, contradictions, confounds, imbalance.

    Raises:
        DataError: the data as a whole cannot be used.
    """
    config.build(Auditing, settings)
    recipe = Recipe.from_settings(str(data), base=settings)
    reporter = reporter or Silent()
    table = sources.read(Path(data), recipe.columns, target=recipe.target_type)
    modality = plain_modality(table)
    cache, count = open_cache(recipe.place, reporter), cpu_threads(recipe.place.threads)
    done = ingest(table.rows, modality, cache, threads=count, progress=lambda i, n: reporter.progress("reading", i, n))
    same = duplicates.find(done)
    task = recipe.task or (None if table.target_type is None else infer(table.target_type))
    most = modality.most if task is not None and task.whole else None
    used = usable.settle(table, done, same, least=recipe.splits.min_examples, most=most)
    used.require_some(table, modality.unit)
    rows = used.rows(done)
    lines = [*table.messages, *usable.sentences(table, rows, used.ledger)]
    findings = [*table.findings, *used.findings, *auditing.audit(table, done, modality, same, used.positions)]
    report_ledger(used.ledger, reporter)
    counts = {"used": len(rows), "dropped": used.dropped, "per_class": usable.per_class(table, rows)}
    return Audit(
        layout=table.layout, modality=table.modality, task=table.task, messages=lines, findings=findings, ledger=used.ledger, counts=counts
    )


def predict(
    run: str | Path,
    inputs: str | Path,
    *,
    predictor: str | None = None,
    corpus: str | Path | None = None,
    task: Mapping[str, Any] | None = None,
    trust: str | Collection[str] = (),
    reporter: Reporter | None = None,
    **columns: str | None,
) -> Iterator[dict[str, Any]]:
    """Yield one dictionary per input, in order: id and prediction, or id and error.

    A table is read by the columns that the run was trained on.

    Args:
        run: a finished run's folder.
        inputs: a file, a folder of any depth, or a manifest.
        predictor: 'network' or 'baseline'; None for the one that the run's figures are of.
        corpus: of a run of task=retrieval, a file of texts; the prediction is then the nearest of them.
        task: settings of the run's task that its predictions are made with: {"temperature": 0.7}; None for those of the run.
        trust: modules of your own that the run's network may be built by.
        reporter: receives which columns were read; nobody by default.
        columns: text=…, path=…: columns that have other names than in the training data; two texts, joined by a comma, for pairs.

    Raises:
        DataError: nothing can be read, or a column of the training data is missing; before the first prediction.
        SettingError: a corpus is named, and the run gives no embeddings; a setting belongs to training.
    """
    config.build(Predicting, columns)  # unknown ones are refused
    model = Predictor(Path(run), trust=backbones.modules_of(trust), model=predictor, settings=task)
    table = sources.read_unlabelled(
        Path(inputs), model.name, config.build(RunColumns, {"schema": model.schema, **columns}), target=model.task.target_type
    )
    reporter = reporter or Silent()
    for line in table.messages:
        reporter.say(line)
    answers = _answers(model, table, reporter)
    return answers if corpus is None else SearchedTexts.read(model, Path(corpus)).search(answers)


def _answers(predictor: Predictor, table: Table, reporter: Reporter) -> Iterator[dict[str, Any]]:
    refused = {entry.item: entry.detail for entry in table.ledger if entry.action == "dropped"}
    answers = predictor.predict(table.rows)
    for done, item in enumerate(table.inputs, 1):
        yield {"id": item, "error": refused[item]} if item in refused else next(answers)
        reporter.progress("predicting", done, len(table.inputs))
    for line in predictor.messages():
        reporter.say(line)


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    part: str | None = None,
    predictor: str | None = None,
    trust: str | Collection[str] = (),
    reporter: Reporter | None = None,
    **columns: str,
) -> dict[str, Any]:
    """Return a saved run's metrics on labelled data; columns and classes are found by their names in the training data.

    Args:
        run: a finished run's folder.
        data: class folders or a manifest; all of it, or only one split of it.
        part: train, val or test; None takes everything.
        predictor: 'network' or 'baseline'; None for the one that the run's figures are of.
        trust: modules of your own that the run's network may be built by.
        reporter: receives which columns were read; nobody by default.
        columns: label=…, text=…, path=…, split=…: columns that have other names than in the training data.

    Raises:
        DataError: the data cannot be used, or a column of the training data is missing.
        SettingError: an unknown setting.
    """
    started, reporter = time.monotonic(), reporter or Silent()
    config.build(Evaluating, {"predictor": predictor, **columns})
    model = Predictor(Path(run), trust=backbones.modules_of(trust), model=predictor)
    wanted = config.build(RunColumns, {"schema": model.schema, **columns})
    table = sources.read(Path(data), wanted, target=model.task.target_type, modality=model.name, learn=False)
    model.align(table)
    for line in table.messages:
        reporter.say(line)
    rows, unknown = scored.rows_of(model, table, part, data, familiar.sampled(Path(run), Path(data)))
    if more := scored.unknown_labels(model, rows):
        reporter.warn(f"the run does not know the labels {', '.join(more[:8])}: they are not scored, the others of their rows are.")
    found = scored.measured(model, rows, lambda done, count: reporter.progress("evaluating", done, count))
    for line in model.messages():
        reporter.say(line)
    primary = model.task.primary
    dropped = scored.dropped(table, rows, found.bad, unknown)
    if seen := familiar.learned(Path(run), Path(data), [row.id for row in found.used]):
        reporter.warn(familiar.warning(seen, len(found.used), Path(run)))
    return {
        "task": registry.name_of(model.task),
        "model": model.model,
        "primary": {"name": primary, "value": found.figures[primary], "split": part or "all", "interval": found.interval},
        "metrics": found.figures | scored.written(model, found.used, part or "all", reporter),
        "classes": list(model.space.classes),
        "columns": table.columns,
        "counts": {"used": len(found.used), "dropped": len(dropped)},
        "learned_from": seen,
        "dropped": dropped,
        "unknown_labels": more,
        "timing": {"total_s": time.monotonic() - started},
    }
