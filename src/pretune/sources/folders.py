"""Class folders: the first folder below a part is the class, whatever wraps the splits or lies below the class."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pretune.errors import DataError
from pretune.formats.files import ending, kinds
from pretune.printable import path_word
from pretune.sources.names import composed
from pretune.sources.split_names import is_filler, is_fold, split_of, split_of_folder, splits_of_folders
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS
from pretune.sources.tree import FileEntry, PathParts, Tree, readable
from pretune.types import Finding, LedgerEntry, Row, Split

_UNLABELLED = frozenset(("unsup", "unlabeled", "unlabelled"))


@dataclass(kw_only=True)
class Layout:
    """Where the class folders are."""

    base: PathParts
    """The folder below all wrappers."""
    splits: list[tuple[Split | None, PathParts]] = field(default_factory=list)
    """Each split (or fold) and the folder whose sub-folders are its classes."""
    inside_out: bool = False
    """The splits lie inside the classes: cats/train, cats/test."""
    folds: bool = False
    """The folders are folds of one data set; each is a group."""


class _Shape:
    """How the files of one modality are spread over folders."""

    def __init__(self, tree: Tree, modality: str) -> None:
        self.files = tree.media(modality)
        self.direct: Counter[PathParts] = Counter(file.parts[:-1] for file in self.files)
        self.below: dict[PathParts, list[str]] = defaultdict(list)
        self.occupied = _prefixes(file.parts[:-1] for file in tree.files)
        self.folders = tree.folders
        for prefix in sorted(_prefixes(self.direct)):
            if prefix:
                self.below[prefix[:-1]].append(prefix[-1])

    def empty_siblings(self, base: PathParts) -> bool:
        """Return whether a folder in `base` holds nothing at all: likely a class without examples."""
        return any(folder[:-1] == base and folder and folder not in self.occupied for folder in self.folders)


def _prefixes(folders: Iterable[PathParts]) -> set[PathParts]:
    out: set[PathParts] = set()
    for folder in set(folders):
        while folder not in out:
            out.add(folder)
            folder = folder[:-1]
    return out


def find_layout(tree: Tree, modality: str) -> Layout | None:
    """Return where the class folders of a modality are, None where its files lie flat or are absent.

    Raises:
        DataError: the folders of two levels may be the classes, or a split lies among classes.
    """
    shape = _Shape(tree, modality)
    base = _unwrap(shape, (), None)
    below = shape.below[base]
    splits = _splits(shape, base)
    if splits:
        _refuse_two_levels(shape, tree, splits[0][1])
        return Layout(base=base, splits=splits)
    if len(below) > 1 and not shape.direct[base] and all(map(is_fold, below)):
        return _folds(shape, tree, base)
    _refuse_split_among_classes(shape, tree, base)
    if len(below) > 1 and not shape.direct[base] and all(_holds_splits(shape, (*base, name)) for name in below):
        _refuse_two_levels(shape, tree, base, between=1)
        return Layout(base=base, splits=[(None, base)], inside_out=True)
    _refuse_two_levels(shape, tree, base)
    return Layout(base=base, splits=[(None, base)]) if below else None


def _unwrap(shape: _Shape, base: PathParts, split: Split | None) -> PathParts:
    """Descend while a folder holds nothing but one folder of folders; inside a part only through names that are no class."""
    while not shape.direct[base] and len(shape.below[base]) == 1 and not shape.empty_siblings(base):
        child = (*base, shape.below[base][0])
        named = split_of_folder(child[-1])
        is_wrapper = named is None if split is None else named == split or is_filler(child[-1])
        if shape.direct[child] or not is_wrapper:
            break
        base = child
    return base


def _splits(shape: _Shape, base: PathParts) -> list[tuple[Split | None, PathParts]]:
    """Return the splits in `base`: train beside another one, or nothing but splits. Else a class is called 'train' or 'test'."""
    below = shape.below[base]
    named = {(*base, name): split for name, split in splits_of_folders(below).items()}
    only_splits = bool(below) and all(
        (*base, name) in named and shape.below[*base, name] and not shape.direct[*base, name] for name in below
    )
    if not only_splits and (len(set(named.values())) < 2 or "train" not in named.values()):
        return []
    return [(split, _unwrap(shape, prefix, split)) for prefix, split in named.items()]


def _folds(shape: _Shape, tree: Tree, base: PathParts) -> Layout:
    folds = [(*base, name) for name in shape.below[base]]
    inside = {name for fold in folds for name in shape.below[fold]}
    if inside and "train" in splits_of_folders(inside).values():
        raise DataError(
            f"each of {len(folds)} folders under {tree.root} ({_some(fold[-1] for fold in folds)}) has splits of its own "
            f"({_some(sorted(inside))}): these are folds of one data set. Give one of them: {tree.root.joinpath(*folds[0])}."
        )
    return Layout(base=base, splits=[(None, fold) for fold in folds], folds=True)


def _holds_splits(shape: _Shape, folder: PathParts) -> bool:
    names = shape.below[folder]
    return bool(names) and not shape.direct[folder] and all(split_of(name) for name in names) and any(split_of(n) == "train" for n in names)


def _refuse_split_among_classes(shape: _Shape, tree: Tree, base: PathParts) -> None:
    """Refuse a folder called like a split whose sub-folders are called like the folders beside it.

    Raises:
        DataError: with what to give or to move.
    """
    for name in splits_of_folders(shape.below[base]):
        same = sorted(set(shape.below[*base, name]) & set(shape.below[base]))
        if same:
            raise DataError(
                f"{tree.root}: {readable((*base, name))}/ holds folders that lie beside it as well ({_some(same)}), so it is a split, "
                f"no class, and nothing says which split the others are. Move them into a folder val/ or test/ beside {name}/, "
                f"or give only {tree.root.joinpath(*base, name)}."
            )


def _refuse_two_levels(shape: _Shape, tree: Tree, prefix: PathParts, between: int = 0) -> None:
    """Refuse to guess where the same folders lie in every folder: cities of cats and dogs, or cats and dogs of cities?

    Args:
        shape: how the files are spread.
        tree: the folder.
        prefix: the folder whose sub-folders are the first level.
        between: levels between the two, which are splits.

    Raises:
        DataError: with the setting that says which level the classes are.
    """
    outer = [(*prefix, name) for name in shape.below[prefix]]
    levels = [[folder] for folder in outer]
    for _ in range(between):
        levels = [[(*folder, name) for folder in folders for name in shape.below[folder]] for folders in levels]
    inner = [{name for folder in folders for name in shape.below[folder]} for folders in levels]
    if len(outer) < 2 or any(shape.direct[folder] for folder in outer):
        return
    common = {name for name in set.intersection(*inner) if not (_is_numbered(name) or is_filler(name) or split_of_folder(name))}
    if len(common) < 2 or len(common) < 0.5 * len(set.union(*inner)):
        return
    first, second = (f"label='^{'[^/]+/' * depth}([^/]+)/'" for depth in (len(prefix), len(prefix) + 1 + between))
    raise DataError(
        f"{tree.root}: the same folders ({_some(sorted(common))}) lie in each of {_some(folder[-1] for folder in outer)}, so either may be "
        f"the classes. Say which: {first} takes {outer[0][-1]} …, {second} takes {min(common)} …."
    )


def _is_numbered(name: str) -> bool:
    """Return whether a folder name counts places, days or takes rather than names a kind: '2024', 'cam1', 'session_02'."""
    return name[-1:].isdecimal()


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (" …" if len(shown) > 5 else "")


def read_folders(tree: Tree, modality: str, layout: Layout) -> Table:
    """Return one row per file below a class folder; what lies elsewhere goes to the ledger."""
    named = {entry: _class_folders(tree, modality, entry[1]) for entry in layout.splits}
    known = {name for (split, _), names in named.items() if split in (None, "train") for name in names}
    labelled = [entry for entry, names in named.items() if any(name in known or not is_filler(name) for name in names)]
    table = Table(rows=[], modality=modality, target_type=ONE_CLASS, root=tree.root, layout=_describe(layout, labelled))
    table.ledger += tree.ledger(modality)
    for split, prefix in layout.splits:
        for file in tree.media(modality, prefix):
            _place(table, tree, file, split, prefix, layout, flat=(split, prefix) not in labelled)
    table.rows = _without_repeated_links(table, tree)
    _mention_flat(table, tree, [entry for entry in layout.splits if entry not in labelled])
    _mention_outside(table, tree, layout)
    _mention_empty(table, tree, layout)
    _mention_forms(table, tree, layout)
    _mention_nested(table, tree, layout)
    _mention_split_names(table, layout)
    table.messages += [*tree.messages(), *mention_others(tree, modality)]
    table.rows.sort(key=lambda row: row.id)
    return table


def _class_folders(tree: Tree, modality: str, prefix: PathParts) -> set[str]:
    return {file.parts[len(prefix)] for file in tree.media(modality, prefix) if len(file.parts) > len(prefix) + 1}


def _place(table: Table, tree: Tree, file: FileEntry, split: Split | None, prefix: PathParts, layout: Layout, *, flat: bool) -> None:
    inner = file.parts[len(prefix) :]
    if flat or len(inner) == 1 or inner[0].casefold() in _UNLABELLED:
        where = "lies beside the class folders, in none of them" if len(inner) == 1 else f"lies in {inner[0]!r}, which is no class"
        table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason="no_class_folder", detail=where))
        table.unlabelled.append(Row(id=file.id, path=tree.path(file), split=split))
        return
    split = split_of(inner[1]) if layout.inside_out else split
    group = prefix[-1] if layout.folds else None
    table.rows.append(Row(id=file.id, path=tree.path(file), target=composed(readable(inner[:1])), split=split, group=group))


def _mention_flat(table: Table, tree: Tree, flat: list[tuple[Split | None, PathParts]]) -> None:
    """Report which splits have no class folders, so that nothing in them has a label."""
    unit = kinds()[table.modality].unit
    for split, prefix in flat:
        count = len(tree.media(table.modality, prefix))
        if count:
            table.messages.append(
                f"{readable(prefix)}/ holds {count} {unit}{'s' * (count != 1)} in no class folder: without labels they cannot be the "
                f"{split or 'next'} split; `pretune predict RUN {path_word(str(tree.root.joinpath(*prefix)))}` answers them."
            )


def _mention_forms(table: Table, tree: Tree, layout: Layout) -> None:
    """Report which class folders are one class in two Unicode forms."""
    forms: dict[str, set[str]] = defaultdict(set)
    for _, prefix in layout.splits:
        for file in tree.media(table.modality, prefix):
            if len(file.parts) > len(prefix) + 1:
                name = readable(file.parts[len(prefix) : len(prefix) + 1])
                forms[composed(name)].add(name)
    several = sorted(name for name, spellings in forms.items() if len(spellings) > 1)
    if several:
        table.messages.append(f"folders in different Unicode forms (NFC, NFD) are one class: {', '.join(map(repr, several[:8]))}.")


def _mention_split_names(table: Table, layout: Layout) -> None:
    """Warn of classes that are called like a split."""
    names = {row.target for row in table.rows if isinstance(row.target, str)}
    for name in sorted(name for name in names if split_of_folder(name) and layout.splits[0][0] is None and not layout.folds):
        others = ", ".join(map(repr, sorted(names - {name})[:3]))
        message = (
            f"{name!r} is a class here, beside {others}, and a usual name of a split. If it is one, call the other splits train, val "
            "and test as well, with class folders inside each."
        )
        table.findings.append(Finding(kind="split_as_class", severity="warning", message=message, items=(name,)))


def _mention_nested(table: Table, tree: Tree, layout: Layout) -> None:
    """Report that folders inside class folders are not looked at, where they look like classes of their own."""
    if layout.inside_out or not layout.splits:
        return
    depth = len(layout.splits[0][1])
    below: dict[str, set[str]] = defaultdict(set)
    for _, prefix in layout.splits:
        for file in tree.media(table.modality, prefix):
            if len(file.parts) > len(prefix) + 2:
                below[file.parts[len(prefix)]].add(file.parts[len(prefix) + 1])
    names = {name for inner in below.values() for name in inner if not (_is_numbered(name) or is_filler(name))}
    nested = [name for name, inner in below.items() if len(inner & names) > 1]
    if nested and len(names) <= len(table.rows) / 4:
        first = sorted(nested)[0]
        table.messages.append(
            f"the folders inside class folders ({first}: {_some(sorted(below[first]))}) are no classes of their own; "
            f"label='^{'[^/]+/' * (depth + 1)}([^/]+)/' takes them."
        )


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


def _describe(layout: Layout, labelled: list[tuple[Split | None, PathParts]]) -> str:
    names = [split for split in ("train", "val", "test") if any(split == p for p, _ in labelled)]
    splits = f" with {' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)} splits" if names else ""
    splits = " with splits inside each class" if layout.inside_out else splits
    splits = f" in {len(layout.splits)} folds, each kept whole in a split" if layout.folds else splits
    wrapper = f", under {readable(layout.base)}" if layout.base else ""
    return f"class folders{splits}{wrapper}"


def _mention_outside(table: Table, tree: Tree, layout: Layout) -> None:
    """Ledger files outside every part: folders beside train and test, wrappers of another name."""
    if layout.splits[0][0] is None and not layout.folds:
        return
    prefixes = [prefix for _, prefix in layout.splits]
    for file in tree.media(table.modality):
        if not any(file.parts[: len(prefix)] == prefix for prefix in prefixes):
            detail = f"lies outside the splits ({', '.join(readable(prefix) for prefix in prefixes)})"
            table.ledger.append(LedgerEntry(item=file.id, action="dropped", reason="outside_parts", detail=detail))
            if any(name.casefold() in _UNLABELLED for name in file.parts[:-1]):
                table.unlabelled.append(Row(id=file.id, path=tree.path(file), split="train"))


def _mention_empty(table: Table, tree: Tree, layout: Layout) -> None:
    """Name class folders that hold no example; they are left out."""
    for split, prefix in layout.splits:
        holding = {file.parts[len(prefix)] for file in tree.media(table.modality, prefix) if len(file.parts) > len(prefix) + 1}
        own = {folder[-1] for folder in tree.folders if folder[:-1] == prefix and len(folder) == len(prefix) + 1}
        for name in sorted(own - holding):
            where = f"{split}/{name}" if split else name
            message = f"the class folder {where!r} is empty (no {kinds()[table.modality].unit} in it) and is not used."
            table.findings.append(Finding(kind="empty_class", severity="warning", message=message, items=(readable((name,)),)))


def mention_others(tree: Tree, modality: str) -> list[str]:
    """Report how many files of other types were passed over."""
    endings = Counter(ending(file.parts[-1]) or "no ending" for file in tree.files)
    ours = Counter(ending(file.parts[-1]) or "no ending" for file in tree.media(modality))
    others = endings - ours
    if not others:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
    return [f"{others.total()} file(s) of other types were ignored ({kinds})."]


def flat_error(tree: Tree, modality: str) -> DataError:
    """Return the error for a folder of examples without classes, with the ways out shown on this very path."""
    files = tree.media(modality)
    example, root = files[0].id, tree.root
    cat, columns = f"{root}/cat/{files[0].parts[-1]}", f"path,label / {example},cat"
    named = label_in_names(files)
    return DataError(
        f"{root} holds {len(files)} {kinds()[modality].unit}s but neither class folders nor a manifest: that is one class at most "
        f"({root.name!r}), and training needs two. {named}Either sort them into one folder per class ({cat}, {root}/dog/…) "
        f"or add a manifest ({root}/labels.csv with the lines: {columns})."
    )


def label_in_names(files: list[FileEntry]) -> str:
    """Return a sentence with settings that take the classes from the names of files, '' where these hold none."""
    fitting = []
    for pattern in (r"([A-Za-z]+)[^/]*\.\w+$", r"[_-]([A-Za-z]+)\.\w+$", r"(?:^|/)(\d+)[_-][^/]*$"):
        found = Counter(match[1] for file in files if (match := re.search(pattern, file.parts[-1])))
        usual = Counter({name: count for name, count in found.items() if count > 1})
        if len(usual) > 1 and usual.total() >= len(files) / 2:
            shown = ", ".join(f"{name} ({count})" for name, count in usual.most_common(4))
            fitting.append(f"label='{pattern}' takes {shown}")
    return f"The names of the files may hold the classes: {'; '.join(fitting)}. " if fitting else ""
