"""What a task suggests where the person has not chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """How pretrained weights are used where the person names no strategy."""

    strategy: str
    why: str
    """Ends 'strategy full (the default here: …)'."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the strategy, where its own defaults are not meant."""
