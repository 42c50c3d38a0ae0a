"""model.json of a finished fine-tuning: the task, its targets, the head, and how outputs are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune import config, registry, saved
from pretune.errors import DataError, SettingError
from pretune.models.heads import Head
from pretune.printable import shell_word
from pretune.sources.schema import Schema
from pretune.tasks import Space, Task, WritingTask
from pretune.training.plan import Precision

MODEL = "model.json"
MODELS = ("network", "baseline")


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """What is needed beside the backbone to build the model that was scored."""

    model: str
    """Which model the run predicts with: 'network' or 'baseline'."""
    task: Task
    space: Space
    schema: Schema
    """Columns of the training data."""
    head: Head
    pooling: str
    width: int | None
    """Numbers that the head takes; None in a run saved before they were recorded."""
    weights: Path
    """File of the head's tensors, inside the run folder."""
    precision: Precision
    forward: Precision
    """How the frozen stages are computed."""
    frozen: int
    """Number of leading stages that were frozen."""


def read_saved_model(run: Path) -> SavedModel:
    """Return what a run saved of its model.

    Raises:
        DataError: the run is not finished, is one of pretraining, or its model.json is damaged.
    """
    path = run / MODEL
    if not path.exists():
        raise DataError(saved.unfinished(run, MODEL))
    record = saved.json_of(path)
    if "objective" in record and "task" not in record:
        raise DataError(
            f"{run} is a pretraining run: it has a backbone and no task to predict. "
            f"Fine-tune it first: pretune finetune DATA backbone={shell_word(f'run:{run}')}"
        )
    targets, weights = _entry(record, "targets", dict, path), _entry(record, "weights", str, path)
    with saved.reading(path):
        task: Task = config.component("tasks", _entry(record, "task", dict, path), "task")
        space = task.space.from_json(targets)
        model = SavedModel(
            model=_model(record, path),
            task=task,
            space=space,
            schema=_schema(run, record, space),
            head=config.component("heads", _entry(record, "head", dict, path), "head"),
            pooling=_entry(record, "pooling", str, path),
            width=_entry(record, "width", int, path) if "width" in record else None,
            weights=saved.inside(run, weights, path),
            precision=_precision(record, "precision", path),
            forward=_precision(record, "forward", path),
            frozen=_entry(record, "frozen", int, path),
        )
        if model.task.outputs(model.space) < 1:
            raise ValueError("it names no classes")
    return model


def with_settings(task: Task, given: Mapping[str, Any]) -> Task:
    """Return a run's task with other values of the settings that predictions are made with.

    Raises:
        SettingError: a setting belongs to training, or a value cannot be.
    """
    name, known = registry.name_of(task), task.predict_settings if isinstance(task, WritingTask) else ()
    if given.get("name", name) != name:
        raise SettingError(f"task={given['name']}: the run is one of task={name}.")
    wrong = next((key for key in given if key not in ("name", *known)), None)
    if wrong is not None:
        here = f"predict reads {', '.join(f'task.{key}' for key in known)}" if known else f"task={name} has no settings for predict"
        raise SettingError(f"task.{wrong} is fixed when a run is trained; {here}.")
    return config.component("tasks", config.to_tree(task) | dict(given), "task")


def _model(record: dict[str, Any], path: Path) -> str:
    """Return the model of a run; runs made before there was a choice have the network."""
    if "model" not in record:
        return MODELS[0]
    name = _entry(record, "model", str, path)
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {name!r}")
    return name


def _schema(run: Path, record: dict[str, Any], space: Space) -> Schema:
    """Return the columns of the training data; of a run that saved no schema, what its audit lists."""
    if "schema" in record:
        return Schema.from_json(record["schema"], space.classes)
    try:
        columns = saved.field(saved.json_of(run / "audit.json"), "columns", dict, run / "audit.json")
    except DataError:
        columns = {}
    return Schema.from_columns({role: str(names) for role, names in columns.items() if names}, space.classes)


def _precision(record: dict[str, Any], key: str, path: Path) -> Precision:
    tree = _entry(record, key, dict, path)
    _entry(tree, "bfloat16", bool, path)
    return Precision(**tree)


def _entry(record: dict[str, Any], key: str, kind: type, path: Path) -> Any:
    return saved.field(record, key, kind, path)
