"""Embeddings as arrays: of texts, and as NumPy or Parquet files with one row an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.deploy.predictor import Predictor
from pretune.errors import DataError, MissingExtra, SettingError
from pretune.training.run_dir import to_csv, write_atomic
from pretune.types import Row

ENDINGS = (".npy", ".parquet")


def embed(model: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of texts, (N, D) of length one, in their order.

    Raises:
        DataError: a text has none; the message names the first and says why.
        SettingError: the run gives no embeddings.
    """
    rows = [Row(id=str(number), text=(text,)) for number, text in enumerate(texts)]
    answers = list(model.predict(rows))
    for answer in answers:
        if "error" in answer:
            raise DataError(f"text {answer['id']} of {len(texts)} (counted from 0) cannot be embedded: {answer['error']}")
    return _array(answers)


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Write the answers of `predict` as a file of embeddings, and return a sentence on it.

    NumPy files hold (N, D) float32 in the order of the inputs; their ids stand in a CSV file beside. Parquet files have the columns id,
    embedding and error. An input that could not be read is a row of NaN, or null, with its error.

    Raises:
        SettingError: the run gives no embeddings.
        MissingExtra: Parquet without pyarrow.
        DataError: the file cannot be written.
    """
    array = _array(rows)
    named = [{"id": row["id"], "error": row.get("error")} for row in rows]
    if path.suffix.lower() == ".npy":
        beside = path.with_name(f"{path.name}.ids.csv")
        write_atomic(beside, to_csv(["id", "error"], named).encode())
        write_atomic(path, lambda temporary: _save(array, temporary))
        return f"{len(rows)} embeddings of {array.shape[1]} numbers written to {path}, their ids to {beside}"
    write_atomic(path, lambda temporary: _save_parquet(array, named, temporary))
    return f"{len(rows)} embeddings of {array.shape[1]} numbers written to {path}"


def _array(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Return one row an answer, of NaN where it has no embedding."""
    width = next((len(row["embedding"]) for row in rows if "embedding" in row), None)
    if width is None:
        why = "none of the inputs could be read" if rows and all("error" in row for row in rows) else "this run gives no embeddings"
        raise SettingError(f"{why}: arrays of embeddings are for runs of task=retrieval. Write out=predictions.csv.")
    out = np.full((len(rows), width), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        if "embedding" in row:
            out[place] = row["embedding"]
    return out


def _save(array: NDArray[np.float32], path: Path) -> None:
    with path.open("wb") as file:  # np.save would add .npy to a name that lacks it
        np.save(file, array)


def _save_parquet(array: NDArray[np.float32], named: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("Parquet files need pyarrow", "parquet") from None
    vectors = [None if row["error"] else vector for row, vector in zip(named, array, strict=True)]
    columns = {
        "id": pyarrow.array([row["id"] for row in named], pyarrow.string()),
        "embedding": pyarrow.array(vectors, pyarrow.list_(pyarrow.float32())),
        "error": pyarrow.array([row["error"] for row in named], pyarrow.string()),
    }
    parquet.write_table(pyarrow.table(columns), path)
