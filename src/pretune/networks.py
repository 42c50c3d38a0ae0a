"""Names of networks, read from the files of the packages that have them: nothing heavy is imported, nothing is downloaded."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from pretune import registry
from pretune.errors import SettingError, did_you_mean

_HUB = re.compile(
    r"(distil|al|ro|xlm-ro)?bert|gpt|t5|bart|electra|deberta|wav2vec|hubert|wavlm|whisper|llama|smollm|qwen|mpnet|minilm|vit-|opt-"
)
"""What the names of Hugging Face's text and audio models begin with, or hold."""


@functools.cache
def torchvision() -> frozenset[str]:
    """Return the names of torchvision's classification networks; none where it is not installed."""
    return _defined("torchvision", r"@register_model\(.*\)\n(?:@.*\n)*def (\w+)\(")


@functools.cache
def timm() -> frozenset[str]:
    """Return the names of timm's networks; none where it is not installed."""
    return _defined("timm", r"@register_model\n(?:@.*\n)*def (\w+)\(")


def _defined(package: str, pattern: str) -> frozenset[str]:
    return frozenset(name for path in _sources(package) for name in re.findall(pattern, path.read_text(encoding="utf-8")))


def _sources(package: str) -> list[Path]:
    """Return the files that define a package's networks."""
    found = find_spec(package)
    folders = found.submodule_search_locations if found else None
    return sorted(path for folder in folders or () for path in Path(folder, "models").glob("*.py"))


@functools.cache
def package() -> frozenset[str]:
    """Return the names of weights inside packages, installed or not, those of plug-ins too."""
    source = (Path(__file__).parent / "backbones" / "_packages.py").read_text(encoding="utf-8")
    tables = (node.value for node in ast.parse(source).body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TABLE")
    own = {key.value for table in tables if isinstance(table, ast.Dict) for key in table.keys if isinstance(key, ast.Constant)}
    return frozenset(map(str, own)) | {point.name for point in entry_points(group="pretune.weights")}


def scratch() -> frozenset[str]:
    """Return the names of our own architectures."""
    return frozenset(registry.names("architectures"))


_NAMES: dict[str, Callable[[], frozenset[str]]] = {"package": package, "torchvision": torchvision, "timm": timm, "scratch": scratch}


def ids_of(name: str) -> list[str]:
    """Return the ids of the networks of exactly this name, in the order in which they are worth trying."""
    ids = [f"{source}:{name}" for source, names in _NAMES.items() if name.partition(".")[0] in names()]
    return ids or ([f"transformers:{name}"] if "/" in name or _HUB.search(name.lower()) else [])


def refuse_unknown(id: str) -> None:
    """Refuse the id of a network that there cannot be; others are not checked here.

    Raises:
        SettingError: it is not SOURCE:NAME, or the source has no such name; the nearest is named first.
    """
    refuse_without_source(id)
    kind, _, name = id.partition(":")
    plain = re.split(r"[,@.:]", name, maxsplit=1)[0]
    if kind in ("torchvision", "timm") and _is_absent(kind, plain):
        raise SettingError(f"{kind} has no network {plain!r}. {did_you_mean(plain, sorted(_NAMES[kind]()))}")
    if kind == "package" and plain not in package():
        raise SettingError(f"no package backbone is called {plain!r}. {did_you_mean(plain, sorted(package()))}")


def refuse_without_source(id: str) -> None:
    """Refuse an id that is not SOURCE:NAME.

    Raises:
        SettingError: names the sources that have a network of that name.
    """
    kind, colon, name = id.partition(":")
    sources = registry.names("backbones")
    if kind in sources and colon and name:
        return
    ids = ids_of(id) if not colon else []
    meant = f" Networks of that name: {', '.join(ids)}." if ids else ""
    raise SettingError(f"backbone={id} is not SOURCE:NAME.{meant} {did_you_mean(kind, sources)}")


def _is_absent(source: str, name: str) -> bool:
    """Return whether a name is nowhere in the files that define a source's networks; a package that is not there decides nothing."""
    paths = _sources(source)
    return bool(paths) and not any(name in path.read_text(encoding="utf-8") for path in paths)
