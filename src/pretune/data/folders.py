"""Class folders: the first folder below a part is the class, whatever wraps the parts or lies below the class."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pretune.data.parts import is_filler, part_of, part_of_folder
from pretune.data.table import Table
from pretune.data.tree import File, Parts, Tree, readable
from pretune.errors import DataError
from pretune.modalities._formats import ending, kinds
from pretune.types import Finding, LedgerEntry, Row, Split

_UNLABELLED = frozenset(("unsup", "unlabeled", "unlabelled"))


@dataclass(kw_only=True)
class Layout:
    """Where the class folders are."""

    base: Parts
    """The folder below all wrappers."""
    parts: list[tuple[Split | None, Parts]] = field(default_factory=list)
    """Each part and the folder whose sub-folders are its classes."""
    inside_out: bool = False
    """The parts lie inside the classes: cats/train, cats/test."""


class _Shape:
    """How the files of one modality are spread over folders."""

    def __init__(self, tree: Tree, modality: str) -> None:
        self.files = tree.media(modality)
        self.direct: Counter[Parts] = Counter(file.parts[:-1] for file in self.files)
        self.below: dict[Parts, list[str]] = defaultdict(list)
        self.occupied = _prefixes(file.parts[:-1] for file in tree.files)
        self.folders = tree.folders
        for prefix in sorted(_prefixes(self.direct)):
            if prefix:
                self.below[prefix[:-1]].append(prefix[-1])

    def empty_siblings(self, base: Parts) -> bool:
        """Tell whether a folder in `base` holds nothing at all: likely a class without items."""
        return any(folder[:-1] == base and folder and folder not in self.occupied for folder in self.folders)


def _prefixes(folders: Iterable[Parts]) -> set[Parts]:
    out: set[Parts] = set()
    for folder in set(folders):
        while folder not in out:
            out.add(folder)
            folder = folder[:-1]
    return out


def find_layout(tree: Tree, modality: str) -> Layout | None:
    """Return where the class folders of a modality are, None where its files lie flat or are absent."""
    shape = _Shape(tree, modality)
    base = _unwrap(shape, (), None)
    below = shape.below[base]
    parts = _parts(shape, base)
    if parts:
        return Layout(base=base, parts=parts)
    if len(below) > 1 and not shape.direct[base] and all(_holds_parts(shape, (*base, name)) for name in below):
        return Layout(base=base, parts=[(None, base)], inside_out=True)
    return Layout(base=base, parts=[(None, base)]) if below else None


def _unwrap(shape: _Shape, base: Parts, part: Split | None) -> Parts:
    """Descend while a folder holds nothing but one folder of folders; inside a part only through names that are no class."""
    while not shape.direct[base] and len(shape.below[base]) == 1 and not shape.empty_siblings(base):
        child = (*base, shape.below[base][0])
        named = part_of_folder(child[-1])
        is_wrapper = named is None if part is None else named == part or is_filler(child[-1])
        if shape.direct[child] or not is_wrapper:
            break
        base = child
    return base


def _parts(shape: _Shape, base: Parts) -> list[tuple[Split | None, Parts]]:
    """Return the parts in `base`: train beside another one, or nothing but parts. Else a class is called 'train' or 'test'."""
    named = [(part_of_folder(name), (*base, name)) for name in shape.below[base]]
    parts = {part for part, _ in named if part}
    only_parts = bool(named) and all(part and shape.below[prefix] and not shape.direct[prefix] for part, prefix in named)
    if not only_parts and (len(parts) < 2 or "train" not in parts):
        return []
    return [(part, _unwrap(shape, prefix, part)) for part, prefix in named if part]


def _holds_parts(shape: _Shape, folder: Parts) -> bool:
    names = shape.below[folder]
    return bool(names) and not shape.direct[folder] and all(part_of(name) for name in names) and any(part_of(n) == "train" for n in names)


def read_folders(tree: Tree, modality: str, layout: Layout) -> Table:
    """Return one row per file below a class folder; what lies elsewhere goes to the ledger."""
    table = Table(rows=[], modality=modality, task="classification", root=tree.root, layout=_describe(layout))
    table.ledger += tree.ledger(modality)
    for part, prefix in layout.parts:
        for file in tree.media(modality, prefix):
            _place(table, tree, file, part, len(prefix), layout.inside_out)
    table.rows = _without_repeated_links(table, tree)
    _mention_outside(table, tree, layout)
    _mention_empty(table, tree, layout)
    table.said += [*tree.said(), *mention_others(tree, modality)]
    table.rows.sort(key=lambda row: row.id)
    return table


def _place(table: Table, tree: Tree, file: File, part: Split | None, depth: int, inside_out: bool) -> None:
    inner = file.parts[depth:]
    if len(inner) == 1 or inner[0].casefold() in _UNLABELLED:
        where = "lies beside the class folders, in none of them" if len(inner) == 1 else f"lies in {inner[0]!r}, which is no class"
        table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason="no_class_folder", detail=where))
        table.unlabelled.append(Row(id=file.id, path=tree.path(file), split=part))
        return
    part = part_of(inner[1]) if inside_out else part
    table.rows.append(Row(id=file.id, path=tree.path(file), target=readable(inner[:1]), split=part))


def _without_repeated_links(table: Table, tree: Tree) -> list[Row]:
    """Drop links to files that the same class and part use already, so that each real file counts once."""
    links = {file.id: file.target for file in tree.files if file.target is not None}
    if not links:
        return table.rows
    root = os.path.realpath(tree.root)
    used: dict[tuple[object, ...], str] = {
        (os.path.join(root, row.id), row.target, row.split): row.id for row in table.rows if row.id not in links
    }
    kept = []
    for row in table.rows:
        key = (links.get(row.id), row.target, row.split)
        if row.id in links and key in used:
            detail = f"is a link to {used[key]}, which is used already"
            table.ledger.append(LedgerEntry(item=row.id, action="dropped", reason="repeated_link", detail=detail))
            continue
        used.setdefault(key, row.id) if row.id in links else None
        kept.append(row)
    return kept


def _describe(layout: Layout) -> str:
    names = [part for part in ("train", "val", "test") if any(part == p for p, _ in layout.parts)]
    parts = f" with {' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)} parts" if names else ""
    parts = " with parts inside each class" if layout.inside_out else parts
    wrapper = f", under {readable(layout.base)}" if layout.base else ""
    return f"class folders{parts}{wrapper}"


def _mention_outside(table: Table, tree: Tree, layout: Layout) -> None:
    """Ledger files outside every part: folders beside train and test, wrappers of another name."""
    if layout.parts[0][0] is None:
        return
    prefixes = [prefix for _, prefix in layout.parts]
    for file in tree.media(table.modality):
        if not any(file.parts[: len(prefix)] == prefix for prefix in prefixes):
            detail = f"lies outside the parts ({', '.join(readable(prefix) for prefix in prefixes)})"
            table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason="outside_parts", detail=detail))
            if any(name.casefold() in _UNLABELLED for name in file.parts[:-1]):
                table.unlabelled.append(Row(id=file.id, path=tree.path(file), split="train"))


def _mention_empty(table: Table, tree: Tree, layout: Layout) -> None:
    """Name class folders that hold no item; they are left out."""
    for part, prefix in layout.parts:
        holding = {file.parts[len(prefix)] for file in tree.media(table.modality, prefix) if len(file.parts) > len(prefix) + 1}
        own = {folder[-1] for folder in tree.folders if folder[:-1] == prefix and len(folder) == len(prefix) + 1}
        for name in sorted(own - holding):
            where = f"{part}/{name}" if part else name
            message = f"the class folder {where!r} is empty (no {kinds()[table.modality].unit} in it) and is left out."
            table.findings.append(Finding(kind="empty_class", severity="warning", message=message, items=(readable((name,)),)))


def mention_others(tree: Tree, modality: str) -> list[str]:
    """Say how many files of other types were passed over."""
    endings = Counter(ending(file.parts[-1]) or "no ending" for file in tree.files)
    ours = Counter(ending(file.parts[-1]) or "no ending" for file in tree.media(modality))
    others = endings - ours
    if not others:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
    return [f"{others.total()} file(s) of other types were ignored ({kinds})."]


def flat_error(tree: Tree, modality: str) -> DataError:
    """Return the error for a folder of items without classes, with both layouts shown on this very path."""
    files = tree.media(modality)
    example, root = files[0].id, tree.root
    cat, columns = f"{root}/cat/{files[0].parts[-1]}", f"path,label / {example},cat"
    return DataError(
        f"{root} holds {len(files)} {kinds()[modality].unit}s but neither class folders nor a manifest: that is one class at most "
        f"({root.name!r}), and training needs two. Either sort them into one folder per class ({cat}, {root}/dog/…) "
        f"or add a manifest ({root}/labels.csv with the lines: {columns})."
    )
