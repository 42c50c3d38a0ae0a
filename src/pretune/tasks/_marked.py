"""Text with marked passages: how a task shows a prediction beside its target, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["", "right", "wrong", "missing"]
"""right: predicted, and in the target; wrong: predicted only; missing: in the target only; '' for what is neither."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of text that is shown in one way."""

    text: str
    mark: Mark = ""
    label: str = ""
    """Small print after the text: the type of an entity, say."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a comparison."""

    name: str
    """What it is: 'target', 'prediction', 'source' …"""
    passages: tuple[Passage, ...]


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A box that is drawn into the image of an example."""

    left: float
    """Sides as fractions of the image's width and height, 0 to 1."""
    top: float
    right: float
    bottom: float
    label: str = ""
    mark: Mark = ""
    """What the colour says; '' for what is true."""
