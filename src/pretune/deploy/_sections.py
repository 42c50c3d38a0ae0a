"""What the report says, section by section, as plain values for its template; a section without data is None."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pretune.deploy import _charts, _curves, _examples, _repeating
from pretune.deploy._headline import headline, model_of, terms, tiles
from pretune.deploy.run_files import Files
from pretune.evaluation import calibration
from pretune.evaluation.history import by_phase
from pretune.evaluation.wording import show, words

Section = dict[str, Any] | None

_SPLITS = ("train", "select", "val", "test")
_LONG = 30
"""A table longer than this is folded; its worst rows are shown."""
_MATRIX = 40
"""Confusion matrices of more classes than this are drawn, not written."""
_DOUBTS = frozenset({"leak", "group_leak", "contradiction", "label_disagreement", "confound"})


def build(files: Files) -> dict[str, Any]:
    """Return all sections by name."""
    metrics = files.metrics
    scores = metrics.get(metrics["primary"]["split"]) or {}
    return {
        "name": files.run.resolve().name,
        "task": metrics["task"],
        "backbone": metrics.get("backbone", ""),
        "strategy": metrics.get("strategy", ""),
        "headline": headline(metrics, scores),
        "tiles": tiles(metrics, scores),
        "alerts": [f for f in files.audit.get("findings", []) if _is_alert(f)],
        "diagnosis": metrics.get("diagnosis", []),
        "data": data(files),
        "done": done(files),
        "curves": _curves.build(files.events, metrics["primary"]["name"], score_of(metrics)),
        "classes": classes(metrics, scores),
        "terms": terms(metrics),
        "confusion": confusion(scores, metrics.get("classes", [])),
        "calibration": calibrated(files, scores),
        "numbers": numbers(files),
        "mistakes": _examples.mistakes(files),
        "right": _examples.correct(files),
        "galleries": _examples.galleries(files.run / "pictures"),
        "timing": timing(metrics, files.events),
        "use": _repeating.use(files.run),
        "again": _repeating.again(files),
        "environment": _repeating.environment(files.environment),
    }


def score_of(metrics: Mapping[str, Any]) -> _curves.Score:
    """Return what the network of a run was scored at, also where its model is another one."""
    split, counts = metrics["primary"]["split"], metrics.get("counts") or {}
    measured = (metrics.get("measured") or {}).get(split) or counts.get(split) or 0
    return _curves.Score(split=split, metrics=(metrics.get("network") or metrics).get(split) or {}, examples=measured, counts=counts)


def data(files: Files) -> dict[str, Any]:
    """Return what was read, kept, dropped and found."""
    counts, audit = files.metrics.get("counts") or {}, files.audit
    per_class: Mapping[str, Mapping[str, int]] = counts.get("per_class") or {}
    splits = [split for split in _SPLITS if counts.get(split)]
    most = max((row.get("train", 0) for row in per_class.values()), default=0)
    rows = [(name, [row.get(split, 0) for split in splits], 100 * row.get("train", 0) / max(most, 1)) for name, row in per_class.items()]
    reasons = Counter((entry["action"], entry["reason"]) for entry in files.ledger)
    ledger = [
        {"action": action, "reason": reason.replace("_", " "), "count": count, "entries": _entries(files.ledger, action, reason)}
        for (action, reason), count in reasons.most_common()
    ]
    return {
        "root": audit.get("root", files.recipe.get("data", "")),
        "layout": audit.get("layout", ""),
        "messages": audit.get("messages", []),
        "counts": counts,
        "splits": splits,
        "rows": rows,
        "folded": len(rows) > _LONG,
        "totals": [counts[split] for split in splits],
        "ledger": ledger,
        "findings": [f for f in audit.get("findings", []) if not _is_alert(f)],
    }


def _is_alert(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding puts the score itself in doubt."""
    return finding["severity"] == "warning" and finding["kind"] in _DOUBTS


def _entries(ledger: Sequence[Mapping[str, str]], action: str, reason: str) -> list[Mapping[str, str]]:
    return [entry for entry in ledger if (entry["action"], entry["reason"]) == (action, reason)][:12]


def done(files: Files) -> dict[str, Any]:
    """Return what was trained, how and why."""
    metrics = files.metrics
    params = metrics.get("params") or {}
    facts = [("backbone", metrics.get("backbone")), ("strategy", metrics.get("strategy"))]
    if model_of(metrics) == "baseline":
        facts.insert(0, ("model", f"the classical baseline: {metrics['baseline']['what']}"))
    if params:
        share = 100 * params["trainable"] / max(params["total"], 1)
        shown = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
        facts.append(("parameters", f"{params['total']:,} in all, {params['trainable']:,} trained ({shown} %)"))
    for key, label in (("features_precision", "features"), ("precision", "training")):
        choice = metrics.get(key) or {}
        if choice.get("reason"):
            facts.append((label, f"precision={'bfloat16' if choice.get('bfloat16') else 'float32'} ({choice['reason']})"))
    if metrics.get("peak_rss_mb"):
        facts.append(("peak memory", f"{metrics['peak_rss_mb']:,.0f} MB"))
    kept = [(k, v) for k, v in facts if v]
    return {"facts": kept, "notes": _notes(files, kept), "recipe": list(_flat(files.recipe))}


