"""Detectors of torchvision: the network before its feature pyramid as stages, everything after it as torchvision has it.

Their own forward pass computes losses in training mode and chooses boxes in eval mode; only the resizing of images and the
network that the maps come from are taken out of it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pretune.architectures.layers.detector import DetectionTargets, LibraryDetector, LibraryLayers, Supplied
from pretune.backbones._base import Backbone, Builder, Classes, Classifier, TensorStage, load_matching
from pretune.backbones._cut import Uninitialised
from pretune.backbones._maps import KeptMaps
from pretune.errors import WeightsError
from pretune.kernels.depthwise import quicken
from pretune.modalities.image import Image

_OTHERS = ("maskrcnn", "keypointrcnn")
"""Networks that learn masks or key points too, which data of boxes do not have."""
_LEAST = 0.01
"""Score from which boxes are kept: average precision counts the unlikely ones too."""
_FIRST = "stem"
_CLASS_TENSOR = re.compile(r"(roi_heads\.box_predictor\.cls_score|head\.classification_head\.(cls_logits|module_list\.0(\.1)?))\.bias")
"""The name of a tensor with a row for each class, of which each network has one."""


def names() -> list[str]:
    """Return the detectors of boxes that torchvision has."""
    from torchvision import models

    return [name for name in models.list_models(module=models.detection) if not name.startswith(_OTHERS)]


def assemble(
    state: Mapping[str, Tensor] | None, origin: str, *, network: str, weights: Any, known: Sequence[str] | None, image_size: int | None
) -> Backbone:
    """Return a detector as a backbone, its own layers being the classifier.

    Args:
        state: tensors in torchvision's names; None for random weights.
        origin: where they come from, for messages.
        network: name of the network.
        weights: the published ones whose preprocessing and number of classes apply.
        known: names of the classes in the order of the outputs, 'background' among them; None where nobody knows them.
        image_size: height and width of the input in pixels; None for that of the weights.

    Raises:
        WeightsError: tensors are missing or have another shape.
    """
    make = partial(_made, network, weights.name)
    count = len(weights.meta["categories"]) if state is None or known is not None else _count(make, state, origin)
    with Uninitialised() if state is not None else nullcontext():
        made = make(count)
    report = None if state is None else load_matching(made, dict(state), source=origin)
    image = _image(made, image_size)
    stages, levels, width = _stages(made)
    build = partial(_layers, network, weights.name)
    own = TorchvisionDetector(made, count - _has_background(made), image.size, partial(build, size=image.size))
    backbone = Backbone(
        stages=stages,
        modality=image,
        layout="map",
        width=width,
        builder=Builder(id=f"torchvision:{network}@{weights.name}"),
        classifier=None if state is None else Classifier(layer=own, classes=_names_of(known, own, count)),
    )
    backbone.report, backbone.detector = report, LibraryLayers(stages=levels, build=build)
    quicken(backbone.stages)
    return backbone


class TorchvisionDetector(LibraryDetector):
    """What follows the network in one of torchvision's detectors."""

    per_class = ("bbox_pred",)

    def __init__(self, network: Any, classes: int, size: int, build: Any) -> None:
        super().__init__(classes, size)
        self._build = build
        self.background = "first" if _has_background(network) else ""
        network.transform = _AsGiven()
        owner, name = _where(network)
        self.supplied = Supplied(_by_number)
        setattr(owner, name, self.supplied)
        chooses = network.roi_heads if hasattr(network, "roi_heads") else network
        chooses.score_thresh = min(chooses.score_thresh, _LEAST)
        self.network = network

    def losses(self, maps: Sequence[Tensor], targets: Sequence[DetectionTargets]) -> dict[str, Tensor]:
        """Return the losses of the network by their own names."""
        first = int(self.background == "first")
        return self._run(maps, [{"boxes": one.boxes, "labels": one.classes + first} for one in targets])

    def found(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the boxes that the network keeps."""
        first = int(self.background == "first")
        return [
            torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None].to(one["boxes"]) - first], 1)
            for one in self._run(maps, None)
        ]

    def rebuilt(self, classes: int) -> LibraryDetector:
        """Return the same layers for another number of classes."""
        return self._build(classes)

    def _run(self, maps: Sequence[Tensor], targets: list[dict[str, Tensor]] | None) -> Any:
        self.supplied.hold(maps)
        blank = maps[0].new_zeros(()).expand(3, self.size, self.size)
        return self.network([blank] * len(maps[0]), targets)


class _AsGiven(nn.Module):
    """Takes the place of torchvision's resizing: the maps are those of images of the right size already."""

    def forward(self, images: list[Tensor], targets: Any) -> tuple[Any, Any]:
        from torchvision.models.detection.image_list import ImageList

        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        return ImageList(images[0].expand(len(images), *images[0].shape), sizes), targets

    def postprocess(self, found: Any, *sizes: Any) -> Any:
        """Return boxes as they are, in pixels of the input."""
        return found


def _made(network: str, weights: str, count: int) -> Any:
    """Return a network with as many rows of scores as `count`."""
    from torchvision import models

    made = models.get_model_builder(network)(weights=None, weights_backbone=None, num_classes=count)
    if weights == "COCO_V1" and network in ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn"):
        for module in made.modules():  # these weights were trained with frozen norms without an epsilon
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    return made


def _layers(network: str, weights: str, classes: int, size: int) -> TorchvisionDetector:
    made = _made(network, weights, classes)
    if _has_background(made):
        made = _made(network, weights, classes + 1)
    return TorchvisionDetector(made, classes, size, partial(_layers, network, weights, size=size))


def _has_background(network: nn.Module) -> bool:
    """Return whether the scores are a softmax, with a row of no class: not where they are sigmoids, as in RetinaNet and FCOS."""
    from torchvision.models.detection import FCOS, RetinaNet

    return not isinstance(network, FCOS | RetinaNet)


def _where(network: Any) -> tuple[Any, str]:
    """Return the module that holds the network before the feature pyramid, and its name there; SSD has no pyramid."""
    return (network.backbone, "body") if hasattr(network.backbone, "body") else (network, "backbone")


def _by_number(maps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
    """Return maps under the names that torchvision's networks give them."""
    return OrderedDict((str(number), one) for number, one in enumerate(maps))


def _values(maps: Mapping[str, Tensor]) -> list[Tensor]:
    return list(maps.values())


def _stages(network: Any) -> tuple[Iterable[tuple[str, nn.Module]], tuple[str, ...], int]:
    """Return the stages before the detector's own layers, those whose maps it takes, and the channels of the last one."""
    from torchvision.models.detection._utils import retrieve_out_channels

    owner, name = _where(network)
    body = getattr(owner, name)
    if name == "backbone":
        size = network.transform.fixed_size
        return [("extractor", KeptMaps(body, _values))], (), retrieve_out_channels(body, size)[-1]
    children = list(body.items())
    first = next((at for at, (child, _) in enumerate(children) if child in ("layer1", "0")), 0)
    stem = [(_FIRST, nn.Sequential(OrderedDict(children[:first])))] if first else []
    stages = [(child, TensorStage(module, "map")) for child, module in [*stem, *children[first:]]]
    return stages, tuple(body.return_layers), network.backbone.fpn.inner_blocks[-1][0].in_channels


def _image(network: Any, image_size: int | None) -> Image:
    """Return the preprocessing of the network's own transform: images of one size are squashed, others are padded to a square."""
    own = network.transform
    size = image_size or (own.fixed_size[0] if own.fixed_size else own.min_size[-1])
    mean, std = tuple(map(float, own.image_mean)), tuple(map(float, own.image_std))
    return Image(size=size, resize=size, mean=mean, std=std, interpolation="bilinear", fit="squash" if own.fixed_size else "pad")


def _count(make: Any, state: Mapping[str, Tensor], origin: str) -> int:
    """Return how many rows of scores the classifier of a state dict has for each anchor.

    Raises:
        WeightsError: it has none.
    """
    name = next(filter(_CLASS_TENSOR.fullmatch, state), None)
    own = None if name is None else make(2).state_dict().get(name)
    if name is None or own is None:
        raise WeightsError(f"{origin} has no layer of class scores in torchvision's names. Name the architecture it was trained with.")
    return len(state[name]) // (len(own) // 2)


def _names_of(known: Sequence[str] | None, own: TorchvisionDetector, count: int) -> Classes:
    named = tuple(known) if known is not None else tuple(f"class {number}" for number in range(count))
    return named[1:] if own.background else named
