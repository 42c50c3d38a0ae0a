"""The backbone of a finished run of ours: its weights and preprocessing, not its head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.backbones._base import Backbone, BackboneSource
from pretune.backbones._folder import BUILDER, read
from pretune.backbones._run_decoder import give_decoder
from pretune.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_OUTPUT = "stages.head.scoring"
"""The tensor of a run's head that is the output layer of its network."""


def _output_layer(run: Path) -> Tensor:
    """Return the weight (V, D) by which a run's network scores tokens, where it has a layer of its own for that.

    Raises:
        WeightsError: the run has none.
    """
    from safetensors import safe_open

    for path in sorted(run.glob("weights/*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if _OUTPUT in file.keys():  # noqa: SIM118 - it is no dictionary
                return file.get_tensor(_OUTPUT).float()
    raise WeightsError(f"{run} was not trained to write, and its backbone comes without its output layer. Name the weights it came from.")


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
        backbone = read(folder)
        backbone.scoring = replace(backbone.scoring, layer=partial(_output_layer, folder.parent))
        give_decoder(backbone, folder.parent)
        return backbone

    def build(self, name: str, **settings: Any) -> Backbone:
        """Return the run's architecture with randomly initialised weights."""
        from pretune.backbones._load import build

        return build(self.load(name).builder)
