"""All networks of timm, `NAME` or `NAME.TAG`; downloaded because you named one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretune.backbones._base import Backbone, BackboneSource, Builder, Classes, LoadReport, require_finite, require_floats
from pretune.backbones._cut import Uninitialised
from pretune.backbones._fetch import absent, fetch, find
from pretune.backbones._imagenet import imagenet_classes
from pretune.backbones._prefixes import fit
from pretune.backbones._states import State, read_state
from pretune.errors import SettingError, WeightsError, did_you_mean
from pretune.modalities.image import Image
from pretune.modalities.transforms.geometry import Fit

_FILES = ("model.safetensors", "pytorch_model.bin")
_NO_LICENCE = "not stated by timm"
_SIZE = "its size is told while it is fetched"
_LEAST = 64
"""Pixels of the image with which a cut of a network that takes any size is checked."""


_FITS: dict[str, Fit] = {"squash": "squash", "border": "pad"}
"""timm's words for how an image becomes a square -> ours."""


@dataclass(frozen=True, kw_only=True)
class Timm(BackboneSource):
    """`timm:NAME`: a network of timm with its default weights, or those of a tag after the dot."""

    def names(self, pattern: str = "") -> list[str]:
        """Return the names with pretrained weights that hold `pattern`."""
        import timm

        return [name for name in timm.list_pretrained() if pattern in name]

    def load(self, name: str, *, offline: bool = False, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the backbone with its pretrained weights, downloading them if they are not on this machine."""
        facts = _facts(name)
        if not (facts.hf_hub_id or facts.url):
            raise SettingError(f"timm:{name} has no pretrained weights; for fresh ones write scratch:timm:{name}")
        path = _file(name, facts, offline)
        classes = imagenet_classes if facts.num_classes == 1000 else None
        backbone = assemble(read_state(path).tensors, str(path), network=name, image_size=image_size, classes=classes, **settings)
        assert backbone.report is not None
        backbone.report = replace(backbone.report, licence=facts.license or _NO_LICENCE)
        return backbone

    def build(self, name: str, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the same architecture with randomly initialised weights."""
        _facts(name)
        return assemble(None, "", network=name, image_size=image_size, **settings)

    def from_state(self, name: str, state: State, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the architecture with tensors of the person's own; which classes their classifier knows is not known."""
        return assemble(state, state.source, network=name, image_size=image_size, classes=None, **settings)


def assemble(
    state: State | dict[str, Tensor] | None,
    origin: str,
    *,
    network: str,
    image_size: int | None = None,
    classes: Classes = imagenet_classes,
    **settings: Any,
) -> Backbone:
    """Return a timm network as a backbone.

    Args:
        state: a state dict in timm's names, or a file of the person's own in which they are looked for; None for random
            weights.
            Position tables are interpolated to the size.
        origin: where it comes from, for messages.
        network: timm's name, with or without a tag.
        image_size: pixels; None for what the weights were trained with.
        classes: names of the classifier's classes, where `state` has the classifier.
        settings: further arguments of `timm.create_model`.
    """
    from pretune.backbones._timm_cuts import cut

    facts = _facts(network)
    fixed = {"img_size": image_size} if image_size is not None and facts.fixed_input_size else {}
    has_head = True
    if isinstance(state, State):
        state, origin, has_head = _fitted(network, facts, state, {**fixed, **settings})
    made, report = _make(network, state, origin, {**fixed, **settings})
    image = _image(network, facts, image_size)
    pieces = cut(made, image.size if facts.fixed_input_size else min(image.size, max(_LEAST, (facts.min_input_size or (0, 0))[-1])))
    if state is None or not has_head:
        pieces = replace(pieces, classifier=None)
    return pieces.backbone(
        image=image,
        builder=Builder(id=f"timm:{network}", settings=settings),
        classes=classes,
        report=report,
    )


def _facts(name: str) -> Any:
    """Return timm's PretrainedCfg of a name."""
    import timm
    from timm.models import get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise SettingError(f"timm has no network {architecture!r}. {did_you_mean(architecture, timm.list_models())}")
    if tag and not timm.models.is_model_pretrained(name):
        known = timm.list_pretrained(f"{architecture}.*")
        raise SettingError(f"timm:{architecture} has no weights {tag!r}. {did_you_mean(name, known)}")
    return get_pretrained_cfg(name, allow_unregistered=True) or timm.models.PretrainedCfg()


def _fitted(network: str, facts: Any, state: State, settings: dict[str, Any]) -> tuple[dict[str, Tensor], str, bool]:
    """Return a file's tensors by timm's names, what they are for people, and whether a classifier of timm's shape is among them.

    timm loads all or nothing: where the file has no such classifier, zeros stand for it, and it is not used.
    """
    with Uninitialised():
        own = _made(network, settings, pretrained=False).state_dict()
    names = facts.classifier if isinstance(facts.classifier, tuple | list) else (facts.classifier,)
    head = tuple(f"{name}." for name in names if name)
    fitted = fit(state, own, head)
    tensors = dict(fitted.tensors)
    require_floats(own, tensors, fitted.source)
    lacking = {name: torch.zeros_like(own[name]) for name in own if name.startswith(head) and _shape(tensors, name) != own[name].shape}
    known = sum(name in tensors for name in own)
    if known <= len(own) // 2:  # names of another library, which timm converts itself
        return tensors, fitted.source, True
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(head) or name in own} | lacking
    return tensors, fitted.source, not lacking


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _made(network: str, settings: dict[str, Any], **options: Any) -> torch.nn.Module:
    import timm

    reserved = inspect.signature(timm.create_model).parameters.keys() & settings  # files, addresses, and what is chosen here
    if reserved:
        raise SettingError(f"timm:{network} does not take {', '.join(sorted(reserved))}: weights are named by the backbone itself.")
    try:
        return timm.create_model(network, **options, **settings)
    except TypeError as error:
        raise SettingError(f"timm:{network} does not take these settings: {error}.") from None
    except (AssertionError, ValueError) as error:
        raise SettingError(f"timm:{network} cannot be made so: {error}") from None


def _make(
    network: str, state: dict[str, Tensor] | None, origin: str, settings: dict[str, Any]
) -> tuple[torch.nn.Module, LoadReport | None]:
    options = None if state is None else {"state_dict": state, "custom_load": False}
    try:
        made = _made(network, settings, pretrained=state is not None, pretrained_cfg_overlay=options)
    except RuntimeError as error:
        if state is None:
            raise
        first = " ".join(str(error).split())[:300]
        cure = "Name the architecture these weights were trained with."
        raise WeightsError(f"{origin} does not fit timm's {network}: {first}. {cure}") from None
    if state is None:
        return made, None
    own = made.state_dict()
    require_floats(own, state, origin)
    require_finite(made, own, origin)
    return made, LoadReport(source=origin, matched=len(own))


def _image(name: str, facts: Any, image_size: int | None) -> Image:
    if facts.input_size[0] != 3:
        raise SettingError(f"timm:{name} takes pictures of {facts.input_size[0]} channels, and only RGB is read here. Take another.")
    size = image_size or facts.input_size[-1]
    return Image(
        size=size,
        resize=max(size, int(size / facts.crop_pct)),
        mean=tuple(facts.mean),
        std=tuple(facts.std),
        interpolation=facts.interpolation if facts.interpolation in ("bicubic", "bilinear", "nearest") else "bicubic",
        fit=_FITS.get(facts.crop_mode, "crop"),
    )


def _file(name: str, facts: Any, offline: bool) -> Path:
    """Return the weights file, fetched where it is not here."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT

    full = f"{facts.architecture or name}.{facts.tag}" if facts.tag else name
    own = f"{full}.safetensors"
    if not facts.hf_hub_id:
        return _file_at(f"timm:{name}", facts, own, offline)
    files = [facts.hf_hub_filename] if facts.hf_hub_filename else list(_FILES)
    cached = [try_to_load_from_cache(facts.hf_hub_id, file) for file in files]
    path = find(own, next((Path(c) for c in cached if isinstance(c, str)), None))
    if path is not None:
        return path
    address = f"{ENDPOINT}/{facts.hf_hub_id}/resolve/main/{files[0]}"
    if offline:
        raise absent(f"timm:{name}", address, own, f"the Hugging Face cache entry of {facts.hf_hub_id}")
    return fetch(f"timm:{name}", address, _SIZE, facts.license or _NO_LICENCE, lambda: Path(hf_hub_download(facts.hf_hub_id, files[0])))


def _file_at(id: str, facts: Any, own: str, offline: bool) -> Path:
    """Return a file that timm keeps at a plain address."""
    kept = Path(torch.hub.get_dir()) / "checkpoints" / facts.url.rpartition("/")[2]
    path = find(own, kept)
    if path is None and offline:
        raise absent(id, facts.url, own, str(kept))
    return path or fetch(id, facts.url, _SIZE, facts.license or _NO_LICENCE, lambda: _download(facts.url, kept))


def _download(url: str, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(to))
    return to
