"""Which modules a command may import: those that the person names in it, never one that only a file names."""

from __future__ import annotations

import sys
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pretune import registry
from pretune.backbones._load import split_settings
from pretune.backbones.file import imported, split_id
from pretune.errors import SettingError

_TRUSTED: ContextVar[frozenset[str]] = ContextVar("modules that this command trusts", default=frozenset())


def modules_of(setting: str | Collection[str]) -> tuple[str, ...]:
    """Return the modules that `trust=` names: 'my_module', 'a,b', or a sequence of them.

    Raises:
        SettingError: one is not the name of a module.
    """
    named = setting.split(",") if isinstance(setting, str) else setting
    modules = tuple(name.strip() for name in named if name.strip())
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise SettingError(f"trust={module} is not the name of a module, such as my_module.")
    return modules


@contextmanager
def trusting(modules: Collection[str]) -> Generator[None]:
    """Within this context, run folders may be built by these modules: those that the person named in this command."""
    token = _TRUSTED.set(_TRUSTED.get() | frozenset(modules))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def modules_in(tree: Any) -> set[str]:
    """Return the modules of the person's own that settings name anywhere, as 'file:PATH@my_module:make_model' does."""
    if isinstance(tree, str):
        call = _call_in(tree)
        return {call[0]} if call else set()
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return {module for part in parts for module in modules_in(part)}


def _call_in(id: str) -> tuple[str, str] | None:
    """Return module and function that an id names; None where it names none."""
    kind, _, name = id.partition(":")
    if kind != "file" or "@" not in name:
        return None
    try:
        _, network = split_id(split_settings(name)[0])
    except SettingError:  # no such id, whatever it is
        return None
    module, _, function = network.partition(":")
    return None if module in registry.names("backbones") else (module, function)


def require_trust(tree: Any, where: Path) -> None:
    """Refuse settings out of a run folder where one would import a module that the person has not named.

    Args:
        tree: an id, or tables and lists that may hold ids anywhere.
        where: the file that says so, for the message.

    Raises:
        SettingError: says what it would import, and how to allow it.
    """
    if not isinstance(tree, str):
        for part in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ():
            require_trust(part, where)
        return
    call = _call_in(tree)
    if call is not None:
        _require(*call, where)


def _require(module: str, function: str, where: Path) -> None:
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise SettingError(
            f"{where} would call {module}:{function}, which is part of Python and makes no network. It was not called. Do not use this run."
        )
    if module not in _TRUSTED.get():
        raise SettingError(
            f"{where} needs {module}:{function}, Python code outside of pretune. A run folder does not decide which code runs: "
            f"where you know {module} and trust it, add trust={module} to this command."
        )
    home = getattr(imported(module, function), "__module__", None)
    if not isinstance(home, str) or home.partition(".")[0] != module.partition(".")[0]:
        raise SettingError(f"{where} would call {module}:{function}, which {module} only imports from elsewhere. It was not called.")
