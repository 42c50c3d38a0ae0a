"""What is wrong with a command line and can be reported before torch is loaded: keys, names, values, paths and runs that do not exist.

What needs the data or the network is refused later, by the code that reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretune import config, hints, networks, registry, saved, schema
from pretune.cli.arguments import Arguments
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.declared import declared, load
from pretune.errors import DataError, SettingError
from pretune.printable import path_word, shell_word
from pretune.sources.special import existing

_OF_A_RUN = {"predict": "model.json", "evaluate": "model.json", "generate": "model.json"}
"""The file without which a folder is not a run that a verb can read."""


def check(arguments: Arguments) -> None:
    """Refuse what can be refused now.

    Raises:
        RequestError: says what, where, and what to do.
    """
    verb, settings = arguments.verb, settings_of(arguments.verb)
    _refuse_words(arguments)
    if arguments.recipes and not VERBS[verb].reads_recipes:
        raise SettingError(f"{verb} reads no recipe file: {arguments.recipes[0]}.{_as_prompt(arguments, arguments.recipes[0])}")
    if settings is None:
        return
    tree: dict[str, Any] = {}
    for path in arguments.recipes:
        tree |= config.read_toml(Path(path))
    tree = config.override(tree, arguments.settings)
    if verb == "predict":
        _refuse_of_task(_task_of(arguments.words[0]).get("name", ""), settings, tree)
    if verb == "predict" and isinstance(tree.get("task"), dict):
        tree["task"] = _task_of(arguments.words[0]) | tree["task"]
    _refuse_unread(verb, tree)
    data = _data(arguments, tree)
    try:
        if VERBS[verb].reads_recipes:
            declared(f"{VERBS[verb].settings.partition(':')[0]}:built")(settings, tree | {"data": data or "."})
        else:
            config.build(settings, tree)
    except SettingError as error:
        raise SettingError(f"{error}{_as_prompt(arguments, next(iter(arguments.settings), ''))}") from None
    if data is None and VERBS[verb].reads_recipes:
        raise SettingError(f"no data given. {_capital(VERBS[verb].asks)}")
    _refuse_absent(arguments, data)
    for key, refuse in _REFUSES.items():
        for value in _named_values(key, tree.get(key)):
            refuse(value)


def _task_of(run: str) -> dict[str, Any]:
    """Return the name of a run's task, whose settings are given without it."""
    path = Path(run) / _OF_A_RUN["predict"]
    task = saved.json_of(path).get("task") if path.exists() else None
    return {"name": task["name"]} if isinstance(task, dict) and isinstance(task.get("name"), str) else {}


def _refuse_of_task(task: str, settings: type, tree: dict[str, Any]) -> None:
    """Refuse a setting of the run's task that is written without its section, and say how it is written.

    Raises:
        SettingError: names the key.
    """
    if task not in registry.names("tasks"):
        return
    known = schema.keys(load("tasks", task))
    for key in tree:
        if key not in schema.keys(settings) and key in known:
            raise SettingError(f"predict has no setting {key!r}: it is one of the run's task. Write task.{key}={tree[key]}.")


def _refuse_words(arguments: Arguments) -> None:
    """Refuse too few words or too many; of these, some are settings that were written in several words: `epochs 3`, `epochs = 3`."""
    known = VERBS[arguments.verb]
    least, most = known.words
    words = [word for word in arguments.words if word != "="]
    if least <= len(words) <= most:
        return
    for word, after in zip(words, [*words[1:], "…"], strict=True):
        name, sign, value = word.partition(":")
        key = hints.renamed(name.strip("="), keys_of(arguments.verb))
        if key is not None and len(words) > most:
            raise SettingError(f"{name} is a setting, which is written as one word: {key}={value if sign else after.strip('=')}")
    got = f" Got: {' '.join(map(shell_word, words))}" if len(words) > most else ""
    raise SettingError(f"{known.asks}.{got}")


def _refuse_unread(verb: str, tree: dict[str, Any]) -> None:
    """Refuse keys that the verb shares a class of settings with, and does not read."""
    cls = settings_of(verb)
    for key in tree:
        if cls is not None and key in config.keys(cls) and key not in (*keys_of(verb), "data"):
            raise SettingError(f"{key} is not used by {verb}; remove it. Its settings: pretune {verb} --help")


def _data(arguments: Arguments, tree: dict[str, Any]) -> str | None:
    """Return the data that the command names, and take them out of a recipe file's tables."""
    data = tree.pop("data", None) if VERBS[arguments.verb].reads_recipes else None
    place = {"audit": 0, "finetune": 0, "pretrain": 0, "predict": 1, "evaluate": 1}.get(arguments.verb, len(arguments.words))
    return arguments.words[place] if place < len(arguments.words) else data


def _refuse_absent(arguments: Arguments, data: str | None) -> None:
    """Refuse a run or data that do not exist."""
    needs = _OF_A_RUN.get(arguments.verb)
    if needs and not (Path(arguments.words[0]) / needs).exists():
        raise DataError(saved.unfinished(Path(arguments.words[0]), needs))
    if data is not None:
        existing(Path(data))


def _as_prompt(arguments: Arguments, prompt: str) -> str:
    """Return how a word is given as the prompt, where it may have been meant as one."""
    if arguments.verb != "generate" or len(arguments.words) != 1 or not prompt:
        return ""
    run = path_word(arguments.words[0])
    return f" If it is the prompt, put it behind two dashes: pretune generate {run} -- {shell_word(prompt)}"


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _named_values(key: str, value: Any) -> list[str]:
    """Return the texts that a setting names; none where it is left to its default."""
    found = value if isinstance(value, list) else [] if value is None else str(value).split(",") if key == "also" else [str(value)]
    return [str(one).strip() for one in found if str(one).strip() and str(one).lower() not in ("auto", "none")]


def _refuse_backbone(id: str) -> None:
    networks.refuse_unknown(id)
    kind, _, name = id.partition(":")
    run = Path(name).expanduser()
    if kind == "run" and not (run / "builder.json").exists() and not (run / "backbone" / "builder.json").exists():
        raise SettingError(f"backbone=run:{saved.unfinished(run, 'backbone/builder.json', 'a run with a backbone')}")


def _refuse_extended(run: str) -> None:
    if not (Path(run) / "recipe.json").exists():
        raise SettingError(f"extend={saved.unfinished(Path(run), 'recipe.json')}")


_REFUSES: dict[str, Callable[[str], object]] = {
    "backbone": _refuse_backbone,
    "extend": _refuse_extended,
    "then": lambda data: existing(Path(data)),
    "also": lambda data: existing(Path(data)),
}
"""What refuses a setting's value that names something that does not exist."""
