"""The backbone of a finished run of ours: its weights and preprocessing, not its head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune.backbones._base import Backbone, BackboneSource
from pretune.backbones._folder import BUILDER, read
from pretune.errors import WeightsError


@dataclass(frozen=True, kw_only=True)
class RunSource(BackboneSource):
    """`run:PATH`, a run folder or the backbone/ folder in it."""

    def names(self, pattern: str = "") -> list[str]:
        """Return the run folders below runs/ that have a backbone."""
        found = (path.parent.parent.as_posix() for path in Path("runs").glob(f"*/backbone/{BUILDER}"))
        return sorted(name for name in found if pattern in name)

    def load(self, name: str, *, offline: bool = True) -> Backbone:
        """Return the backbone that the run saved; it keeps the id it was built by.

        Raises:
            WeightsError: no run is there, or its backbone does not fit.
            SettingError: it is built by a module that this command does not trust.
        """
        path = Path(name).expanduser()
        folder = path if (path / BUILDER).exists() else path / "backbone"
        if not (folder / BUILDER).exists():
            known = self.names()
            there = f" Runs here: {', '.join(known[:12])}." if known else ""
            raise WeightsError(f"run:{name} is not a run folder with a backbone: {folder / BUILDER} does not exist.{there}")
        return read(folder)

    def build(self, name: str, **settings: Any) -> Backbone:
        """Return the run's architecture with randomly initialised weights."""
        from pretune.backbones._load import build

        return build(self.load(name).builder)
