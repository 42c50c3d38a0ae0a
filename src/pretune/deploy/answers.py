"""Predictions as a CSV table."""

from __future__ import annotations

from typing import Any

from pretune.training.run_dir import to_csv


def predictions_csv(rows: list[dict[str, Any]]) -> str:
    """Return predictions as CSV: id, prediction, confidence, one column a class, error; of embeddings the numbers."""
    rows = [{**row, "prediction": " ".join(map(str, row["embedding"]))} if "embedding" in row else row for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row.get("probabilities", {})))
    columns = ["id", "prediction", "confidence", *(f"p_{n}" for n in names), "error"]
    flat = [{**row, **{f"p_{n}": p for n, p in row.get("probabilities", {}).items()}} for row in rows]
    return to_csv(columns, [{key: _readable(value) for key, value in row.items()} for row in flat])


def _readable(value: Any) -> Any:
    """Return a number with the seven digits that float32 has; all else as it is."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
