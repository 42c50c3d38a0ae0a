"""Find the files that manifests name: what their paths are relative to, and names that are written otherwise than on disk.

A manifest's paths follow a rule, found from a sample: they are relative to some folder, or some leading folders have to be
cut or exchanged, or the files lie in several folders and are known by their names. Letter case, Unicode form, Windows
separators and percent-encoding are looked through. A path may lead out of the data folder only as the rule: see `outside`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pretune.errors import DataError
from pretune.sources.files_below import FilesBelow
from pretune.sources.names import folded
from pretune.sources.outside import above, common_folder, files_below, holds_tables
from pretune.sources.split_names import is_filler, split_of_folder
from pretune.sources.tree import readable
from pretune.types import Split

_SAMPLE = 200
_USUAL = 0.5
"""Share of a sample from which something is the rule."""
_PARTIAL = 0.3
"""Share of a sample that must be there: of a data set that was downloaded in part."""
_LEVELS = 2
"""Folders above that are looked in for what a manifest names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """Where one manifest entry's file is, or why it is nowhere."""

    id: str
    """Path relative to the root with '/', as found; as written where nothing was found."""
    path: Path | None = None
    reason: str = ""
    """A slug where there is no file, or where the name had to be repaired."""
    words: str = ""
    """Continues 'row 19 …'."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The paths of one manifest."""

    values: Sequence[str]
    name: str = "it"
    """What the manifest is called."""
    start: str = ""
    """The manifest's folder below the root, with '/'."""
    split: Split | None = None
    """The split that the whole manifest stands for."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How a manifest's paths lead to files."""

    prefix: str = ""
    """Folder, with '/', that is put before every path."""
    cut: str = ""
    """Leading folders, with '/', that are cut from every path."""
    by_name: bool = False
    """Whether the files lie in several folders, each known by the end of its path."""
    other_case: bool = False
    """Whether names are usually written otherwise than on disk: then that is reported once, not for each."""
    remote: bool = False
    """Whether addresses on the network stand for files here."""
    words: str = ""


@dataclass(frozen=True)
class _Tail:
    """A file whose path ends like a value."""

    name: str
    """Path relative to the root."""
    cut: str
    prefix: str


