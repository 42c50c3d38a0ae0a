"""The settings of the verbs that read: audit, predict, evaluate, generate. Those of the verbs that train are recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pretune.config import Bytes, Flat, Member, Within
from pretune.objectives import Wanted
from pretune.recipe import MOST_THREADS
from pretune.sources.table import Columns
from pretune.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Auditing:
    """Settings of `pretune audit`."""

    verb: ClassVar[str] = "audit"

    task: Annotated[Task | None, Member("tasks")] = None
    """auto infers it from the targets."""
    columns: Annotated[Columns, Flat()] = field(default_factory=Columns)
    min_examples: Annotated[int, Within(1, 1_000_000)] = 2
    """Classes with fewer usable examples are reported as not used."""
    cache: Path | None = None
    """Folder of decoded data; auto is $PRETUNE_CACHE or ~/.cache/pretune."""
    cache_size: Annotated[int | None, Bytes()] = None
    """Maximum size of that folder; auto is half of the free space on its disk."""
    threads: Annotated[int | None, Within(1, MOST_THREADS)] = None
    """CPU threads that decode; auto is OMP_NUM_THREADS where it is set, else all cores this process may use."""


@dataclass(frozen=True, kw_only=True)
class Predicting:
    """Settings of `pretune predict`."""

    verb: ClassVar[str] = "predict"

    out: Path | None = None
    """File to write: .csv, .json or .jsonl; embeddings also .npy or .parquet; words with times .srt or .vtt; auto prints CSV to stdout."""
    format: Literal["coco", "yolo", "images"] | None = None
    """Write boxes to `out` as a COCO file, a folder of YOLO label files, or a folder of images with boxes drawn; auto writes rows."""
    text: str | None = None
    """Column with the text, where it has another name than in the training data; two, separated by a comma, for sentence pairs."""
    path: str | None = None
    """Column with the file names, where it has another name than in the training data."""
    predictor: Literal["network", "baseline"] | None = None
    """Predict with the network or with the classical baseline; auto is the one that the run's figures are of."""
    task: Annotated[Task | None, Member("tasks")] = None
    """How a run of a task that writes does so here: task.temperature=0.7, task.max_new_tokens=64; auto is as the run was trained."""
    corpus: Path | None = None
    """File of texts among which a run of task=retrieval finds the nearest to each input; auto gives embeddings."""
    trust: tuple[str, ...] = ()
    """Your own Python modules that may build the run's network."""


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """Settings of `pretune evaluate`; columns are named where they have other names than in the training data."""

    verb: ClassVar[str] = "evaluate"

    part: Literal["train", "val", "test"] | None = None
    """Evaluate only this split of the data; auto takes all of it."""
    label: str | None = None
    """Column with the label or number to predict."""
    text: str | None = None
    """Column with the text; two, separated by a comma, for sentence pairs."""
    path: str | None = None
    """Column with the file names."""
    split: str | None = None
    """Column that says train, val or test."""
    missing: str | None = None
    """Labels that stand for a missing one, with commas between them: NA,nan."""
    decimal: Literal["point", "comma"] | None = None
    """Decimal separator of numeric labels: point (1,234.5) or comma (1.234,5); auto detects it."""
    predictor: Literal["network", "baseline"] | None = None
    """Predict with the network or with the classical baseline; auto is the one that the run's figures are of."""
    trust: tuple[str, ...] = ()
    """Your own Python modules that may build the run's network."""


@dataclass(frozen=True, kw_only=True)
class Generating(Wanted):
    """Settings of `pretune generate`."""

    out: Path | None = None
    """Folder of the audio files or images (auto: generated/); where it is named, of texts too. Existing files are kept."""
    trust: tuple[str, ...] = ()
    """Your own Python modules that may build the run's network."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Settings of `pretune runs`."""

    verb: ClassVar[str] = "runs"

    sort: Literal["newest", "oldest", "score", "name", "time"] = "newest"
    """Order; score puts the best run of each metric first, time the quickest."""
    last: Annotated[int | None, Within(1)] = None
    """Show at most this many runs; auto shows all."""
    strategy: str | None = None
    """Only runs whose strategy (or pretraining objective) has this in its name."""
    backbone: str | None = None
    """Only runs whose backbone has this in its name."""
    data: str | None = None
    """Only runs on data with this in their path."""
    metric: str | None = None
    """Only runs whose score is this metric."""
    finished: bool | None = None
    """true shows only finished runs, false only unfinished ones; auto shows both."""


@dataclass(frozen=True, kw_only=True)
class Caching:
    """Settings of `pretune cache`."""

    verb: ClassVar[str] = "cache"

    cache: Path | None = None
    """Folder of the cache; auto is $PRETUNE_CACHE or ~/.cache/pretune."""
