"""Parquet files and Hugging Face `datasets` folders; both need only pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.data.parts import part_of
from pretune.data.records import Records
from pretune.errors import BadItem, DataError, MissingExtra
from pretune.modalities._formats import ending
from pretune.types import Split

if TYPE_CHECKING:
    import pyarrow


def is_datasets_folder(folder: Path) -> bool:
    """Tell whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file())


def read_datasets_folder(folder: Path) -> list[tuple[Split | None, Records]]:
    """Return the records of each part of a `datasets` folder; parts with other names than train, val, test have None.

    Raises:
        DataError: a file of the folder is missing or broken.
        MissingExtra: pyarrow is not installed.
    """
    if not (folder / "dataset_dict.json").is_file():
        return [(None, _read_saved(folder))]
    names: list[str] = _json(folder / "dataset_dict.json").get("splits", [])
    return [(part_of(name), _read_saved(folder / name)) for name in names]


def _read_saved(folder: Path) -> Records:
    files = [folder / entry["filename"] for entry in _json(folder / "state.json").get("_data_files", [])]
    features = _json(folder / "dataset_info.json").get("features") or {}
    records = _records(folder, [_table(file) for file in files])
    for column, feature in features.items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
            records.names[column] = list(feature["names"])
    return records


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); the `datasets` folder is incomplete.") from None


def read_arrow(path: Path) -> Records:
    """Return the records of one Parquet, Feather or Arrow file."""
    return _records(path, [_table(path)])


def _table(path: Path) -> pyarrow.Table:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(f"reading {path.name} needs pyarrow", "parquet") from None
    try:
        if ending(path.name) in (".parquet", ".pq"):
            return pyarrow.parquet.read_table(path)
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
            return reader.read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None


def _records(path: Path, tables: list[pyarrow.Table]) -> Records:
    """Turn Arrow tables of one schema into records."""
    columns = list(tables[0].column_names) if tables else []
    for name in columns:
        if "struct" in str(tables[0].schema.field(name).type) and "bytes" in str(tables[0].schema.field(name).type):
            raise DataError(
                f"{path}: column {name!r} holds files inside the table. Write them to a folder and give that, or a manifest of paths."
            )
    values = [list(row) for table in tables for row in zip(*(_plain(table.column(name)) for name in columns), strict=True)]
    return Records(path=path, columns=columns, values=values, numbers=list(range(1, len(values) + 1)), word="record")


def _plain(column: pyarrow.ChunkedArray) -> list[object]:
    values = column.to_pylist()
    return [("true" if v else "false") if isinstance(v, bool) else v for v in values]


def batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a Parquet file a few thousand at a time.

    Raises:
        BadItem: the file is broken.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra(f"reading {path.name} needs pyarrow", "parquet") from None
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(4096):
            yield batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise BadItem("damaged", f"cannot be read: {str(error).rstrip('.')}") from None
