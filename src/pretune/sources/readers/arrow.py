"""Parquet files and Hugging Face `datasets` folders; both need only pyarrow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pretune.errors import BadItem, DataError
from pretune.formats.files import file_kinds, kinds, modality_of, modality_of_bytes
from pretune.sources.readers.arrow_file import ArrowFile
from pretune.sources.readers.records import Records, Value
from pretune.sources.split_names import split_of
from pretune.storage.cells import Cells, TableCell
from pretune.types import Split

_ENOUGH, _PROBE = 8, 512
"""Cells that show what a column of bytes holds, and cells that are looked at for them."""


def is_datasets_folder(folder: Path) -> bool:
    """Return whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
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
    return [(split_of(name), _read_saved(folder / name)) for name in names]


def _read_saved(folder: Path) -> Records:
    files = [ArrowFile(folder / entry["filename"]) for entry in _json(folder / "state.json").get("_data_files", [])]
    return _records(folder, files, _json(folder / "dataset_info.json").get("features") or {})


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); the `datasets` folder is incomplete.") from None


def read_arrow(path: Path) -> Records:
    """Return the records of one Parquet, Feather or Arrow file."""
    file = ArrowFile(path)
    return _records(path, [file], file.features)


def files_inside(path: Path) -> dict[str, str]:
    """Return the columns of one file that hold files themselves, and of which modality those are."""
    file = ArrowFile(path)
    columns = [name for name in file.schema.names if file.holds_bytes(name) and any(map(len, file.cells(name)))]
    return {name: kind for name in columns if (kind := _kind(file, name, file.features))}


def batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a Parquet file a few thousand at a time, without the columns that hold bytes.

    Raises:
        BadItem: the file is broken.
        MissingExtra: pyarrow is not installed.
    """
    file = ArrowFile(path)
    try:
        names = [name for name in file.schema.names if not file.has_bytes(name)]
        for batch in file.batches(names, 4096):
            yield batch.to_pylist()
    except DataError as error:
        raise BadItem("damaged", str(error).removeprefix(f"{path} ").rstrip(".")) from error


def _records(path: Path, files: list[ArrowFile], features: dict[str, Any]) -> Records:
    """Turn files of one schema into records."""
    columns = list(files[0].schema.names) if files else []
    records = Records(path=path, columns=columns, values=[], numbers=[], word="record", names=_class_names(features))
    for file in files:
        _check_columns(file, columns)
        contents = {name: _column(records, file, name, features) for name in columns}
        records.values += [list(row) for row in zip(*contents.values(), strict=True)]
    records.numbers = list(range(1, len(records.values) + 1))
    return records


def _check_columns(file: ArrowFile, columns: list[str]) -> None:
    names = file.schema.names
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{file.path} has two columns called {twice[0]!r}. Rename one.")
    if set(names) != set(columns):
        raise DataError(f"{file.path} has other columns ({', '.join(names)}) than the files before it ({', '.join(columns)}).")


def _class_names(features: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names that integers stand for by column, those of lists of integers too."""
    found = {}
    for column, feature in features.items():
        inner = feature[0] if isinstance(feature, list) and feature else feature
        inner = inner["feature"] if isinstance(inner, dict) and isinstance(inner.get("feature"), dict) else inner
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def _column(records: Records, file: ArrowFile, name: str, features: dict[str, Any]) -> list[Value]:
    """Return a column's values: cells where it holds files, None where it holds bytes of another kind."""
    if not file.has_bytes(name):
        return [("true" if value else "false") if isinstance(value, bool) else value for value in file.values(name)]
    if not file.holds_bytes(name):
        records.opaque[name] = f"holds {file.schema.field(name).type}; only one file per row can be read"
        return [None] * file.count
    names = file.cell_names(name)
    head = next((bytes(cell[:12]) for cell in file.cells(name) if cell), None)
    if head is None and any(names):
        records.linked.append(name)
        return list(names)
    kind = _kind(file, name, features) if head else None
    if kind is None:
        wanted = " nor ".join(kinds()[modality].noun for modality in file_kinds())
        records.opaque[name] = f"holds bytes that are neither {wanted} (the first: {head!r})" if head else "is empty in every row"
        return [None] * file.count
    records.files.setdefault(name, kind)
    cells = Cells(table=file.path, column=name, count=file.count, nbytes=file.cell_bytes(name), stream=lambda: file.cells(name))
    return [TableCell(cells, at, called) for at, called in enumerate(names)]


def _kind(file: ArrowFile, column: str, features: dict[str, Any]) -> str | None:
    """Return the modality that a column's files are of: what most show themselves, else their names, else what `datasets` noted."""
    filled = islice(filter(len, file.cells(column)), _PROBE)
    shown = list(islice(filter(None, (modality_of_bytes(bytes(cell[:64])) for cell in filled)), _ENOUGH))
    shown = shown or list(filter(None, map(modality_of, file.cell_names(column))))
    if shown:
        return Counter(shown).most_common(1)[0][0]
    noted = features.get(column)
    kind = str(noted.get("_type")).casefold() if isinstance(noted, dict) else None
    return kind if kind in file_kinds() else None
