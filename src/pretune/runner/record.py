"""From trained weights to the run folder: weights first, then figures, then what they stand on."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from safetensors.torch import save

from pretune import backbones, config, registry
from pretune.auditing.ledger import ledger_lines
from pretune.evaluation import diagnosis
from pretune.evaluation.advice import Context
from pretune.labels import Outputs
from pretune.models import Model
from pretune.models.model import HEAD
from pretune.runner import baselines, budget, fallback, own_baseline, score, selection, solving, writing
from pretune.runner.fallback import Final, Positions, Raw
from pretune.runner.prepare import Prepared
from pretune.runner.selection import ModelName, Selecting
from pretune.runner.state import FineTuningState
from pretune.runner.writing import WrittenAnswers
from pretune.tasks import WritingTask
from pretune.training.plan import Precision
from pretune.training.run_dir import write_atomic
from pretune.unread import given


def record(state: FineTuningState) -> dict[str, Any]:
    """Save weights, evaluate, choose the run's model, and write metrics.json and predictions.csv; return the metrics."""
    run, clock = state.run, state.run.deadline.clock
    if run.device.first:
        save_weights(state)
    run.timing["saved_s"] = began = clock.seconds
    run.reporter.progress("evaluating", 0, 0)
    measured = budget.measured(state)
    raw = {split: _outputs(state, positions) for split, positions in measured.items()}
    tune(state, raw, measured)
    run.timing["evaluation_s"] = clock.seconds - began
    selecting = _selecting(state, raw, measured)
    if not run.device.first:
        return {}
    run.reporter.progress("computing baselines and confidence intervals", 0, 0)
    final = fallback.settle(state, raw, measured, selecting)
    state.own = state.own or baselines.fit_own(state.data, state.recipe.training.seed)
    chosen = own_baseline.selecting(state)
    written = writing.write(state, measured[state.data.score])
    final = own_baseline.settle(state, _with_texts(final, state, written), measured, chosen)
    if final.selection.model != "network":
        save_model(state, final.selection.model)
        state.data.space = final.space
    metrics = assemble(state, final, measured) | ({"written": written.figures} if written.figures else {})
    write_predictions(state, final, measured, written)
    return run.folder.write_json("metrics.json", metrics)


def _with_texts(final: Final, state: FineTuningState, written: WrittenAnswers) -> Final:
    """Return the network's figures with those of the texts that it wrote; where the leading metric is not one of texts, their numbers."""
    task, split = state.data.task, state.data.score
    if not isinstance(task, WritingTask):
        return final
    figures, more = final.figures[split], {name: value for name, value in written.figures.items() if name not in ("split", "seconds")}
    if not task.scores_texts:
        more = {name: value for name, value in more.items() if name == "interval" or isinstance(value, float)}
    interval = figures.get("interval", {}) | more.pop("interval", {})
    return replace(final, figures=final.figures | {split: figures | more | {"interval": interval}})


def save_weights(state: FineTuningState) -> None:
    """Write backbone/, the head with what was trained, and model.json."""
    folder = state.run.folder.path
    backbones.save(state.backbone, folder / "backbone")
    head = {k: v.detach().cpu().contiguous() for k, v in state.model.state_dict().items() if k.startswith(f"stages.{HEAD}.")}
    write_atomic(folder / _weights(state.data), save(head))
    save_model(state)


def _weights(data: Prepared) -> str:
    return f"weights/{'best' if 'select' in data.splits else 'last'}.safetensors"


def save_model(state: FineTuningState, model: ModelName = "network") -> None:
    """Write model.json: the target space, the columns that were read, how outputs are computed, and by which model."""
    data = state.data
    state.run.folder.write_json(
        "model.json",
        {
            "model": model,
            "task": config.to_tree(data.task),
            "targets": data.space.to_json(),
            "schema": data.table.schema.to_json(),
            "head": config.to_tree(state.model.head.sized(data.task.head_for(state.recipe.head, state.backbone, data.space)[0])),
            "pooling": state.model.pooling,
            "width": state.model.head.mean.numel(),
            "weights": _weights(data),
            "precision": asdict(state.precision),
            "forward": asdict(state.features.chosen or Precision(reason="no features were cached")),
            "frozen": state.learner.start,
        },
    )


def _outputs(state: FineTuningState, positions: np.ndarray) -> Outputs:
    return score.outputs(state.learner, state.view(positions), state.run.device, state.precision, score.at_once(state.data.task))


def measure_now(state: FineTuningState, positions: np.ndarray) -> dict[str, float]:
    """Return the figures of some examples under the present weights, between two epochs."""
    data = state.data
    figures = score.measure(_outputs(state, positions), data.labels_at(positions), data.task, data.space)
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def tune(state: FineTuningState, raw: Raw, measured: Positions) -> None:
    """Choose what the task chooses after training, on a split that is not the score's, and save it; every rank takes part."""
    data, task, reporter = state.data, state.data.task, state.run.reporter
    if not task.tunes:
        return
    found = _for_tuning(state, raw, measured)
    if found is None:
        reporter.say(
            f"{task.untuned}: {data.score} is the score and chooses nothing. "
            "with patience=… a split of train chooses them; so does val where there is a test split"
        )
        return
    positions, out, where = found
    encoded = data.labels_at(positions)
    data.space, message = task.tuned(task.decode(out, data.space), task.truth(encoded, data.space), data.space)
    reporter.say(f"{message}; chosen on {where}")
    if state.run.device.first:
        save_model(state)


