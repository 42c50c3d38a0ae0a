"""What a task fits on the training examples: the names of classes, scales, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a task fits on the training examples and a run saves with its weights; a task derives its own."""

    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the outputs; empty where there are none."""

    def __str__(self) -> str:
        return f"{len(self.classes)} classes"

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Return the space that a run saved; what other versions saved beside it is ignored.

        Raises:
            KeyError: a field is missing.
            ValueError: it makes no sense.
        """
        values = {field.name: saved[field.name] for field in fields(cls)}
        space = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        space.check()
        return space

    def check(self) -> None:
        """Raise ValueError where a saved space makes no sense."""
        classes = self.classes
        if not isinstance(classes, tuple) or not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
            raise ValueError("classes must be a list of names that differ")
