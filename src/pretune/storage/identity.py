"""What a computation's result depends on besides its data: the code that is loaded, the structure of a network, library versions.

Caches are keyed by it. A wrong difference costs time, a wrong equality a wrong result: what cannot be distinguished with certainty
counts as different.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_PRETUNE = Path(__file__).parents[1]
_LIBRARIES = frozenset(("pretune", "torch", "torchvision", "torchaudio", "timm", "transformers", "tokenizers", "numpy", "scipy", "PIL"))
"""Packages that are known by their version wherever they are installed; pretune itself by its files."""
_DEEPEST = 8
"""Nesting of attributes that is looked into; what lies deeper is known by its type."""
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_forward_hooks", "_forward_pre_hooks"}
"""Attributes of every nn.Module that decide nothing of what it computes in eval mode, or are looked at elsewhere."""


def versions(*names: str) -> dict[str, str | None]:
    """Return the installed version of each distribution, None where it is not installed."""
    return {name: _version(name) for name in names}


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return getattr(sys.modules.get(name), "__version__", None)


@functools.cache
def code_of_package(*folders: str) -> str:
    """Return a hash of the source files in some of pretune's own folders; of single files where they are named.

    Raises:
        FileNotFoundError: there is no such file or folder: a key that lacks its code would make different results equal.
    """
    digest = hashlib.sha256(sys.version.encode())
    for folder in folders:
        path = _PRETUNE / folder
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(_PRETUNE)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def code_of(*found: Any) -> str:
    """Return a hash of the code behind classes and functions: a person's own by what is loaded, that of libraries by version.

    A person's module counts with its source and its functions' byte code, and so do the person's other modules that it imports.
    """
    facts: dict[str, Any] = {"python": sys.version}
    waiting = [name for thing in found for name in _modules_of(thing)]
    while waiting:
        name = waiting.pop()
        if name in facts:
            continue
        module = sys.modules.get(name)
        if module is None or _is_library(module):
            facts[name] = _version(name.partition(".")[0])
        else:
            facts[name] = _own(module)
            waiting += [other for value in vars(module).values() for other in _modules_of(value)]
    return _digest(sorted(facts.items()))


def structure(*modules: nn.Module) -> str:
    """Return a hash of what networks compute besides their weights: types, order, and every attribute that is no parameter.

    The code of their classes is part of it (see `code_of`); so are buffers that a state dict leaves out.
    """
    seen: set[int] = set()
    facts = [_described(module, 0, seen) for module in modules]
    inside = [part for module in modules for part in module.modules()]
    functions = [value for part in inside for value in vars(part).values() if callable(value) and not isinstance(value, nn.Module)]
    return _digest([facts, code_of(*map(type, inside), *functions)])


# --- code ----------------------------------------------------------------------------------------


def _modules_of(thing: Any) -> list[str]:
    """Return the names of the modules that a class (with its bases), a function or a module is defined in."""
    if isinstance(thing, types.ModuleType):
        return [thing.__name__]
    if isinstance(thing, type):
        return [base.__module__ for base in thing.__mro__]
    if isinstance(thing, functools.partial):
        return _modules_of(thing.func)
    return [thing.__module__] if callable(thing) and isinstance(getattr(thing, "__module__", None), str) else []


def _is_library(module: types.ModuleType) -> bool:
    """Return whether a module is known by a version: built in, of the standard library, or installed."""
    top = module.__name__.partition(".")[0]
    if top in _LIBRARIES or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    file = getattr(module, "__file__", None)
    if file is None:
        return top in sys.builtin_module_names
    return any(Path(file).is_relative_to(folder) for folder in _installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    return tuple({sysconfig.get_paths()[key] for key in ("purelib", "platlib")})


def _own(module: types.ModuleType) -> Any:
    """Return the source of a module, and the byte code of what is loaded: the file may have been edited since."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):  # typed in, or no longer there
        source = ""
    here = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    return [hashlib.sha256(source.encode("utf-8", "replace")).hexdigest(), [_code(value) for value in here]]


