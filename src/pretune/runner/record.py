"""From trained weights to the run folder: weights first, then figures, then what they stand on."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from pretune import backbones, config, registry
from pretune.evaluation import diagnosis
from pretune.evaluation.advice import Context
from pretune.labels import Outputs
from pretune.models.model import HEAD
from pretune.runner import baselines, fallback, score, selection, solving
from pretune.runner.fallback import Final
from pretune.runner.inputs import is_fresh
from pretune.runner.outcome import Outcome
from pretune.runner.phases import measured, view_of
from pretune.runner.prepare import Prepared, ledger_lines
from pretune.runner.selection import ModelName, Selecting
from pretune.strategies import suggested
from pretune.training.plan import Precision
from pretune.training.run_dir import write_atomic
from pretune.unread import given


def record(done: Outcome) -> dict[str, Any]:
    """Save weights, evaluate, choose the run's model, and write metrics.json and predictions.csv; return the metrics."""
    if done.device.first:
        save_weights(done)
    done.timing |= {"saved_s": time.monotonic() - done.started, **done.work.seconds}
    clock = time.perf_counter()
    done.reporter.progress("evaluating", 0, 0)
    parts = measured(done.work)
    raw = {part: _outputs(done, positions) for part, positions in parts.items()}
    tune(done, raw, parts)
    done.timing["evaluation_s"] = time.perf_counter() - clock
    selecting = _selecting(done, raw, parts)
    if not done.device.first:
        return {}
    done.reporter.progress("computing baselines and confidence intervals", 0, 0)
    final = fallback.settle(done, raw, parts, selecting)
    if final.selection.model != "network":
        save_model(done, final.selection.model)
        done.data.space = final.space
    metrics = assemble(done, final, parts)
    write_predictions(done, final.raw, parts)
    done.folder.write_json("metrics.json", metrics)
    return metrics


def save_weights(done: Outcome) -> None:
    """Write backbone/, the head with what was trained, and model.json."""
    folder = done.folder.path
    backbones.save(done.backbone, folder / "backbone")
    head = {k: v.detach().cpu().contiguous() for k, v in done.work.model.state_dict().items() if k.startswith(f"stages.{HEAD}.")}
    write_atomic(folder / _weights(done.data), save(head))
    save_model(done)


def _weights(data: Prepared) -> str:
    return f"weights/{'best' if 'select' in data.parts else 'last'}.safetensors"


def save_model(done: Outcome, model: ModelName = "network") -> None:
    """Write model.json: the target space, the columns that were read, how outputs are computed, and by which model."""
    done.folder.write_json(
        "model.json",
        {
            "model": model,
            "task": config.to_tree(done.data.task),
            "targets": done.data.space.to_json(),
            "schema": done.data.table.schema.to_json(),
            "head": config.to_tree(done.data.task.head(done.recipe.head)),
            "pooling": done.work.model.pooling,
            "width": done.work.model.head.mean.numel(),
            "weights": _weights(done.data),
            "precision": asdict(done.work.chosen),
            "forward": asdict(done.work.needs.chosen or Precision(reason="no features were cached")),
            "frozen": done.work.learner.start,
        },
    )


def tune(done: Outcome, raw: dict[str, Outputs], parts: dict[str, np.ndarray]) -> None:
    """Choose what the task chooses after training, on a part that is not the score's, and save it; every rank takes part."""
    data, task = done.data, done.data.task
    if not task.tunes:
        return
    found = _for_tuning(done, raw, parts)
    if found is None:
        done.reporter.say(
            f"{task.untuned}: {data.score} is the score and chooses nothing. "
            "patience=… sets a part of train aside that chooses them; so does val where there is a test part"
        )
        return
    positions, out, where = found
    encoded = data.encoded.take(torch.from_numpy(positions))
    data.space, said = task.tuned(task.decode(out, data.space), task.truth(encoded, data.space), data.space)
    done.reporter.say(f"{said}; chosen on {where}")
    if done.device.first:
        save_model(done)


def _for_tuning(done: Outcome, raw: dict[str, Outputs], parts: dict[str, np.ndarray]) -> tuple[np.ndarray, Outputs, str] | None:
    """Return examples that are not the score's, the network's outputs for them, and what they are; None where there are none."""
    part = done.data.selects
    if part is not None:
        positions = parts.get(part, done.data.parts[part])
        return positions, raw[part] if part in raw else _outputs(done, positions), f"the {len(positions)} items of {part}"
    found = done.device.decide(lambda: solving.cross_validated(done.work))
    return None if found is None else (*found, f"{len(found[0]):,} training examples, each held out once (cross-validation)")


def _outputs(done: Outcome, positions: np.ndarray) -> Outputs:
    return score.outputs(done.work.learner, view_of(done.work, positions), done.device, done.work.chosen)


