"""Translation memories: TMX, an XML file of units that hold a text in several languages (LISA TMX 1.4b)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never, Self
from xml.parsers import expat

from pretune.errors import DataError
from pretune.formats.files import ending
from pretune.sources.layouts._base import DataPlace, OwnLayout
from pretune.sources.split_names import split_of_file
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.translations import Bitext, TranslationPair, direction, is_wanted
from pretune.types import LedgerEntry

_MARKUP = frozenset(("bpt", "ept", "it", "ph", "ut"))
"""Elements of a text that hold codes of its formatting, and no text."""
_UNTRANSLATED = frozenset(("", "*all*", "all"))


@dataclass(frozen=True, kw_only=True)
class TranslationMemory(OwnLayout):
    """One TMX file, or those of a folder."""

    root: Path
    files: tuple[Path, ...]
    wanted: TargetType | None

    @classmethod
    def recognise(cls, place: DataPlace) -> Self | None:
        """Return the files that end in .tmx."""
        if place.modality not in (None, "text") or (place.target is not None and not is_wanted(place.target)):
            return None
        if place.path.is_dir():
            files = tuple(place.tree.path(file) for file in place.tree.files if ending(file.parts[-1]) == ".tmx")
        else:
            files = (place.path,) if ending(place.path.name) == ".tmx" else ()
        root = place.path if place.path.is_dir() else place.path.parent
        return cls(columns=place.columns, modality="text", root=root, files=files, wanted=place.target) if files else None

    def read(self, target: TargetType | None) -> Table:
        """Return a row for each unit that has a text in both languages.

        Raises:
            DataError: a file is no XML, or declares entities of its own.
        """
        memories = [(path, _read(path)) for path in self.files]
        names = list(dict.fromkeys(name for _, memory in memories for name in memory.names))
        if len(names) < 2:
            raise DataError(f"{self.files[0]} has {'one language' if names else 'no texts'}: a translation needs two.")
        source = memories[0][1].source
        if source in names and len(names) == 2:
            names.sort(key=lambda name: name != source)
        ordered = f"srclang={source!r}" if source in names else "the order of the languages in the file"
        way = direction(names, self.wanted, self.columns, [], ordered=ordered)
        shown = ", ".join(path.name for path in self.files)
        bitext = Bitext(root=self.root, layout=f"translation memory {shown}", direction=way)
        for path, memory in memories:
            split = split_of_file(path.stem) if len(self.files) > 1 and self.columns.split != "new" else None
            for at, unit in enumerate(memory.units, start=1):
                item = f"{path.relative_to(self.root).as_posix()}:{at}"
                if way.source in unit and way.target in unit:
                    bitext.pairs.append(TranslationPair(item, unit[way.source][0], tuple(unit[way.target]), split))
                else:
                    lacks = way.target if way.source in unit else way.source
                    detail = f"unit {at} of {path.name} has no text in {lacks!r}"
                    bitext.ledger.append(LedgerEntry(item=item, action="dropped", reason="missing_side", detail=detail))
        return bitext.table(target)


@dataclass(kw_only=True)
class _Units:
    """What a TMX file holds."""

    source: str = ""
    units: list[dict[str, list[str]]] = field(default_factory=list)
    """Of each unit the texts by language."""

    @property
    def names(self) -> Iterator[str]:
        """The languages, each as often as it occurs."""
        return (name for unit in self.units for name in unit)


class _Reader:
    """Takes the elements of a file one by one, so that a large one needs no tree."""

    def __init__(self) -> None:
        self.memory, self.language = _Units(), ""
        self.text: list[str] | None = None
        self.markup = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "header":
            source = attributes.get("srclang", "")
            self.memory.source = "" if source.casefold() in _UNTRANSLATED else source
        elif name == "tu":
            self.memory.units.append({})
        elif name == "tuv":
            self.language = attributes.get("xml:lang") or attributes.get("lang") or ""
        elif name == "seg":
            self.text = []
        elif name in _MARKUP:
            self.markup += 1

    def end(self, name: str) -> None:
        if name == "seg" and self.text is not None and self.memory.units and self.language:
            self.memory.units[-1].setdefault(self.language, []).append("".join(self.text))
            self.text = None
        elif name in _MARKUP:
            self.markup -= 1

    def data(self, text: str) -> None:
        if self.text is not None and not self.markup:
            self.text.append(text)


def _read(path: Path) -> _Units:
    """Return what a file holds; entities of its own, which could grow without end or name other files, are refused.

    Raises:
        DataError: it has such, or is no whole XML file.
    """

    def refuse(*_: object) -> Never:
        raise DataError(f"{path} declares entities of its own, which translation memories do not need; it is not read.")

    reader, parser = _Reader(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = reader.start, reader.end, reader.data
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path} is no whole XML file ({error}). Export the memory again.") from None
    return reader.memory
