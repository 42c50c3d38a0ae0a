"""What the report of a pretraining run says: loss beside floors, curves, what the model makes, what it gained."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from pretune.deploy import _curves, _examples, _repeating, _sections
from pretune.deploy.run_files import Files
from pretune.evaluation.wording import split_name
from pretune.printable import path_word, printable, shell_word

_UNITS = {"nats_per_character": "nats per character", "bits_per_sample": "bits per sample"}
"""Held-out figures that say more than the loss, where a run has them."""
_FIGURES = {
    "unigram_per_character": "nats_per_character",
    "trigram_per_character": "nats_per_character",
    "first_order_bits": "bits_per_sample",
    "mean_error": "error",
    "majority": "accuracy",
}
"""The held-out figure that a floor is the floor of, where that is not the loss."""


def build(files: Files) -> dict[str, Any]:
    """Return all sections by name."""
    metrics = files.metrics
    leading = next((name for name in _UNITS if name in metrics["held"]), "loss")
    run, backbone = path_word(str(files.run)), shell_word(f"backbone=run:{files.run}")
    return {
        "name": files.run.resolve().name,
        "objective": metrics["objective"],
        "backbone": metrics["backbone"],
        "value": f"{metrics['held'][leading]:.4g}",
        "words": _UNITS.get(leading, "loss"),
        "bars": _bars(metrics, leading),
        "verdict": _verdict(metrics, leading),
        "tiles": [
            {"words": name.replace("_", " ") + _beside(metrics["floors"], name), "value": f"{value:.4g}"}
            for name, value in {**metrics["held"], **metrics.get("throughput", {})}.items()
            if name != leading
        ],
        "diagnosis": metrics.get("diagnosis", []),
        "counts": [(split_name(split), ", ".join(f"{n:,} {what}" for what, n in c.items())) for split, c in metrics["counts"].items()],
        "done": _sections.done(files),
        "curves": _curves.build(files.events, "loss"),
        "gain": _gain(metrics.get("gain")),
        "galleries": _examples.galleries(files.run / "pictures"),
        "texts": _filled_texts(files),
        "filled": _filled(files),
        "timing": _sections.timing(metrics, files.events),
        "use": {"finetune": f"pretune finetune DATA {backbone}", "generate": f"pretune generate {run}{_prompt(files)}"},
        "again": _repeating.again(files),
        "environment": _repeating.environment(files.environment),
    }


def _bars(metrics: dict[str, Any], leading: str) -> list[dict[str, Any]]:
    """Return the held-out figure beside the floors of its unit, shorter being better."""
    floors = _floors_of(metrics["floors"], leading)
    rows = [("this model", metrics["held"][leading], "model"), *((f"baseline: {k.replace('_', ' ')}", v, "") for k, v in floors.items())]
    top = max(value for _, value, _ in rows) or 1.0
    return [{"label": label, "value": f"{value:.4g}", "width": round(100 * value / top, 1), "kind": kind} for label, value, kind in rows]


def _verdict(metrics: dict[str, Any], leading: str) -> dict[str, str] | None:
    """Return whether the figure is better than its baselines, None where it has none; what the diagnosis says is not green."""
    floors, value = _floors_of(metrics["floors"], leading), metrics["held"][leading]
    if not floors:
        return None
    name = min(floors, key=lambda key: floors[key])
    figures = f"{value:.4g} against {floors[name]:.4g} of {name.replace('_', ' ')}"
    if value >= floors[name]:
        return {"outcome": "worse", "sentence": f"It is no better than its baselines: {figures}."}
    if metrics.get("diagnosis"):
        return {"outcome": "uncertain", "sentence": f"It is better than its baselines ({figures}), but read the diagnosis first."}
    return {"outcome": "better", "sentence": f"It is better than its baselines: {figures}."}


def _floors_of(floors: dict[str, float], figure: str) -> dict[str, float]:
    return {name: value for name, value in floors.items() if _FIGURES.get(name, "loss") == figure}


def _beside(floors: dict[str, float], figure: str) -> str:
    """Return the floors of a figure, to stand behind its name."""
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in _floors_of(floors, figure).items())
    return f" (baseline: {shown})" if shown else ""


def _gain(gain: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the table of runs with and without the pretraining, and its sentences."""
    if gain is None:
        return None
    rows = [
        {
            "labels": f"{row['labels']:,}",
            "kind": row["kind"],
            "mean": f"{row['mean']:.4f}",
            "around": ("" if "baseline" in row["kind"] else "one seed") if row["half_width"] is None else f"± {row['half_width']:.4f}",
            "values": ", ".join(f"{value:.4f}" for value in row["values"]),
        }
        for row in gain["table"]
    ]
    return {"metric": gain["table"][0]["metric"].replace("_", " "), "rows": rows, "messages": gain["messages"]}


def _filled_texts(files: Files) -> list[Markup]:
    """Return the written texts: lines stay lines, all else that cannot be seen is written out."""
    return [escape(printable(str(text), keep="\n\t")) for text in _examples.listed(files.run / "samples.json")]


def _filled(files: Files) -> list[dict[str, str]]:
    """Return held-out texts with gaps, filled, and as they are."""
    return _examples.listed(files.run / "filled.json")


def _prompt(files: Files) -> str:
    """Return what a command that makes more must hold besides the run."""
    return " 'a text with <mask> in it'" if (files.run / "filled.json").exists() else ""
