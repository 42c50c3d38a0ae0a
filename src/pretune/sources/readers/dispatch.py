"""Read a file of records of any kind, by its extension."""

from __future__ import annotations

from pathlib import Path

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.sources.readers import arrow, delimited, encoded, json_records
from pretune.sources.readers.records import ARROW, JSON, Records, read_bytes


def read_records(path: Path, wanted: tuple[str, ...] = ()) -> Records:
    """Read a manifest of any kind.

    Args:
        path: CSV, TSV, text table, JSON, JSON lines, Parquet or Arrow file.
        wanted: column names that the person gave; they help to distinguish a header from data.

    Raises:
        DataError: the file is empty, has no rows, or is not a manifest.
        MissingExtra: Parquet without pyarrow.
    """
    if ending(path.name) in ARROW:
        records = arrow.read_arrow(path)
    else:
        raw = read_bytes(path)
        records = json_records.parse(path, raw) if ending(path.name) in JSON else delimited.parse(path, raw, wanted)
        encoded.unpack(records, wanted)
    if not records.values:
        lost = f"; all {len(records.ledger)} were unusable, the first: {records.ledger[0].detail}" if records.ledger else ""
        raise DataError(f"{path} has no rows{lost}. It needs a line per example below the header.")
    return records
