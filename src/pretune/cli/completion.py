"""pretune completion bash|zsh|fish: a script that completes commands, settings and their values in a shell."""

from __future__ import annotations

import shlex
import typing
from pathlib import Path
from typing import Any

from pretune import networks, registry
from pretune.cli.arguments import FLAGS, Arguments
from pretune.cli.help import inside_settings
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.errors import SettingError, did_you_mean
from pretune.schema import bare, fields_of, flat_homes, member_of, section_of, without_none

_BASH = r"""# pretune completion for bash: eval "$(pretune completion bash)" in ~/.bashrc
_pretune() {
    local line="${COMP_LINE:0:COMP_POINT}" reply IFS=$'\n'
    local word="${line##* }"
    local before="${word%"${word##*[=:]}"}"  # bash breaks words at = and :, and completes what is behind them
    COMPREPLY=()
    for reply in $(pretune completion suggest "$line" 2>/dev/null); do COMPREPLY+=("${reply#"$before"}"); done
    [[ ${COMPREPLY[0]} == *[=:.] ]] && compopt -o nospace
}
complete -o default -F _pretune pretune
"""
_ZSH = r"""# pretune completion for zsh: eval "$(pretune completion zsh)" in ~/.zshrc, after compinit
_pretune() {
    local -a found
    found=("${(@f)$(pretune completion suggest "$LBUFFER" 2>/dev/null)}")
    found=(${found:#})
    if (( $#found )); then compadd -Q -S '' -- $found; else _files; fi
}
compdef _pretune pretune
"""
_FISH = """# pretune completion for fish: pretune completion fish > ~/.config/fish/completions/pretune.fish
complete -c pretune -a '(pretune completion suggest (commandline -cp))'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(arguments: Arguments) -> dict[str, Any]:
    """Print the script of a shell, or (for the scripts) what may come next on a line."""
    shell = arguments.words[0]
    if shell == "suggest":
        found = suggestions(arguments.words[1] if len(arguments.words) > 1 else "")
        if not arguments.json:
            print("\n".join(found))
        return {"suggestions": found}
    if shell not in SCRIPTS:
        raise SettingError(f"there is no completion for {shell!r}. {did_you_mean(shell, SCRIPTS)}")
    if not arguments.json:
        print(SCRIPTS[shell], end="")
    return {"shell": shell, "script": SCRIPTS[shell]}


def suggestions(line: str) -> list[str]:
    """Return what the last word of a command line may become; nothing where it is a file or free text.

    Args:
        line: up to the cursor, its first word the command.
    """
    words = _split(line)
    last = "" if not line or line[-1].isspace() else words.pop()
    if len(words) < 2:
        return _beginning(last, [*VERBS, "help"]) if words else []
    verb, typed = words[1], words[2:]
    if last.startswith("-"):
        return _beginning(last, FLAGS)
    if verb not in VERBS:
        return []
    key, equals, value = last.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in _choices(verb, key, typed) if choice.startswith(value)]
    places = [word for word in typed if "=" not in word and not word.startswith("-")]
    if len(places) < VERBS[verb].words[0] or verb == "list":
        return _beginning(last, _names(verb, len(places)))
    return _beginning(last, [f"{known}=" for known in [*keys_of(verb), *_inner_keys(verb, typed)]])


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation that is still open
        return line.split()


def _beginning(start: str, names: typing.Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _names(verb: str, place: int) -> list[str]:
    """Return the names that a word may have: runs, components; none for files."""
    if verb == "list" and not place:
        members = (name for family in registry.FAMILIES for name in registry.names(family))
        return list(dict.fromkeys([*registry.FAMILIES, *members]))
    reads_run = verb in ("predict", "evaluate", "generate", "inspect") and not place
    return sorted(path.parent.as_posix() for path in Path("runs").glob("*/recipe.json")) if reads_run else []


def _inner_keys(verb: str, typed: list[str]) -> list[str]:
    """Return the keys of sections, and of the components that the line names."""
    chosen = dict(word.split("=", 1) for word in typed if "=" in word)
    inside = [one for one in inside_settings(verb) if not one.name or one.name in chosen.get(one.key, "").split(",")]
    return [f"{one.prefix}.{setting.key}" for one in inside for setting in one.settings]


def _choices(verb: str, key: str, typed: list[str]) -> list[str]:
    """Return the values that a setting may have, where they can be listed."""
    cls = settings_of(verb)
    if cls is None or key.partition(".")[0] not in keys_of(verb):
        return []
    if key == "backbone":
        return [*(f"package:{name}" for name in sorted(networks.package())), *(f"{kind}:" for kind in registry.names("backbones"))]
    head, dot, _ = key.partition(".")
    if dot:
        found = [s.type for one in inside_settings(verb) for s in one.settings if f"{one.prefix}.{s.key}" == key]
        return found[0].split(" | ") if found and " | " in found[0] else []
    home = flat_homes(cls).get(head)
    annotation = fields_of(bare(fields_of(cls)[home])[0] if home else cls)[head]
    member, section = member_of(annotation), section_of(annotation)
    if member is not None:
        return registry.names(member.family)
    annotation = fields_of(section).get("name", annotation) if section else annotation
    kinds = without_none(bare(annotation)[0])
    literal = [str(choice) for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)]
    return literal or (["true", "false"] if bool in kinds else [])
