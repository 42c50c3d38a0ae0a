"""All classification networks and detectors of torchvision, `NAME` or `NAME@IMAGENET1K_V1`; downloaded because you named one."""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones import _torchvision_detectors
from pretune.backbones._base import Backbone, BackboneSource, Builder, Classes, LoadReport, load_matching
from pretune.backbones._cut import Uninitialised
from pretune.backbones._fetch import absent, fetch, find, verify
from pretune.backbones._imagenet import imagenet_classes
from pretune.backbones._prefixes import fit
from pretune.backbones._states import State, read_state
from pretune.errors import SettingError, did_you_mean
from pretune.modalities.image import Image

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Further classifiers of GoogLeNet and Inception, used only while they were trained."""


@dataclass(frozen=True, kw_only=True)
class Torchvision(BackboneSource):
    """`torchvision:NAME`: the best weights of a network, or those after '@'."""

    def names(self, pattern: str = "") -> list[str]:
        """Return the networks whose name holds `pattern`."""
        return [name for name in (*_names(), *_torchvision_detectors.names()) if pattern in name]

    def load(self, name: str, *, offline: bool = False, image_size: int | None = None) -> Backbone:
        """Return the backbone with its pretrained weights, downloading them if they are not on this machine."""
        network, weights = _named(name)
        path = _file(f"torchvision:{name}", weights, offline)
        tensors = read_state(path).tensors
        if network in _torchvision_detectors.names():
            backbone = _detector(network, weights, image_size, tensors, str(path), weights.meta["categories"])
        else:
            backbone = assemble(tensors, str(path), network=network, weights=weights.name, image_size=image_size)
        assert backbone.report is not None
        backbone.report = replace(backbone.report, licence=_licence(weights))
        return backbone

    def build(self, name: str, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the same architecture with randomly initialised weights."""
        network, weights = _named(name)
        if network in _torchvision_detectors.names():
            _refuse_settings(name, settings)
            return _detector(network, weights, image_size)
        return assemble(None, "", network=network, weights=weights.name, image_size=image_size, **settings)

    def from_state(self, name: str, state: State, *, image_size: int | None = None, **settings: Any) -> Backbone:
        """Return the architecture with tensors of the person's own; which classes their classifier knows is not known."""
        network, weights = _named(name)
        if network in _torchvision_detectors.names():
            _refuse_settings(name, settings)
            return _detector(network, weights, image_size, state.tensors, state.source)
        options = {"network": network, "weights": weights.name, "image_size": image_size, **settings}
        return assemble(state, state.source, classes=None, **options)


def assemble(
    state: State | dict[str, Tensor] | None,
    origin: str,
    *,
    network: str,
    weights: str = "DEFAULT",
    image_size: int | None = None,
    classes: Classes = imagenet_classes,
    **settings: Any,
) -> Backbone:
    """Return a torchvision network as a backbone.

    Args:
        state: a state dict in torchvision's names, or a file of the person's own in which they are looked for; None for random
            weights.
        origin: where it comes from, for messages.
        network: name of the network.
        weights: name of the published weights whose preprocessing applies.
        image_size: pixels; None for what those weights were trained with.
        classes: names of the classifier's classes, where `state` has the classifier.
        settings: further arguments of the network's function.
    """
    from pretune.backbones._torchvision_cuts import cut

    image = _image(_named(f"{network}@{weights}")[1], image_size)
    with Uninitialised() if state is not None else nullcontext():
        made = _make(network, image, settings)
    cut_up = cut(made)
    report = None
    if state is not None:
        loaded = state if isinstance(state, State) else State(tensors=state, source=origin)
        report, has_head = _fill(made, cut_up.classifier, loaded, image)
        cut_up = cut_up if has_head else replace(cut_up, classifier=None)
    pretrained = cut_up.classifier is not None and state is not None
    return replace(cut_up, classifier=cut_up.classifier if pretrained else None).backbone(
        image=image,
        builder=Builder(id=f"torchvision:{network}@{weights}", settings=settings),
        classes=classes,
        report=report,
    )


def _detector(
    network: str,
    weights: Any,
    image_size: int | None,
    tensors: dict[str, Tensor] | None = None,
    origin: str = "",
    known: Sequence[str] | None = None,
) -> Backbone:
    return _torchvision_detectors.assemble(tensors, origin, network=network, weights=weights, known=known, image_size=image_size)