def _for_tuning(state: FineTuningState, raw: Raw, measured: Positions) -> tuple[np.ndarray, Outputs, str] | None:
    """Return examples that are not the score's, the network's outputs for them, and what they are; None where there are none."""
    split = state.data.selects
    if split is not None:
        positions = measured.get(split, state.data.splits[split])
        return positions, raw[split] if split in raw else _outputs(state, positions), f"the {len(positions)} examples of {split}"
    found = state.run.device.decide(lambda: solving.cross_validated(state))
    return None if found is None else (*found, f"{len(found[0]):,} training examples, each held out once (cross-validation)")


def _selecting(state: FineTuningState, raw: Raw, measured: Positions) -> Selecting | None:
    """Return examples of a split that selects with the network's outputs, by which models can be compared; every rank takes part."""
    split = state.data.selects
    if split is None or state.recipe.predictor is not None or not baselines.possible(state.data):
        return None
    if split in raw:
        return measured[split], raw[split]
    positions = state.data.splits[split]
    if len(positions) > selection.EXAMPLES:
        positions = np.sort(np.random.default_rng(state.recipe.training.seed).choice(positions, selection.EXAMPLES, replace=False))
    return positions, _outputs(state, positions)


def assemble(state: FineTuningState, final: Final, measured: Positions) -> dict[str, Any]:
    """Return metrics.json of the run's model, measured on some positions of each split."""
    run, data, task, split = state.run, state.data, state.data.task, state.data.score
    history = run.folder.events()
    run.timing["total_s"] = run.deadline.clock.seconds
    metrics = {
        "task": registry.name_of(task),
        "primary": {
            "name": task.primary,
            "value": final.figures[split][task.primary],
            "split": split,
            "higher_is_better": task.higher_is_better,
        },
        "model": final.selection.model,
        **final.figures,
        "floors": final.floors,
        "selection": final.selection.to_json(),
        **final.other,
        "classes": list(data.space.classes),
        "counts": data.counts,
        "measured": {name: len(positions) for name, positions in measured.items()},
        "timing": run.timing,
        "peak_rss_mb": peak_rss_mb(),
        "backbone": state.backbone.builder.id,
        "strategy": registry.name_of(state.strategy),
        "params": _parameters(state.model, history),
        "precision": asdict(state.precision),
        **({"features_precision": asdict(state.features.chosen)} if state.features.chosen else {}),
    }
    listed = set(ledger_lines(data.ledger))
    metrics["notes"] = [note for note in run.reporter.notes if note not in listed]  # ledger.csv has the others
    metrics["diagnosis"] = diagnosis.diagnose(history, metrics, final.floors, data.counts, _context(state, metrics, history, final))
    for line in metrics["diagnosis"]:
        run.reporter.say(line)
    return metrics


def _parameters(model: Model, history: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many parameters the network has, and how many learned in the last phase of steps; merged adapters count."""
    learned = [event["trainable"] for event in history if event["event"] == "started"]
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    return {"total": total, "trainable": learned[-1] if learned else sum(p.numel() for p in parameters if p.requires_grad)}


def _context(state: FineTuningState, metrics: dict[str, Any], history: list[dict[str, Any]], final: Final) -> Context:
    """Return what the diagnosis needs to know of the run, so that it advises nothing that was done."""
    recipe, strategy, modality = state.recipe, state.strategy, registry.name_of(state.data.modality)
    return Context(
        strategy=metrics["strategy"],
        from_scratch=strategy.from_scratch or state.backbone.is_untrained,
        classes="class_weights" not in state.data.task.unread,
        modality=modality,
        given=frozenset(given(recipe)),
        augment="named" if recipe.augmentations else recipe.augment or state.defaults.augment,
        probe_was_better=diagnosis.probe_was_better(history, metrics["primary"]["name"]),
        solved=state.solved,
        unknown_tokens=next((finding.message for finding in state.data.findings if finding.kind == "unknown_tokens"), ""),
        model=final.selection.model,
        compared=final.selection.figures,
        chosen=recipe.predictor is None,
        baseline_saved=final.is_saved,
        seconds=final.seconds,
    )


def peak_rss_mb() -> float:
    """Return this process's peak resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def write_predictions(state: FineTuningState, final: Final, measured: Positions, written: WrittenAnswers) -> None:
    """Write one row per held-out example that was measured, in the data's order, with what was written for it."""
    data, task = state.data, state.data.task
    rows: list[dict[str, Any]] = []
    texts = final.texts or written.texts
    for split, out in final.raw.items():
        if split == "train":
            continue
        examples = [data.rows[i] for i in measured[split]]
        of_network = not final.texts
        described = (
            task.describe(task.decode(out, data.space), data.space, examples, data.modality) if of_network else [{} for _ in examples]
        )
        if isinstance(task, WritingTask):
            described = [
                one | (task.answer(row, texts[position]) if position in texts else {"written": "no"} if texts else {})
                if position in texts or not task.scores_texts
                else {}
                for position, row, one in zip(measured[split], examples, described, strict=True)
            ]
        rows += [prediction_row(row.id, split, task.shown(row.target), one) for row, one in zip(examples, described, strict=True) if one]
    state.run.folder.write_csv("predictions.csv", list(dict.fromkeys(key for row in rows for key in row)), rows)


def prediction_row(item: str, split: str, target: object, described: dict[str, Any]) -> dict[str, Any]:
    """Return a flat row of what a task described; what is no single value is left to JSON."""
    plain = {key: value for key, value in described.items() if value is None or isinstance(value, str | int | float)}
    probabilities = {f"p_{name}": round(p, 6) for name, p in described.get("probabilities", {}).items()}
    return {"id": item, "split": split, "target": target, **plain, **probabilities}
