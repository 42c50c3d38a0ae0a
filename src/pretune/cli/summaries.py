"""What a run folder says of its run, read as data that somebody else may have made: for `runs`, `runs compare` and `inspect`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretune import config, registry, saved
from pretune.declared import declared
from pretune.errors import DataError
from pretune.evaluation.wording import show, span
from pretune.printable import path_word, shell_word
from pretune.schema import fields_of, is_flat, member_of


@dataclass(kw_only=True)
class Summary:
    """A run, finished or not."""

    run: Path
    recipe: dict[str, Any]
    """recipe.json."""
    metrics: dict[str, Any]
    """metrics.json; empty where the run is not finished."""
    finished: bool
    """Whether there are metrics."""
    when: float
    """Seconds since 1970 at which it was finished, or started."""
    metric: str = ""
    value: float | None = None
    """The score; None where there is none, or it is not a number."""
    split: str = ""
    higher_is_better: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    """Every setting as it is written."""

    @property
    def backbone(self) -> str:
        """The network."""
        return str(self.metrics.get("backbone") or self.settings.get("backbone", ""))

    @property
    def strategy(self) -> str:
        """The strategy; of pretraining, the objective."""
        name = self.metrics.get("strategy") or self.metrics.get("objective")
        return str(name or self.settings.get("strategy") or self.settings.get("objective", ""))

    @property
    def predicts_with_baseline(self) -> bool:
        """Whether the run's model is the classical baseline, not the network."""
        return self.metrics.get("model") == "baseline"

    @property
    def seconds(self) -> float | None:
        """How long the command took; None where that is not known."""
        total: Any = _table(self.metrics, "timing").get("total_s")
        return float(total) if is_number(total) else None

    @property
    def figures(self) -> dict[str, float]:
        """The metrics of the score's split."""
        return {name: value for name, value in _table(self.metrics, self.split).items() if is_number(value)}

    def shown(self, metric: str) -> str:
        """Return a metric of the score's split with its interval; '' where there is none."""
        if metric not in self.figures:
            return ""
        ends = self.interval(metric)
        return f"{figure(metric, self.figures[metric])}{f' ({span(metric, ends)})' if ends else ''}"

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the ends of a metric's 95 % confidence interval on the score's split; None where there is none."""
        ends = _table(_table(self.metrics, self.split), "interval").get(metric)
        both = isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))
        return (float(ends[0]), float(ends[1])) if both else None


def read_summary(run: Path) -> Summary:
    """Return what a run says of itself.

    Raises:
        DataError: it is no run, or a file of it is damaged.
    """
    path, recipe_path = run / "metrics.json", run / "recipe.json"
    if not recipe_path.exists():
        raise DataError(saved.unfinished(run, "recipe.json", "a run folder"))
    recipe = saved.json_of(recipe_path)
    finished = path.exists()
    metrics = saved.json_of(path) if finished else {}
    when = _changed(path if finished else recipe_path)
    out = Summary(run=run, recipe=recipe, metrics=metrics, finished=finished, when=when, settings=settings_of(recipe))
    if finished:
        primary = saved.field(metrics, "primary", dict, path)
        if primary.get("value") is not None:  # as NaN is written
            out.value = float(saved.field(primary, "value", float, path))
        out.metric, out.split = saved.field(primary, "name", str, path), saved.field(primary, "split", str, path)
        out.higher_is_better = primary.get("higher_is_better") is not False
        saved.field(saved.field(metrics, "timing", dict, path), "total_s", float, path)
    return out


def named(name: str) -> Path:
    """Return the folder of a run that may be named without runs/ in front."""
    path = Path(name)
    return Path("runs") / path if not (path / "recipe.json").exists() and (Path("runs") / path / "recipe.json").exists() else path


def settings_of(recipe: dict[str, Any]) -> dict[str, str]:
    """Return the settings of a recipe.json as they are written: {'epochs': '3', 'strategy': 'lora', 'strategy.rank': '4'}."""
    tree = _table(recipe, "recipe")
    out = _flat(tree, _class_of(tree))
    for key, value in _table(recipe, "resolved").items():
        name = value.get("name") if isinstance(value, dict) else value
        if out.get(key) == "auto" and isinstance(name, str):
            out[key] = name
    return out


def changed(recipe: dict[str, Any]) -> dict[str, str]:
    """Return the settings of a recipe.json that are not the defaults; where results go is left out."""
    tree = _table(recipe, "recipe")
    cls = _class_of(tree)
    values, defaults = _flat(tree, cls), _flat(config.to_tree(cls(data="")), cls) | _defaults(tree, cls)
    ignored = ("data", "out", "resume", "keep", "cache", "cache_size")
    return {key: value for key, value in values.items() if value != defaults.get(key) and key not in ignored}


def command_of(recipe: dict[str, Any]) -> str:
    """Return the command that repeats a run."""
    tree = _table(recipe, "recipe")
    verb, data = ("pretrain" if "objective" in tree else "finetune"), path_word(str(tree.get("data", "DATA")))
    return " ".join([f"pretune {verb} {data}", *(shell_word(f"{key}={value}") for key, value in changed(recipe).items())])


def figure(name: str, value: float | None) -> str:
    """Return a metric's value as reports and diagnoses write it."""
    return "not a number" if value is None or not math.isfinite(value) else show(name, value)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number that a float can hold; whole numbers have no limit in JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _class_of(tree: dict[str, Any]) -> type:
    return declared("pretune.pretraining:Pretraining") if "objective" in tree else declared("pretune.recipe:Recipe")


def _flat(tree: dict[str, Any], cls: type) -> dict[str, str]:
    """Return settings as words: keys of sections that stand for themselves without the section's name."""
    flat = {name for name, annotation in fields_of(cls).items() if is_flat(annotation)}
    out: dict[str, str] = {}
    for key, value in tree.items():
        if key in flat and isinstance(value, dict):
            out |= {name: _text(below) for name, below in value.items()}
        elif isinstance(value, dict):
            out[key] = str(value.get("name", ""))
            out |= {f"{key}.{name}": _text(below) for name, below in value.items() if name != "name"}
        elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
            out[key] = ",".join(str(one.get("name")) for one in value)
            out |= {f"{key}.{one.get('name')}.{name}": _text(below) for one in value for name, below in one.items() if name != "name"}
        else:
            out[key] = _text(value)
    return out


def _defaults(tree: dict[str, Any], cls: type) -> dict[str, str]:
    """Return the defaults of the components that a recipe names, as they are written."""
    out: dict[str, str] = {}
    for key, annotation in fields_of(cls).items():
        member, value = member_of(annotation), tree.get(key)
        for one in value if isinstance(value, list) else [value]:
            name = one.get("name") if isinstance(one, dict) else None
            if member is None or name not in registry.names(member.family):
                continue
            prefix = f"{key}.{name}" if isinstance(value, list) else key
            plain = config.to_tree(member.load(member.family, name)())
            out |= {f"{prefix}.{setting}": _text(below) for setting, below in plain.items() if setting != "name"}
    return out


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return "auto" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return an entry that should be a table; an empty one where it is not."""
    found = tree.get(key)
    return found if isinstance(found, dict) else {}


def _changed(path: Path) -> float:
    """Return when a file was last changed; one that is gone, or leads nowhere, is the oldest."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