@dataclass(kw_only=True)
class Locator:
    """Resolves the paths of manifests below one root."""

    files: FilesBelow
    _rules: list[_Rule] = field(default_factory=lambda: [_Rule()])
    _hint: str = ""
    """Where files that are missing may be, for the message."""

    def settle(self, lists: Sequence[Listed]) -> list[str]:
        """Choose how the paths of each manifest lead to files, from a sample; return sentences where they are not relative to the root.

        Raises:
            DataError: the files of two folders answer to the same names.
        """
        samples = [_sample(listed.values) for listed in lists]
        messages = self._follow_outside(lists, samples)
        rules = [self._rule(listed, sample) for listed, sample in zip(lists, samples, strict=True)]
        if not any(rules) and not messages and (moved := self._look_above(lists, samples)):
            messages.append(moved)
            rules = [self._rule(listed, sample) for listed, sample in zip(lists, samples, strict=True)]
        self._rules = [rule or _Rule(prefix=listed.start) for rule, listed in zip(rules, lists, strict=True)]
        return messages + [f"{listed.name}: {rule.words}." for rule, listed in zip(self._rules, lists, strict=True) if rule.words]

    def find(self, value: str, at: int = 0, *, split: Split | None = None, hints: Callable[[], set[str]] = lambda: set()) -> Located:
        """Return the file that `value` names.

        Args:
            value: as the manifest writes it.
            at: which of the settled manifests it is in.
            split: the split of its row, which tells files of one name in several folders apart.
            hints: gives the words of its row, folded, which do as well.
        """
        rule = self._rules[at]
        if re.match(r"(?!file:)[a-z][a-z0-9+]+://", value, re.I) and not rule.remote:
            return Located(id=value, reason="remote_path", words=f"names {value}, which is not on this disk; nothing is downloaded")
        if rule.by_name:
            return self._find_by_name(value, rule, split, hints)
        written = [plain for variant in self.files.variants_of(value) if (plain := self._plain(variant, rule)) is not None]
        if not written:
            return Located(id=value, reason="outside_root", words=f"names {value}, which lies outside {self.files.root.absolute()}")
        for plain in written:
            if self.files.exists(plain):
                return Located(id=readable((plain,)), path=self.files.root / plain)
        near = next((near for plain in written if (near := self.files.similar(plain))), [])
        if len(near) == 1:
            only_ending = posixpath.splitext(near[0])[0] in written
            repaired = not only_ending and not rule.other_case
            words = f"names {value}; the file is called {near[0]}" if repaired else ""
            return Located(id=readable(near), path=self.files.root / near[0], reason="other_spelling" if repaired else "", words=words)
        return self._not_found(value, near, written[0])

    def _find_by_name(self, value: str, rule: _Rule, split: Split | None, hints: Callable[[], set[str]]) -> Located:
        tails = [tail for tail in self._tails(value, split) if tail.cut == rule.cut]
        if len(tails) > 1:
            words = hints()
            named = [tail for tail in tails if words & {folded(folder) for folder in tail.prefix.split("/") if folder}]
            tails = named or tails
        if len(tails) == 1:
            return Located(id=readable((tails[0].name,)), path=self.files.root / tails[0].name)
        return self._not_found(value, [tail.name for tail in tails])

    def _not_found(self, value: str, near: Sequence[str], plain: str = "") -> Located:
        if near:
            words = f"names {value}, which may be any of {', '.join(near[:3])}{' …' if len(near) > 3 else ''}"
            return Located(id=value, reason="ambiguous_path", words=words)
        return Located(id=value, reason="missing_file", words=f"names {value}, which {self.files.why_absent(plain)}{self._hint}")

    def _plain(self, value: str, rule: _Rule) -> str | None:
        """Return the path relative to the root with '/', None where it leads outside."""
        value = value.removeprefix(rule.cut) if rule.cut else value
        if posixpath.isabs(value) or re.match(r"[A-Za-z]:/", value):
            return None
        value = posixpath.normpath(rule.prefix + value)
        return None if value == ".." or value.startswith("../") else value

    # --- the rule of a manifest

    def _rule(self, listed: Listed, sample: list[str]) -> _Rule | None:
        """Return how a sample of a manifest's paths leads to files, None where it does not."""
        if not sample:
            return _Rule(prefix=listed.start)
        for start in dict.fromkeys((listed.start, "")):
            exact = sum(any(self.files.exists(start + one) for one in self.files.variants_of(value)) for value in sample)
            if exact >= _USUAL * len(sample):
                return _Rule(prefix=start, words=_relative(start, listed.start))
        for start in dict.fromkeys((listed.start, "")):
            near = sum(any(len(self.files.similar(start + one)) == 1 for one in self.files.variants_of(value)) for value in sample)
            if near >= _USUAL * len(sample):
                return _Rule(prefix=start, other_case=not self._only_endings(sample, start), words=_relative(start, listed.start))
        return self._rule_from_tails(listed, sample)

    def _only_endings(self, sample: list[str], start: str) -> bool:
        """Return whether values lack no more than a file extension."""
        return any(posixpath.splitext(near)[0] == start + value for value in sample for near in self.files.similar(start + value))

    def _rule_from_tails(self, listed: Listed, sample: list[str]) -> _Rule | None:
        found = [tails for value in sample if (tails := self._tails(value, listed.split))]
        if len(found) < _PARTIAL * len(sample):
            return None
        pairs = Counter(pair for tails in found for pair in {(tail.cut, tail.prefix) for tail in tails})
        (cut, prefix), count = pairs.most_common(1)[0]
        remote = sum("://" in value for value in sample) >= _USUAL * len(sample)
        usual_cut = Counter(cut for tails in found for cut in {tail.cut for tail in tails}).most_common(1)[0][0]
        single = sum(len({tail.name for tail in tails if tail.cut == usual_cut}) == 1 for tails in found)
        if count < len(found) and single > count:
            return self._named_rule(found, usual_cut, remote)
        rivals = [pair for pair, times in pairs.items() if times >= 0.9 * count]
        if len(rivals) > 1:
            chosen = [pair for pair in rivals if pair[1] and is_filler(posixpath.basename(pair[1].rstrip("/")))]
            if len(chosen) != 1:
                return self._named_rule(found, usual_cut, remote)
            ((cut, prefix),) = chosen
        words = "" if not cut and not prefix else _exchanged(cut, prefix)
        exact = any(self.files.exists(prefix + one.removeprefix(cut)) for value in sample for one in self.files.variants_of(value))
        return _Rule(cut=cut, prefix=prefix, other_case=not exact, remote=remote, words=words)

    def _named_rule(self, found: list[list[_Tail]], cut: str, remote: bool) -> _Rule:
        folders = sorted({tail.prefix or "./" for tails in found for tail in tails if tail.cut == cut})
        shown = ", ".join(folders[:5]) + (" …" if len(folders) > 5 else "")
        without = f", without {cut!r}" if cut else ""
        return _Rule(cut=cut, by_name=True, remote=remote, words=f"its files are found by their names{without}, in {shown}")

    def _tails(self, value: str, split: Split | None) -> list[_Tail]:
        """Return the files whose paths have the longest end in common with a value, those of its split where there are several."""
        best: dict[str, _Tail] = {}
        longest = 0
        for one in self.files.variants_of(value):
            tokens = [token for token in one.split("/") if token not in ("", ".", "..")]
            keys = [folded(token) for token in tokens]
            for name in self.files.named(keys[-1]) if keys else []:
                places = name.split("/")
                same = 1
                while same < min(len(keys), len(places)) and keys[-1 - same] == folded(places[-1 - same]):
                    same += 1
                if same > longest:
                    best, longest = {}, same
                if same == longest:
                    lead = one[: len(one) - len("/".join(tokens[len(tokens) - same :]))]
                    best.setdefault(name, _Tail(name, lead, "".join(f"{place}/" for place in places[:-same])))
        tails = list(best.values())
        of_split = [tail for tail in tails if split and split in map(split_of_folder, tail.prefix.split("/"))]
        return of_split if len(tails) > 1 and of_split else tails

    # --- leaving the root

    def _follow_outside(self, lists: Sequence[Listed], samples: list[list[str]]) -> list[str]:
        """Move the root where most paths lead to files outside it, below one folder; return a sentence."""
        values = [(value, listed.start) for listed, sample in zip(lists, samples, strict=True) for value in sample]
        inside = sum(any(self.files.exists(start + one) for one in self.files.variants_of(value)) for value, start in values)
        led = [path for value, start in values if (path := self._led_outside(value, start))]
        if not led or len(led) < _USUAL * len(values) or inside >= len(led):
            return []
        folder = common_folder(led)
        if folder is None:
            return []
        how = "absolute, below" if all(os.path.isabs(value) or "://" in value for value, _ in values[:1]) else "those of files below"
        self.files.move(folder, None)
        return [f"{lists[0].name}: its paths are {how} {folder}."]

    def _led_outside(self, value: str, start: str) -> str | None:
        """Return the existing file outside the root that an absolute path, or one with '..', leads to."""
        for one in self.files.variants_of(value):
            path = os.path.normpath(self.files.root.absolute() / start / one)
            if (
                (os.path.isabs(one) or ".." in one.split("/"))
                and os.path.isfile(path)
                and not Path(path).is_relative_to(self.files.root.absolute())
            ):
                return path
        return None

    def _look_above(self, lists: Sequence[Listed], samples: list[list[str]]) -> str:
        """Look above a folder of tables where nothing was found below it; return a sentence where most files are there.

        Above a folder of any other name that is only a hint: the files may be another data set's.
        """
        values = [(value, listed.split) for listed, sample in zip(lists, samples, strict=True) for value in sample if "://" not in value]
        kept, sure = (self.files.root, self.files.others), True
        for _ in range(_LEVELS):
            sure = sure and holds_tables(self.files.root.absolute().name)
            folder = above(self.files.root.absolute())
            files = files_below(folder) if folder and values else None
            if not folder or not files:
                break
            self.files.move(folder, files)
            if sum(bool(self._tails(value, split)) for value, split in values) >= _USUAL * len(values):
                if sure:
                    return f"no file of {lists[0].name} is below {kept[0]}; they were found below {folder}."
                self._hint = f"; there are files of these names below {folder}: give that folder if they are meant"
                break
        self.files.move(*kept)
        return ""


def _sample(values: Iterable[str]) -> list[str]:
    """Return some different values, from all over the list."""
    distinct = list(dict.fromkeys(value for value in values if value))
    return distinct[:: -(-len(distinct) // _SAMPLE)] if distinct else []


def _relative(prefix: str, start: str) -> str:
    return f"its paths are relative to {prefix or 'the folder above'}" if prefix != start else ""


def _exchanged(cut: str, prefix: str) -> str:
    if not cut:
        return f"its paths are relative to {prefix}"
    return f"{cut!r} was exchanged for {prefix!r} at the front of its paths" if prefix else f"{cut!r} was cut from the front of its paths"


def refuse_ambiguous(table: str, found: Sequence[Located]) -> None:
    """Refuse a manifest of whose names many stand for several files each.

    Raises:
        DataError: more than one in twenty does.
    """
    several = [one for one in found if one.reason == "ambiguous_path"]
    if len(several) > 0.05 * len(found):
        raise DataError(
            f"{table}: {len(several)} of {len(found)} names stand for several files each: a row {several[0].words}. "
            "Write the folder into the column as well, or leave only one of the folders."
        )
