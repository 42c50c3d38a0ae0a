"""Randomly initialised weights: `cnn`, any other architecture of ours, or `torchvision:NAME` and `timm:NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pretune import config, registry
from pretune.backbones._architectures import wrap
from pretune.backbones._base import Backbone, BackboneSource, Builder, load_matching
from pretune.backbones._prefixes import fit
from pretune.backbones._states import State
from pretune.errors import SettingError, did_you_mean

_OTHERS = ("torchvision", "timm")


@dataclass(frozen=True, kw_only=True)
class ScratchSource(BackboneSource):
    """`scratch:NAME`, sizes after commas: `scratch:cnn,width=64,depth=3`."""

    def names(self, pattern: str = "") -> list[str]:
        """Return the architectures of our own."""
        return [name for name in registry.names("architectures") if pattern in name]

    def load(self, name: str, *, offline: bool = True, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the backbone with randomly initialised weights; there is nothing to download."""
        return self.build(name, image_size=image_size, **settings)

    def build(self, name: str, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the backbone with randomly initialised weights."""
        source, colon, rest = name.partition(":")
        if colon and source in _OTHERS:
            other: BackboneSource = registry.load("backbones", source)()
            backbone = other.build(rest, image_size=image_size, **settings)
        else:
            backbone = _own(name, image_size, settings)
        backbone.builder = Builder(id=f"scratch:{name}", settings=backbone.builder.settings)
        return backbone

    def from_state(self, name: str, state: State, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the backbone with tensors of the person's own, named as those of its stages."""
        backbone = self.build(name, image_size=image_size, **settings)
        fitted = fit(state, backbone.stages.state_dict())
        backbone.report = load_matching(backbone.stages, fitted.tensors, source=fitted.source)
        return backbone


def _own(name: str, image_size: int | None, settings: dict[str, Any]) -> Backbone:
    known = registry.names("architectures")
    if name not in known:
        others = ", ".join(f"scratch:{other}:NAME" for other in _OTHERS)
        raise SettingError(f"no architecture is called {name!r}. {did_you_mean(name, known)} Or {others}.")
    cls = registry.load("architectures", name)
    if image_size is not None and "size" in config.keys(cls):
        settings = {**settings, "size": image_size}
    sizes: Any = config.build(cls, settings, f"scratch:{name}")
    backbone = wrap(sizes, sizes.build())
    if image_size is not None and "size" not in config.keys(cls):
        from pretune.backbones._load import resized

        backbone.modality = resized(backbone, image_size)
    return backbone
