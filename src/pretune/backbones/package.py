"""Pretrained networks whose weights ship inside installed packages; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pretune.backbones._base import Backbone, BackboneSource, Builder
from pretune.backbones._packages import entry, function, install, installed, locate, locate_extra, origin, table


@dataclass(frozen=True, kw_only=True)
class Package(BackboneSource):
    """`package:NAME`, found through the package's metadata, pinned by sha256, never imported."""

    def names(self, pattern: str = "") -> list[str]:
        """Return the known names, installed or not."""
        return [name for name in table() if pattern in name]

    def facts(self, name: str) -> str:
        """Return what the weights are, their licence, and how they are installed where they are not."""
        weights = entry(name)
        here = "installed" if installed(weights) else f"not installed: {install(weights.files[0])}"
        return f"{weights.modality}; {weights.summary}; licence {weights.licence}; {here}"

    def load(self, name: str, *, offline: bool = True) -> Backbone:
        """Return the backbone with its weights; `offline` makes no difference.

        Raises:
            SettingError: unknown name.
            WeightsError: not installed (with the pip line), corrupt, or mismatched.
        """
        weights = entry(name)
        paths = locate(name, weights)
        extra = locate_extra(name, weights)
        state = function(weights.read)(paths)
        backbone: Backbone = function(weights.assemble)(state, origin(weights, paths), **weights.settings)
        if weights.decoder is not None:
            backbone = function(weights.decoder)(backbone, paths, weights.settings)
        if weights.finish is not None:
            backbone = function(weights.finish)(backbone, extra)
        assert backbone.report is not None
        pinned = next(shard.sha256 for mirror in weights.files for shard in mirror if shard.path.endswith(paths[0].name))
        backbone.report = replace(backbone.report, licence=weights.licence, sha256=pinned)
        backbone.builder = Builder(id=f"package:{name}", settings=dict(weights.settings))
        return backbone

    def build(self, name: str, **settings: Any) -> Backbone:
        """Return the same architecture with randomly initialised weights; the package need not be installed."""
        weights = entry(name)
        backbone: Backbone = function(weights.assemble)(None, "", **{**weights.settings, **settings})
        backbone.builder = Builder(id=f"package:{name}", settings={**weights.settings, **settings})
        return backbone