def _refuse_settings(name: str, settings: Mapping[str, Any]) -> None:
    if settings:
        raise SettingError(f"torchvision:{name} takes no settings; got {', '.join(settings)}.")


def _names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _named(name: str) -> tuple[str, Any]:
    """Return the network's name and its weights entry for 'NAME' or 'NAME@WEIGHTS'."""
    from torchvision import models

    network, _, tag = name.partition("@")
    every = [*_names(), *_torchvision_detectors.names()]
    if network not in every:
        raise SettingError(f"torchvision has no classification network or detector {network!r}. {did_you_mean(network, every)}")
    known = models.get_model_weights(network)
    tag = tag.upper() or "DEFAULT"
    if tag not in known.__members__:
        raise SettingError(f"torchvision:{network} has no weights {tag!r}. {did_you_mean(tag, known.__members__)}")
    return network, known[tag]


def _image(weights: Any, image_size: int | None) -> Image:
    asked = weights.transforms()
    size, resize = asked.crop_size[0], asked.resize_size[0]
    if image_size is not None:
        size, resize = image_size, max(image_size, round(image_size * resize / size))
    return Image(size=size, resize=resize, mean=tuple(asked.mean), std=tuple(asked.std), interpolation=asked.interpolation.value)


def _make(network: str, image: Image, settings: dict[str, Any]) -> nn.Module:
    from torchvision import models

    builder = models.get_model_builder(network)
    family = builder.__module__.rpartition(".")[2]
    if family == "vision_transformer":
        settings = {"image_size": image.size, **settings}
    elif family == "maxvit":
        settings = {"input_size": (image.size, image.size), **settings}
    elif family in ("googlenet", "inception"):
        settings = {"aux_logits": False, "transform_input": True, "init_weights": True, **settings}
    try:
        return builder(weights=None, **settings)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise SettingError(f"torchvision:{network} cannot be made for image_size={image.size}: {str(error).splitlines()[0]}") from None
    except TypeError as error:
        raise SettingError(f"torchvision:{network} does not take these settings: {error}.") from None


def _in_new_names(network: nn.Module, state: State) -> State:
    """Return the state in today's names: the published DenseNets still say norm.1 where the network says norm1."""
    if type(network).__module__.rpartition(".")[2] != "densenet":
        return state
    tensors, found = (
        {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", name): tensor for name, tensor in entries.items()}
        for entries in (state.tensors, state.found)
    )
    return replace(state, tensors=tensors, found=found)


def _interpolated(network: nn.Module, image: Image, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the position table of a ViT interpolated to the image size."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    if type(network).__module__.rpartition(".")[2] != "vision_transformer" or "encoder.pos_embedding" not in tensors:
        return tensors
    vit: Any = network
    return dict(interpolate_embeddings(image.size, vit.patch_size, OrderedDict(tensors)))


def _fill(network: nn.Module, classifier: nn.Linear | None, state: State, image: Image) -> tuple[LoadReport, bool]:
    """Load the state; also return whether it has the classifier."""
    name = next((name for name, module in network.named_modules() if module is classifier), "classifier")
    head = (f"{name}.", *_AUXILIARY)
    fitted = fit(_in_new_names(network, state), network.state_dict(), head)
    tensors = _interpolated(network, image, fitted.tensors)
    report = load_matching(network, tensors, source=fitted.source, head=head)
    weight = tensors.get(f"{name}.weight")
    return report, classifier is not None and weight is not None and weight.shape == classifier.weight.shape


def _file(id: str, weights: Any, offline: bool) -> Path:
    """Return the weights file, verified, fetched where it is not here."""
    name = weights.url.rpartition("/")[2]
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    prefix = match[1] if (match := re.search(r"-([0-9a-f]{8,})\.", name)) else ""
    path = find(name, kept)
    if path is None and offline:
        raise absent(id, weights.url, name, str(kept))
    if path is None:
        size = f"{weights.meta['_file_size']:.0f} MB"
        path = fetch(id, weights.url, size, _licence(weights), lambda: _download(weights.url, kept, prefix))
    verify(path, prefix, "fetch it again")
    return path


def _download(url: str, to: Path, prefix: str) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(to), hash_prefix=prefix or None, progress=sys.stderr.isatty())
    return to


def _licence(weights: Any) -> str:
    return weights.meta.get("license", "BSD-3-Clause; trained on ImageNet-1k, whose terms apply")
