"""What a pretraining run leaves behind: the backbone, what was learned beside it, and its figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from pretune import backbones, config, registry, saved
from pretune.corpus.tokens import BlockView
from pretune.errors import RequestError
from pretune.objectives import Objective, PretextLearner
from pretune.runner.pretraining_data import PretrainingData
from pretune.runner.pretraining_state import PretrainingState
from pretune.runner.record import peak_rss_mb
from pretune.training.plan import Precision
from pretune.training.run_dir import RunDir, write_atomic

MODEL = "model.json"
FLOOR = "floor_"
"""What a learner logs under names that begin so are floors on the validation set."""


def record(state: PretrainingState) -> dict[str, Any]:
    """Save the weights first, then measure, then write and return metrics.json; empty on all processes but the first."""
    run, learner, data, objective, time = state.run, state.learner, state.data, state.chosen.objective, state.recipe.training.time
    if run.device.first:
        save_learner(run.folder, objective, learner, data)
    run.timing["saved_s"] = run.deadline.clock.seconds
    run.reporter.progress("evaluating", 0, 0)
    validation = state.validation()
    figures = validation.measure(keep=None if time is None else state.seconds_afterwards)
    if validation.examples < len(validation.loader.view):
        run.reporter.warn(
            f"the held-out figures are those of {validation.examples:,} of {len(validation.loader.view):,} held-out examples: "
            f"time={time:g}s allowed no more"
        )
    if not run.device.first:
        return {}
    floors = settle_floors(data, figures)
    verdict = [*unknown_tokens(data), *learner.verdict(figures, floors)]
    for line in verdict:
        run.reporter.warn(line)
    run.timing["total_s"] = run.deadline.clock.seconds
    metrics = metrics_of(learner, data, figures, state.precision) | {
        "throughput": throughput(run.folder, data, state.batch_size),
        "objective": registry.name_of(objective),
        "timing": run.timing,
        "diagnosis": verdict,
        "notes": run.reporter.notes,
        "measured": {"held": validation.examples},
    }
    return run.folder.write_json("metrics.json", metrics)


def save_learner(folder: RunDir, objective: Objective, learner: PretextLearner, data: PretrainingData) -> None:
    """Write backbone/, what the objective learned beside it, and what is needed to build it again."""
    backbones.save(data.backbone, folder.path / "backbone")
    beside = {k: v.detach().cpu().contiguous() for k, v in learner.state_dict().items() if not k.startswith("backbone.")}
    write_atomic(folder.path / "weights" / "last.safetensors", save(beside))
    folder.write_json(
        MODEL,
        {"objective": config.to_tree(objective), "weights": "weights/last.safetensors", "classes": list(data.classes)},
    )


def objective_of(run: Path) -> Objective:
    """Return the objective of a finished pretraining run.

    Raises:
        RequestError: the folder holds no such run, or its model.json is damaged.
        SettingError: it learned from a network that is built by a module which is not trusted.
    """
    path = run / MODEL
    if not path.exists():
        raise RequestError(saved.unfinished(run, MODEL))
    model = saved.json_of(path)
    if "objective" not in model:
        raise RequestError(f"{run} is not a finished pretraining run. Known runs: pretune runs.")
    objective = saved.field(model, "objective", dict, path)
    backbones.require_trust(objective, path)  # a teacher is a network too
    with saved.reading(path):
        return config.component("objectives", objective, "objective")


UNKNOWN = 0.1
"""Share of unknown tokens from which a loss is first of all the tokenizer's."""


def unknown_tokens(data: PretrainingData) -> list[str]:
    """Return a sentence where the tokenizer does not know much of the held-out text."""
    if data.unknown <= UNKNOWN:
        return []
    return [
        f"{100 * data.unknown:.0f} % of the held-out tokens are unknown to the tokenizer: the loss is mostly that of predicting "
        "'unknown', and says little of the text. Use a network whose tokenizer knows this language, or train one: backbone=scratch:…"
    ]


def settle_floors(data: PretrainingData, figures: dict[str, float]) -> dict[str, float]:
    """Return the floors by name: those the learner measured move there from `figures`, and texts get theirs by the character."""
    floors = data.floors
    if data.per_character is not None:
        figures["nats_per_character"] = figures["loss"] * data.per_character
        for name in ("unigram", "trigram"):
            if name in floors:
                floors[f"{name}_per_character"] = floors[name] * data.per_character
    for name in [name for name in figures if name.startswith(FLOOR)]:
        floors[name.removeprefix(FLOOR)] = figures.pop(name)
    return floors


def metrics_of(learner: PretextLearner, data: PretrainingData, figures: dict[str, float], precision: Precision) -> dict[str, Any]:
    """Return what metrics.json holds of the model; `figures` are those of the validation set."""
    parameters = list(learner.parameters())
    trained: set[str] = set()
    for phase in learner.phases:
        learner.begin(phase)
        trained |= {name for name, p in learner.named_parameters() if p.requires_grad}
    return {
        "task": "pretraining",
        "primary": {"name": "loss", "value": figures["loss"], "split": "held", "higher_is_better": False},
        "held": figures,
        "floors": data.floors,
        "counts": data.counts,
        "peak_rss_mb": peak_rss_mb(),
        "backbone": data.backbone.builder.id,
        "params": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for name, p in learner.named_parameters() if name in trained),
        },
        "precision": asdict(precision),
        "classes": list(data.classes),
    }


def throughput(folder: RunDir, data: PretrainingData, batch_size: int) -> dict[str, float]:
    """Return examples, and of texts tokens, a second of training in each phase."""
    rates: dict[str, float] = {}
    stride = data.train.stride if isinstance(data.train, BlockView) else None
    for phase, last in {e["phase"]: e for e in folder.events() if e["event"] == "stepped"}.items():
        rate = last["step"] * batch_size / max(1e-9, last["seconds"])
        rates[f"{phase}_examples_per_s"] = rate
        if stride:
            rates[f"{phase}_tokens_per_s"] = rate * stride
    return rates
