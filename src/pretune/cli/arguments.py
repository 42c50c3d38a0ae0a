"""A command line in its parts: verb, words, recipe files, settings, flags."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pretune import hints
from pretune.cli import verbs
from pretune.errors import SettingError, did_you_mean

USAGE = "usage: pretune COMMAND [DATA|RUN] [recipe.toml] [key=value …] [--json] [--offline]"
FLAGS = {
    "--json": "json",
    "--offline": "offline",
    "--help": "help",
    "-h": "help",
    "-?": "help",
    "--version": "version",
    "-V": "version",
    "-v": "version",
}
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


@dataclass(kw_only=True)
class Arguments:
    """A parsed command line."""

    verb: str
    words: list[str] = field(default_factory=list)
    """Positional words: data, runs, files."""
    recipes: list[str] = field(default_factory=list)
    """TOML files."""
    settings: list[str] = field(default_factory=list)
    """key=value."""
    json: bool = False
    offline: bool = False
    help: bool = False
    version: bool = False


def parse(argv: Sequence[str]) -> Arguments:
    """Return the parsed words.

    Raises:
        SettingError: an unknown verb or flag; says what to write instead.
    """
    out = Arguments(verb="")
    words = list(argv)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    rest_is_words = False
    for place, word in enumerate(words):
        if rest_is_words:
            _place(out, word) if not out.verb else out.words.append(word)
        elif not word.startswith("-") or word == "-":
            _place(out, word)
        elif word == "--":
            rest_is_words = True
        elif word in FLAGS:
            setattr(out, FLAGS[word], True)
        else:
            raise _unknown_flag(out.verb, word, words[place + 1 :])
    if out.verb:
        verbs.refuse_unknown(out.verb, [word for word in words if word != out.verb])
    return out


def _place(out: Arguments, word: str) -> None:
    head = word.partition("=")[0]
    if not out.verb:
        out.verb = word
    elif "=" in word and not os.path.exists(word) and _KEY.fullmatch(head):
        out.settings.append(word)
    elif word.endswith(".toml"):
        out.recipes.append(word)
    else:
        out.words.append(word)


def _unknown_flag(verb: str, word: str, rest: list[str]) -> SettingError:
    """Return the error of a flag that there is not: most are settings, which are written without dashes."""
    key, equals, value = word.lstrip("-").partition("=")
    key = key.replace("-", "_")
    if not equals:
        value = rest[0] if rest and not rest[0].startswith("-") and "=" not in rest[0] else "…"
    if verb in verbs.VERBS and (settings := verbs.settings_of(verb)) is not None:
        known = verbs.keys_of(verb)
        ours = hints.renamed(key, known)
        if ours is not None:
            return SettingError(f"unknown option {word!r}. Settings are written key=value: {hints.written(ours, value)}")
        if (meant := hints.meant(settings, key, value)) is not None:
            return SettingError(f"unknown option {word!r}. {meant}")
    flags = did_you_mean(word if len(word) > 2 else "", ["--json", "--offline", "--help", "--version"])
    return SettingError(f"unknown option {word!r}. {flags} Settings are written key=value, for example epochs=3.")