def _selecting(done: Outcome, raw: dict[str, Outputs], parts: dict[str, np.ndarray]) -> Selecting | None:
    """Return examples of a split that selects with the network's outputs, by which models can be compared; every rank takes part."""
    part = done.data.selects
    if part is None or done.recipe.predictor is not None or not baselines.possible(done.data):
        return None
    if part in raw:
        return parts[part], raw[part]
    positions = done.data.parts[part]
    if len(positions) > selection.EXAMPLES:
        positions = np.sort(np.random.default_rng(done.recipe.training.seed).choice(positions, selection.EXAMPLES, replace=False))
    return positions, _outputs(done, positions)


def assemble(done: Outcome, final: Final, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return metrics.json of the run's model, measured on some positions, by part."""
    data, task, part = done.data, done.data.task, done.data.score
    history = done.folder.events()
    done.timing["total_s"] = time.monotonic() - done.started
    parameters = list(done.work.model.parameters())
    metrics = {
        "task": registry.name_of(task),
        "primary": {
            "name": task.primary,
            "value": final.figures[part][task.primary],
            "split": part,
            "higher_is_better": task.higher_is_better,
        },
        "model": final.selection.model,
        **final.figures,
        "floors": final.floors,
        "selection": final.selection.to_json(),
        **final.other,
        "classes": list(data.space.classes),
        "counts": data.counts,
        "measured": {part: len(positions) for part, positions in parts.items()},
        "timing": done.timing,
        "peak_rss_mb": peak_rss_mb(),
        "backbone": done.backbone.builder.id,
        "strategy": registry.name_of(done.strategy),
        "params": {"total": sum(p.numel() for p in parameters), "trainable": sum(p.numel() for p in parameters if p.requires_grad)},
        "precision": asdict(done.work.chosen),
        **({"features_precision": asdict(done.work.needs.chosen)} if done.work.needs.chosen else {}),
    }
    metrics["notes"] = notes(done)
    context = _context(done, metrics, history, final)
    metrics["diagnosis"] = diagnosis.diagnose(history, metrics, final.floors, data.counts, context)
    for line in metrics["diagnosis"]:
        done.reporter.say(line)
    return metrics


def _context(done: Outcome, metrics: dict[str, Any], history: list[dict[str, Any]], final: Final) -> Context:
    """Return what the diagnosis needs to know of the run, so that it advises nothing that was done."""
    strategy, modality, primary = done.strategy, registry.name_of(done.data.modality), metrics["primary"]
    named = bool(done.recipe.augmentations)
    others = done.data.task.suggested(metrics["strategy"], done.backbone)
    return Context(
        strategy=metrics["strategy"],
        from_scratch=strategy.from_scratch or is_fresh(done.backbone),
        classes="class_weights" not in done.data.task.unread,
        modality=modality,
        given=frozenset(given(done.recipe)),
        augment="named" if named else done.recipe.augment or suggested(strategy, modality, others).augment,
        probe_was_better=diagnosis.probe_was_better(history, primary["name"], primary["value"], primary["split"]),
        solved=done.work.solved,
        unknown_tokens=next((finding.message for finding in done.data.findings if finding.kind == "unknown_tokens"), ""),
        model=final.selection.model,
        compared=final.selection.figures,
        chosen=done.recipe.predictor is None,
        baseline_saved=final.is_saved,
        seconds=final.seconds,
    )


def notes(done: Outcome) -> list[str]:
    """Return what the run said, in order: choices with their reasons, what was inferred, warnings; but for what ledger.csv holds."""
    listed = set(ledger_lines(done.data.ledger))
    return [note for note in done.reporter.notes if note not in listed]


def peak_rss_mb() -> float:
    """Return this process's peak resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def write_predictions(done: Outcome, raw: dict[str, Outputs], parts: dict[str, np.ndarray]) -> None:
    """Write one row per held-out example that was measured, in the data's order."""
    data, task = done.data, done.data.task
    rows: list[dict[str, Any]] = []
    for part, out in raw.items():
        if part == "train":
            continue
        examples = [data.rows[i] for i in parts[part]]
        described = task.describe(task.decode(out, data.space), data.space, examples, data.modality)
        rows += [prediction_row(row.id, part, task.shown(row.target), told) for row, told in zip(examples, described, strict=True)]
    done.folder.write_csv("predictions.csv", list(dict.fromkeys(key for row in rows for key in row)), rows)


def prediction_row(item: str, part: str, target: object, told: dict[str, Any]) -> dict[str, Any]:
    """Return a flat row of what a task described; what is no single value is left to JSON."""
    plain = {key: value for key, value in told.items() if value is None or isinstance(value, str | int | float)}
    probabilities = {f"p_{name}": round(p, 6) for name, p in told.get("probabilities", {}).items()}
    return {"id": item, "split": part, "target": target, **plain, **probabilities}
