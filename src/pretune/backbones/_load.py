"""Backbones by id: 'source:name', with settings after commas ('scratch:cnn,width=64')."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pretune import registry
from pretune.architectures import Architecture
from pretune.backbones._base import Backbone, BackboneSource, Builder
from pretune.backbones._packages import entry, install_line, installed, preferred
from pretune.errors import SettingError, WeightsError
from pretune.networks import refuse_without_source


def load(id: str, *, offline: bool = False, image_size: int | None = None) -> Backbone:
    """Return a pretrained ((or randomly initialised)) backbone.

    Args:
        id: 'package:efficientnet_lite0', 'torchvision:resnet50', 'file:weights.pth@torchvision:resnet18', 'run:runs/a' …
        offline: never open a socket; what is not on this machine is an error.
        image_size: side of the square the network sees, in pixels; None for what the weights were trained with.

    Raises:
        SettingError: unknown source, name or setting (nearest first); a run would import a module that is not trusted (`trusting`).
        WeightsError: weights missing (says where to get them), corrupt or mismatched.
    """
    name, source, settings = _parse(id)
    make = _checked(source.load, id, settings)
    backbone = _sized(lambda **size: make(name, offline=offline, **settings, **size), source.load, image_size)
    return _remember_size(backbone, image_size)


def build(builder: Builder) -> Backbone:
    """Return the same architecture with randomly initialised weights and nothing downloaded."""
    name, source, settings = _parse(builder.id)
    settings |= builder.settings
    image_size = settings.pop("image_size", None)
    backbone = _sized(lambda **size: source.build(name, **settings, **size), source.build, image_size)
    return _remember_size(backbone, image_size)


def from_scratch(id: str, *, offline: bool = False, image_size: int | None = None) -> Backbone:
    """Return the architecture that an id names, with randomly initialised weights and the preprocessing of its weights.

    The weights need not be on this machine, and nothing is downloaded for them, except where the preprocessing lies beside
    them: a run's, or a package's tokenizer.
    """
    settings = {} if image_size is None else {"image_size": image_size}
    kind = id.partition(":")[0]
    built = None if kind == "run" else build(Builder(id=id, settings=settings))
    lacks_files = built is not None and kind == "package" and _lacks_files(built, id)
    if built is not None and not lacks_files:
        return built
    loaded = load(id, offline=offline, image_size=image_size)
    built = build(loaded.builder)
    built.modality = loaded.modality
    return built


def _lacks_files(built: Backbone, id: str) -> bool:
    """Return whether a package's preprocessing, or its decoder, needs files that lie beside its weights."""
    if built.modality.files():
        return False
    return built.modality.carries_files or (built.late_decoder is not None and installed(entry(_parse(id)[0])))


def default(modality: str, prefers: Sequence[str] = ()) -> str:
    """Return the id of the preferred installed package backbone of a modality.

    Args:
        modality: image, text or audio.
        prefers: names of packages that are taken before all others, where they are installed.

    Raises:
        WeightsError: none is installed; the message has the pip line.
    """
    name = next((name for name in prefers if installed(entry(name))), None) or preferred(modality)
    if name is not None:
        return f"package:{name}"
    line = install_line(modality)
    how = f"Install one: {line}" if line else "Name a backbone: backbone=…"
    raise WeightsError(f"no installed package holds {modality} weights. {how}")


def for_modality(id: str, modality: str) -> str:
    """Return the id of the network of that name which takes a modality: 'scratch:lstm' is 'scratch:audiolstm' for audio."""
    match = re.fullmatch(r"scratch:(\w+)(,.*)?", id)
    other = f"{modality}{match[1]}" if match else ""
    if match is None or match[1] not in registry.names("architectures") or other not in registry.names("architectures"):
        return id
    architecture: type[Architecture] = registry.load("architectures", match[1])
    return id if architecture.modality == modality else f"scratch:{other}{match[2] or ''}"


def _parse(id: str) -> tuple[str, BackboneSource, dict[str, Any]]:
    """Split 'source:name,key=value,…'."""
    refuse_without_source(id)
    kind, _, name = id.partition(":")
    name, settings = split_settings(name)
    source: BackboneSource = registry.load("backbones", kind)()
    return name, source, settings


def split_settings(name: str) -> tuple[str, dict[str, Any]]:
    """Split 'name,key=value,…'."""
    settings: dict[str, Any] = {}
    while match := re.search(r",([A-Za-z_]\w*)=([^,]*)$", name):
        name, settings = name[: match.start()], {match[1]: _literal(match[2]), **settings}
    return name, settings


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _checked(make: Callable[..., Backbone], id: str, settings: dict[str, Any]) -> Callable[..., Backbone]:
    parameters = inspect.signature(make).parameters.values()
    if settings and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise SettingError(f"backbone={id}: {id.partition(':')[0]} takes no settings after the name; got {', '.join(settings)}.")
    return make


def _sized(make: Callable[..., Backbone], takes: Callable[..., Backbone], image_size: int | None) -> Backbone:
    """Make the backbone for an image size: the source does it where it knows how, else only the preprocessing changes."""
    if image_size is None:
        return make()
    if "image_size" in inspect.signature(takes).parameters:
        return make(image_size=image_size)
    backbone = make()
    backbone.modality = resized(backbone, image_size)
    return backbone


def resized(backbone: Backbone, image_size: int) -> Any:
    """Return a backbone's image preprocessing at another size, the share that is cropped kept.

    Raises:
        SettingError: the backbone does not take images.
    """
    from pretune.modalities.image import Image

    image = backbone.modality
    if not isinstance(image, Image):
        raise SettingError(f"image_size={image_size} does not apply: {backbone.builder.id} does not take images.")
    return replace(image, size=image_size, resize=max(image_size, round(image_size * image.resize / image.size)))


def _remember_size(backbone: Backbone, image_size: int | None) -> Backbone:
    if image_size is not None:
        settings = {**backbone.builder.settings, "image_size": image_size}
        backbone.builder = replace(backbone.builder, settings=settings)
    return backbone
