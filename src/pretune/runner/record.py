"""From trained weights to the run folder: weights first, then figures, then what they stand on."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import save

from pretune import backbones, config, registry
from pretune.backbones import Backbone
from pretune.evaluation import diagnosis
from pretune.models.model import HEAD
from pretune.recipe import Recipe
from pretune.runner import score
from pretune.runner.phases import Work, view_of
from pretune.runner.prepare import Prepared
from pretune.runner.reporter import Reporter
from pretune.strategies import Strategy
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.run_dir import RunDir, write_atomic

TRAIN_ITEMS = 2_000
"""Training items measured at most, for the gap to the held-out part."""


@dataclass(kw_only=True)
class Outcome:
    """A trained model and all it came from."""

    recipe: Recipe
    folder: RunDir
    data: Prepared
    backbone: Backbone
    strategy: Strategy
    work: Work
    device: Device
    timing: dict[str, float]
    started: float
    floors: dict[str, Any] | None
    reporter: Reporter


def record(done: Outcome) -> dict[str, Any]:
    """Save weights, evaluate, and write metrics.json and predictions.csv; return the metrics."""
    if done.device.first:
        save_weights(done)
    done.timing |= {"saved_s": time.monotonic() - done.started, **done.work.seconds}
    clock = time.perf_counter()
    raw = {part: score.outputs(done.work.learner, view_of(done.work, part), done.device, done.work.chosen) for part in _measured(done.data)}
    done.timing["evaluation_s"] = time.perf_counter() - clock
    if not done.device.first:
        return {}
    metrics = assemble(done, raw)
    write_predictions(done, raw)
    done.folder.write_json("metrics.json", metrics)
    done.work.around.checkpoints.clear()
    return metrics


def save_weights(done: Outcome) -> None:
    """Write backbone/, the head with what was trained, the target space, and how outputs are computed."""
    folder = done.folder.path
    backbones.save(done.backbone, folder / "backbone")
    model = done.work.model
    head = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if k.startswith(f"stages.{HEAD}.")}
    name = "best" if "select" in done.data.parts else "last"
    write_atomic(folder / "weights" / f"{name}.safetensors", save(head))
    done.folder.write_json(
        "model.json",
        {
            "task": config.to_tree(done.data.task),
            "targets": asdict(done.data.targets),
            "head": config.to_tree(done.recipe.head),
            "pooling": model.pooling,
            "weights": f"weights/{name}.safetensors",
            "precision": asdict(done.work.chosen),
            "forward": asdict(done.work.needs.chosen or Precision(reason="no features were cached")),
            "frozen": done.work.learner.start,
        },
    )


def _measured(data: Prepared) -> list[str]:
    return [part for part in ("train", "val", "test") if part in data.parts]


def assemble(done: Outcome, raw: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return metrics.json."""
    data, task = done.data, done.data.task
    figures = {part: score.measure(out, _encoded(data, part), task, data.targets) for part, out in raw.items()}
    part = data.score
    clock = time.perf_counter()
    floors = done.floors or score.compute_floors(data, part, done.recipe.training.seed)
    done.timing["floors_s"] = time.perf_counter() - clock
    figures[part]["interval"] = score.interval(raw[part], _encoded(data, part), data, part)
    history = done.folder.events()
    done.timing["total_s"] = time.monotonic() - done.started
    parameters = list(done.work.model.parameters())
    metrics = {
        "task": registry.name_of(task),
        "primary": {"name": task.primary, "value": figures[part][task.primary], "split": part, "higher_is_better": task.higher_is_better},
        **figures,
        "floors": floors,
        "classes": list(data.targets.classes),
        "counts": data.counts,
        "timing": done.timing,
        "peak_rss_mb": peak_rss_mb(),
        "backbone": done.backbone.builder.id,
        "strategy": registry.name_of(done.strategy),
        "params": {"total": sum(p.numel() for p in parameters), "trainable": sum(p.numel() for p in parameters if p.requires_grad)},
        "precision": asdict(done.work.chosen),
        "features_precision": asdict(done.work.needs.chosen or Precision(reason="no features were cached")),
    }
    metrics["diagnosis"] = diagnosis.diagnose(history, metrics, floors, data.counts)
    for line in metrics["diagnosis"]:
        done.reporter.say(line)
    return metrics


def peak_rss_mb() -> float:
    """Return this process's peak resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def _encoded(data: Prepared, part: str) -> torch.Tensor:
    return data.encoded[torch.from_numpy(data.parts[part])]


def write_predictions(done: Outcome, raw: dict[str, torch.Tensor]) -> None:
    """Write one row per held-out item, in the data's order."""
    data = done.data
    rows: list[dict[str, Any]] = []
    for part, out in raw.items():
        if part == "train":
            continue
        described = data.task.describe(data.task.decode(out, data.targets), data.targets)
        rows += [
            prediction_row(data.rows[i].id, part, data.rows[i].target, told) for i, told in zip(data.parts[part], described, strict=True)
        ]
    columns = ["id", "split", "target", "prediction", "confidence", *(f"p_{name}" for name in data.targets.classes)]
    done.folder.write_csv("predictions.csv", columns if data.targets.classes else columns[:4], rows)


def prediction_row(item: str, part: str, target: object, told: dict[str, Any]) -> dict[str, Any]:
    """Return a flat row of what a task described."""
    shown = "|".join(target) if isinstance(target, tuple) else target
    probabilities = {f"p_{name}": round(p, 6) for name, p in told.get("probabilities", {}).items()}
    return {"id": item, "split": part, "target": shown, **{k: v for k, v in told.items() if k != "probabilities"}, **probabilities}