def _code(value: Any) -> Any:
    """Return the byte code of a function, or of the functions of a class."""
    if isinstance(value, type):
        return [value.__qualname__, [[name, _code(part)] for name, part in sorted(vars(value).items()) if not name.startswith("__weak")]]
    if isinstance(value, staticmethod | classmethod):
        return _code(value.__func__)
    if isinstance(value, property):
        return [_code(part) for part in (value.fget, value.fset)]
    inner = getattr(value, "__wrapped__", None)
    if isinstance(value, types.FunctionType):
        return [_bytecode(value.__code__), _described(value.__defaults__, 1, set()), None if inner is None else _code(inner)]
    return None if inner is None else _code(inner)


def _bytecode(code: types.CodeType) -> Any:
    constants = [_bytecode(c) if isinstance(c, types.CodeType) else _described(c, 1, set()) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names), list(code.co_varnames), list(code.co_freevars)]


# --- structure -----------------------------------------------------------------------------------


def _described(value: Any, depth: int, seen: set[int]) -> Any:
    """Return what a value is, without addresses: equal descriptions compute alike."""
    if value is None or isinstance(value, bool | int | float | str | bytes | complex):
        return [type(value).__name__, repr(value)]
    if isinstance(value, torch.Tensor | np.ndarray):
        return _array(value)
    if isinstance(value, torch.dtype | torch.device | torch.Size | np.dtype):
        return str(value)
    if isinstance(value, types.FunctionType | types.MethodType):
        return _function(value, depth, seen)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    if depth > _DEEPEST or id(value) in seen:
        return _name(value)
    seen.add(id(value))
    return [_name(value), _parts(value, depth + 1, seen)]


def _parts(value: Any, depth: int, seen: set[int]) -> Any:
    """Return what a container or an object holds."""
    if isinstance(value, nn.Module):
        own = {key: part for key, part in vars(value).items() if key not in _OF_EVERY_MODULE}
        kept = value._non_persistent_buffers_set
        return [
            [[name, _described(child, depth - 1, seen)] for name, child in value._modules.items()],  # however deep: modules are what counts
            [[name, None if p is None else [str(p.dtype), list(p.shape)]] for name, p in value._parameters.items()],
            [[name, _described(value._buffers[name], depth, seen)] for name in sorted(kept)],
            _described_items(own.items(), depth, seen),
        ]
    if isinstance(value, dict):
        return _described_items(value.items(), depth, seen)
    if isinstance(value, set | frozenset):
        return sorted(str(_described(part, depth, seen)) for part in value)
    if isinstance(value, list | tuple):
        return [_described(part, depth, seen) for part in value]
    if isinstance(value, functools.partial):
        return [_described(part, depth, seen) for part in (value.func, value.args, value.keywords)]
    if dataclasses.is_dataclass(value):
        return [[f.name, _described(getattr(value, f.name, None), depth, seen)] for f in dataclasses.fields(value)]
    return _described_items(vars(value).items(), depth, seen) if hasattr(value, "__dict__") else None


def _described_items(items: Iterable[tuple[Any, Any]], depth: int, seen: set[int]) -> Any:
    return [[_described(key, depth, seen), _described(part, depth, seen)] for key, part in items]


def _function(value: Any, depth: int, seen: set[int]) -> Any:
    """Return a function's name, byte code, defaults and what it closes over."""
    plain = value.__func__ if isinstance(value, types.MethodType) else value
    if depth > _DEEPEST or id(plain) in seen:
        return f"{plain.__module__}.{plain.__qualname__}"
    seen.add(id(plain))
    closed = [cell.cell_contents for cell in plain.__closure__ or () if not _is_empty(cell)]
    return [f"{plain.__module__}.{plain.__qualname__}", _code(plain), [_described(part, depth + 1, seen) for part in closed]]


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell  # never, but it is an error where there is nothing
    except ValueError:
        return True


def _array(value: torch.Tensor | np.ndarray) -> Any:
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        raw = (flat.int_repr() if flat.is_quantized else flat.view(torch.uint8)).numpy().tobytes()
    else:
        raw = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
    return [str(value.dtype), list(value.shape), hashlib.sha256(raw).hexdigest()]


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _digest(facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode("utf-8", "backslashreplace")).hexdigest()