def _notes(files: Files, facts: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the messages of the run, without what other sections show."""
    audit = files.audit
    shown = {*audit.get("messages", []), *(f["message"] for f in audit.get("findings", []))}
    shown |= {event["message"] for event in files.events if event.get("event") == "warned"}
    shown |= {f"{label}: {value}" for label, value in facts}
    return [note for note in files.metrics.get("notes", []) if note not in shown]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append(
                (prefix + key, "auto" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            )
    return rows


def classes(metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> Section:
    """Return the per-class table; of many classes the worst first, all of them folded."""
    per_class: Mapping[str, Mapping[str, Any]] = scores.get("per_class") or {}
    if not per_class:
        return None
    counts = (metrics.get("counts") or {}).get("per_class") or {}
    columns = [key for key in next(iter(per_class.values())) if key not in ("recall", "support")]
    rows = [
        {
            "name": name,
            "train": counts.get(name, {}).get("train"),
            "support": row.get("support", ""),
            "recall": row.get("recall"),
            "cells": [_cell(row.get(key)) for key in columns],
        }
        for name, row in per_class.items()
    ]
    worst = sorted((row for row in rows if row["recall"] is not None), key=lambda row: row["recall"])[:12] if len(rows) > _LONG else []
    return {"split": metrics["primary"]["split"], "columns": [words(key) for key in columns], "rows": rows, "worst": worst}


def _cell(value: float | None) -> str:
    """Return a figure of a class: counts as whole numbers."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def confusion(scores: Mapping[str, Any], names: Sequence[str]) -> Section:
    """Return the confusion matrix and the most frequent confusions."""
    matrix: Sequence[Sequence[int]] = scores.get("confusion") or []
    if not matrix or len(matrix) != len(names):
        return None
    shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
    pairs = [(matrix[i][j], names[i], names[j]) for i in range(len(names)) for j in range(len(names)) if i != j and matrix[i][j]]
    top = [{"count": count, "true": true, "predicted": predicted} for count, true, predicted in sorted(pairs, key=lambda p: -p[0])[:8]]
    big = len(names) > _MATRIX
    return {
        "names": list(names),
        "totals": [sum(column) for column in zip(*matrix, strict=True)],
        "all": sum(map(sum, matrix)),
        "top": top,
        "size": "large" if len(names) <= 5 else "dense" if len(names) > 14 else "",
        "turned": len(names) > 6 or max(map(len, names)) > 12,
        "rows": [] if big else [{"name": names[i], "cells": _cells(i, row, shares[i]), "total": sum(row)} for i, row in enumerate(matrix)],
        "drawing": _charts.heatmap(shares, names, matrix, "confusion matrix") if big else None,
    }


def _cells(i: int, counts: Sequence[int], shares: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {
            "count": count,
            "share": round(12 + 88 * share),
            "kind": "none" if not count else "right" if i == j else "wrong",
            "dark": share > 0.5,
        }
        for j, (count, share) in enumerate(zip(counts, shares, strict=True))
    ]


def calibrated(files: Files, scores: Mapping[str, Any]) -> Section:
    """Return the reliability diagram of single-label predictions."""
    sure = [p for p in files.predictions if p.confidence is not None]
    if scores.get("ece") is None or not sure:
        return None
    import numpy as np

    bins = calibration.reliability(np.array([p.confidence for p in sure]), np.array([p.right for p in sure]))
    return {
        "drawing": _charts.calibration(bins, "accuracy over confidence"),
        "ece": f"{scores['ece']:.3f}",
        "confidence": show("accuracy", scores.get("mean_confidence")),
        "accuracy": show("accuracy", scores.get("accuracy")),
        "few": len(sure) < 100,
        "examples": len(sure),
    }


def numbers(files: Files) -> Section:
    """Return predicted over true numbers and how errors are spread."""
    if not files.task.numbers or not files.predictions:
        return None
    pairs = [(float(p.target), float(p.prediction)) for p in files.predictions]
    return {
        "scatter": _charts.scatter(pairs[:3000], "predicted over true"),
        "shown": min(len(pairs), 3000),
        "examples": len(pairs),
        "residuals": _charts.histogram([predicted - true for true, predicted in pairs], "residuals", x_label="predicted − true"),
    }


def timing(metrics: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Section:
    """Return where the seconds went."""
    spent = metrics.get("timing") or {}
    total = spent.get("total_s")
    if not total:
        return None
    seconds = {k.removesuffix("_s"): v for k, v in spent.items() if k.endswith("_s") and k not in ("total_s", "saved_s") and v > 0}
    rest = total - sum(seconds.values())
    rows = [*seconds.items(), *([("startup and other", rest)] if rest > 0.005 * total else [])]
    waited = _waited(events)
    return {
        "total": f"{total:.1f} s",
        "parts": [
            {"name": k.replace("_", " "), "seconds": f"{v:.2f} s", "share": round(100 * v / total, 2), "kind": f"c{min(i, 6)}"}
            for i, (k, v) in enumerate(rows)
        ],
        "saved": f"{spent['saved_s']:.1f} s" if spent.get("saved_s") else "",
        "waited": "" if waited is None else f"{100 * waited:.0f} %",
    }


def _waited(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of the training time, over all phases, in which there was no batch yet."""
    steps = [[event for event in seen if "waited" in event] for seen in by_phase(events).values()]  # each tells of its phase so far
    ends = [seen[-1] for seen in steps if seen]
    seconds = sum(end["seconds"] for end in ends)
    return sum(end["waited"] for end in ends) / seconds if seconds else None
