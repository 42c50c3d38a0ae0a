"""One Parquet, Feather or Arrow file: its schema, some of its columns, one column a few cells at a time."""

from __future__ import annotations

import functools
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pretune.errors import DataError, MissingExtra
from pretune.formats.files import ending

if TYPE_CHECKING:
    import pyarrow

_PIECE = 32
"""Files that are taken out of a table at a time."""
_BUFFER = 1 << 20
"""Bytes read from the disk at a time. Without it, or with pyarrow's `pre_buffer`, all of a column's row group is held at once: it may be
the whole table. So it is one page and its dictionary, about a thousand cells each."""


@dataclass(frozen=True)
class ArrowFile:
    """A file of columns.

    Every method raises DataError where the file is broken, and MissingExtra where pyarrow is not installed.
    """

    path: Path

    @functools.cached_property
    def schema(self) -> pyarrow.Schema:
        """Names and types of the columns, and what the writer noted beside them."""
        with self._reading() as arrow:
            if self._is_parquet:
                return arrow.parquet.read_schema(self.path)
            with arrow.memory_map(str(self.path)) as source:
                return _ipc(arrow, source, None).schema

    @functools.cached_property
    def count(self) -> int:
        """Number of rows."""
        with self._reading() as arrow:
            if self._is_parquet:
                return arrow.parquet.read_metadata(self.path).num_rows
        return sum(batch.num_rows for batch in self.batches(self.schema.names[:1]))

    @functools.cached_property
    def features(self) -> dict[str, Any]:
        """What Hugging Face `datasets` noted about each column; {} where something else wrote the file."""
        noted = (self.schema.metadata or {}).get(b"huggingface")
        try:
            info = json.loads(noted)["info"] if noted else {}
        except (ValueError, KeyError) as error:
            raise DataError(f"{self.path}: what `datasets` noted in the table cannot be read ({error}).") from None
        return info.get("features") or {}

    def has_bytes(self, column: str) -> bool:
        """Return whether there are bytes anywhere in a column's type."""
        with self._reading() as arrow:
            return _has_bytes(arrow.types, self.schema.field(column).type)

    def holds_bytes(self, column: str) -> bool:
        """Return whether each row of a column may be a file: bytes of any length, alone or with their name beside them."""
        with self._reading() as arrow:
            type_ = self.schema.field(column).type
            return _is_bytes(arrow.types, type_.field("bytes").type if self._pairs(column) else type_)

    def values(self, column: str) -> list[Any]:
        """Return a whole column; nothing of the others is read."""
        with self._reading() as arrow:
            if self._is_parquet:
                return arrow.parquet.ParquetFile(self.path).read(columns=[column]).column(column).to_pylist()
            with arrow.memory_map(str(self.path)) as source:
                return _ipc(arrow, source, [self.schema.get_field_index(column)]).read_all().column(0).to_pylist()

    def batches(self, columns: list[str], size: int = _PIECE) -> Iterator[pyarrow.RecordBatch]:
        """Yield the rows of some columns; of Parquet (where 'image.bytes' is part of a column) at most `size` at a time."""
        with self._reading() as arrow:
            if self._is_parquet:
                file = arrow.parquet.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
                yield from file.iter_batches(size, columns=columns)
                return
            with arrow.memory_map(str(self.path)) as source:
                yield from _pieces(_ipc(arrow, source, [self.schema.get_field_index(name) for name in columns]))

    def cells(self, column: str) -> Iterator[memoryview]:
        """Yield the bytes in each row of a column, none where there are none."""
        within = self._pairs(column)
        for batch in self.batches([f"{column}.bytes" if within and self._is_parquet else column]):
            for value in self._field(batch.column(0), "bytes") if within else batch.column(0):
                yield memoryview(value.as_buffer() or b"")

    def cell_names(self, column: str) -> list[str]:
        """Return what the file in each row of a column was called, '' where nothing says so."""
        if not self._pairs(column) or self.schema.field(column).type.get_field_index("path") < 0:
            return [""] * self.count
        batches = self.batches([f"{column}.path" if self._is_parquet else column], 1 << 12)
        return [str(name or "").strip() for batch in batches for name in self._field(batch.column(0), "path").to_pylist()]

    def cell_bytes(self, column: str) -> int:
        """Return about how many bytes a column's cells take."""
        if not self._is_parquet:
            return self.path.stat().st_size
        with self._reading() as arrow:
            about = arrow.parquet.read_metadata(self.path)
            groups = [about.row_group(at) for at in range(about.num_row_groups)]
            chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in (column, f"{column}.bytes"))

    def _pairs(self, column: str) -> bool:
        """Return whether a column holds bytes and their name together, as `datasets` writes them."""
        with self._reading() as arrow:
            type_ = self.schema.field(column).type
            return arrow.types.is_struct(type_) and type_.get_field_index("bytes") >= 0

    def _field(self, column: Any, name: str) -> Any:
        with self._reading() as arrow:
            return arrow.compute.struct_field(column, name)

    @property
    def _is_parquet(self) -> bool:
        return ending(self.path.name) in (".parquet", ".pq")

    @contextmanager
    def _reading(self) -> Generator[ModuleType, None, None]:
        try:
            import pyarrow
            import pyarrow.compute
            import pyarrow.ipc
            import pyarrow.parquet
        except ImportError:
            raise MissingExtra(f"reading {self.path.name} needs pyarrow", "parquet") from None
        try:
            yield pyarrow
        except (pyarrow.ArrowException, OSError) as error:
            if _is_pointer(self.path):
                raise DataError(f"{self.path} is a Git LFS pointer; the table itself was not downloaded (run: git lfs pull).") from None
            raise DataError(f"{self.path} cannot be read: {str(error).rstrip('.')}.") from None


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(23) == b"version https://git-lfs"
    except OSError:
        return False  # then it is said what pyarrow met


def _ipc(arrow: Any, source: Any, fields: list[int] | None) -> Any:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    options = arrow.ipc.IpcReadOptions(included_fields=fields)
    return arrow.ipc.open_file(source, options=options) if is_file else arrow.ipc.open_stream(source, options=options)


def _pieces(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(at) for at in range(reader.num_record_batches))
    return iter(reader)


def _is_bytes(types: Any, type_: Any) -> bool:
    return types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_)


def _has_bytes(types: Any, type_: Any) -> bool:
    inner = [type_.field(at).type for at in range(type_.num_fields)] if types.is_nested(type_) else []
    own = _is_bytes(types, type_) or types.is_fixed_size_binary(type_)
    return own or (types.is_dictionary(type_) and _has_bytes(types, type_.value_type)) or any(_has_bytes(types, one) for one in inner)
