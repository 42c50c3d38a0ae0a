"""What there is under a path: whether it exists, which of its files are tables, and of which modality most of it is."""

from __future__ import annotations

from collections import Counter

from pretune.errors import DataError, MissingExtra, SettingError, did_you_mean
from pretune.formats.files import ending, file_kinds, kinds
from pretune.sources import shards
from pretune.sources.columns import choose_files
from pretune.sources.outcome import Refused, outcome
from pretune.sources.readers import arrow
from pretune.sources.readers.records import is_manifest
from pretune.sources.special import archive_of, unpacking
from pretune.sources.split_names import split_of_folder
from pretune.sources.table import Columns, RunColumns
from pretune.sources.tree import FileEntry, Tree, readable

_NOT_TABLES = frozenset(
    ("package.json", "config.json", "dataset_info.json", "dataset_infos.json", "state.json", "requirements.txt", "sample_submission.csv")
)


def check_modality(modality: str | None) -> None:
    """Refuse a modality that there is not."""
    if modality is not None and modality not in kinds():
        raise SettingError(f"modality cannot be {modality!r}. {did_you_mean(modality, kinds())}")


def named_columns(columns: Columns) -> tuple[str, ...]:
    """Return the names of all columns that the person gave, or that a run was trained on."""
    values = (columns.label, columns.text, columns.path, columns.group, columns.split)
    trained = (*columns.schema.content, *columns.schema.label) if isinstance(columns, RunColumns) else ()
    return (*(name.strip() for value in values if value for name in value.split(",")), *trained)


def commonest(tree: Tree) -> str:
    """Return the commonest of those whose items are files, else text."""
    counts = Counter({kind: len(tree.media(kind)) for kind in file_kinds()})
    kind, count = counts.most_common(1)[0]
    return kind if count else "text"


def modality_inside(tree: Tree, columns: Columns, messages: list[str]) -> str | None:
    """Return the modality of the files inside the first table of a folder, None where it holds none.

    A table that cannot be read is only mentioned where there are files beside it, which may be all that is meant.
    """
    if arrow.is_datasets_folder(tree.root):
        first = next((file for file in tree.files if ending(file.parts[-1]) == ".arrow"), None)
    else:
        first = next((file for file in tables_in(tree) if shards.is_arrow(file)), None)
    if first is None:
        return None
    found = outcome(lambda: arrow.files_inside(tree.path(first)), DataError, MissingExtra)
    if isinstance(found, Refused):
        if commonest(tree) == "text":
            raise found.why
        messages.append(f"{first.id} was not used: {found.why}")
        return None
    return next((found[name] for name in choose_files(found, columns, None)), None)


def nothing_found(tree: Tree, modality: str | None) -> DataError:
    """Return the error for a folder without items, with the endings that are read."""
    wanted = [kinds()[modality]] if modality else list(kinds().values())
    accepted = "; ".join(f"{kind.noun}: {kind.common} …" for kind in wanted)
    there = Counter(ending(file.parts[-1]) or "no ending" for file in tree.files)
    seen = f" It holds {', '.join(f'{n} {kind}' for kind, n in there.most_common(5))}." if there else " It holds no files."
    found = f"no {' and no '.join(kind.noun for kind in wanted)} found under {tree.root}"
    archives = [tree.path(file) for file in tree.files if archive_of(tree.path(file))]
    if archives:
        seen += f" Archives are not read; unpack it first: {unpacking(archives[0], archive_of(archives[0]) or '')}."
    seen += "".join(f" {line[0].upper()}{line[1:]}" for line in tree.messages())
    if tree.closed:
        seen += f" {len(tree.closed)} folder(s) cannot be read: {', '.join(readable(parts) or '.' for parts in tree.closed[:3])}."
    return DataError(f"{found}, nor a manifest that lists any.{seen} Accepted are {accepted}; manifests: .csv .tsv .json .jsonl .parquet.")


def tables_in(tree: Tree) -> list[FileEntry]:
    """Return the manifests in the root, else those of the one folder that holds any nearest to it, or of the folders of the parts."""
    files = [file for file in tree.files if is_manifest(file.parts[-1]) and file.parts[-1] not in _NOT_TABLES]
    if not files:
        return []
    depth = min(len(file.parts) for file in files)
    nearest = [file for file in files if len(file.parts) == depth]
    if len({file.parts[:-1] for file in nearest}) == 1:
        return nearest
    of_splits = len({file.parts[:-2] for file in nearest}) == 1 and all(split_of_folder(file.parts[-2]) for file in nearest)
    if not of_splits or all(map(shards.is_arrow, nearest)):
        return nearest if of_splits else []
    often = Counter(file.parts[-1] for file in nearest)
    return [file for file in nearest if often[file.parts[-1]] == max(often.values())]
