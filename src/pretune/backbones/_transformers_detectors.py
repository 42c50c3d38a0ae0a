"""Detectors of `transformers` (DETR and its relatives, YOLOS): the backbone as a stage, everything after it as that library has it.

Losses, with their matching of queries to objects, are the network's own. Boxes are kept as each family's image processor does:
the best class of each query where scores are a softmax over the classes and no object, the best pairs of query and class where
they are sigmoids.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretune.architectures.layers.detector import DetectionTargets, LibraryDetector, LibraryLayers, Supplied
from pretune.backbones._base import Backbone, Builder, Classifier
from pretune.backbones._maps import KeptMaps
from pretune.backbones._padding import KeptMapsWithContent, at_origin, mask
from pretune.backbones._transformers_text import SAVED_WITH, pretrained
from pretune.errors import WeightsError
from pretune.modalities.image import Image
from pretune.types import Layout

FAMILIES = (
    *("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "deimv2", "detr", "lw_detr", "rf_detr", "rt_detr", "rt_detr_v2"),
    *("table-transformer", "yolos"),
)
"""Values of `model_type`."""
_MASKED = ("conditional_detr", "dab-detr", "deformable_detr", "detr", "table-transformer")
"""Those that were trained with a mask of what is no padding, and whose boxes are shares of the image without its padding."""
_SECOND = ("use_pretrained_backbone", "use_timm_backbone")
"""Entries by which the library would fetch weights of a backbone, which the detector's own files have."""
_MOST = 100
"""Boxes of an image that are kept at most."""
_LEAST = 0.01
"""Score below which nothing is kept."""
_SIDE = 800
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def without_second(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config by which no weights of a backbone are fetched before the detector's own are read."""
    return {key: False if key == "use_pretrained_backbone" else _without_second_in(value) for key, value in config.items()}


def _without_second_in(value: Any) -> Any:
    return without_second(value) if isinstance(value, Mapping) else value


def without_mention(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the entries that name a backbone's library."""
    return {key: without_mention(value) if isinstance(value, Mapping) else value for key, value in config.items() if key not in _SECOND}


def load(config: Mapping[str, Any], preprocessor: Mapping[str, Any], where: Path) -> Backbone:
    """Return the detector of a folder; its own layers are the classifier.

    Raises:
        WeightsError: tensors are missing or misshapen, or the network has no backbone that can be told from the rest.
    """
    from transformers import AutoModelForObjectDetection

    network, report = pretrained(where, AutoModelForObjectDetection, settings=_settings(config), attention="eager")
    backbone = _assembled(network, config, preprocessor, trained=True)
    backbone.report = report
    return backbone


def build(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Backbone:
    """Return the architecture that a config.json describes, with randomly initialised weights."""
    return _assembled(_made(config, None), config, preprocessor, trained=False)


class TransformersDetector(LibraryDetector):
    """What follows the backbone in a detector of `transformers`."""

    background = "last"

    def __init__(self, network: Any, config: Mapping[str, Any], size: int) -> None:
        super().__init__(int(network.config.num_labels), size)
        self._config = config
        self._masked = config.get("model_type") in _MASKED
        owner, name = _where(network)
        self.supplied = Supplied(_sequence if name == "vit" else _maps)
        setattr(owner, name, self.supplied)
        self.network = network

    def losses(self, maps: Sequence[Tensor], targets: Sequence[DetectionTargets]) -> dict[str, Tensor]:
        """Return the network's loss, in which its parts have their weights."""
        maps, content_B4 = self._placed(maps)
        pairs = zip(targets, content_B4, strict=True)
        labels = [{"class_labels": one.classes, "boxes": _relative(one.boxes, content_4)} for one, content_4 in pairs]
        return {"loss": self._run(maps, content_B4, labels).loss}

    def found(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the likeliest boxes, the best first."""
        maps, content_B4 = self._placed(maps)
        out = self._run(maps, content_B4, None)
        origin_B14, far_B14 = (one.repeat(1, 2)[:, None] for one in content_B4.split(2, 1))
        corners_BQ4 = origin_B14 + _corners(out.pred_boxes) * (far_B14 - origin_B14)
        no_object = out.logits.shape[-1] > self.classes
        scores_BQC = out.logits.softmax(-1)[..., :-1] if no_object else out.logits.sigmoid()
        return [_kept(scores_QC, corners_Q4, no_object) for scores_QC, corners_Q4 in zip(scores_BQC, corners_BQ4, strict=True)]

    def rebuilt(self, classes: int) -> LibraryDetector:
        """Return the same layers for another number of classes."""
        return TransformersDetector(_made(self._config, classes), self._config, self.size)

    def width(self, rows: int, classes: int) -> int:
        """Return all rows: tensors of scores have one a class, and one more in some networks."""
        return rows

    def _placed(self, maps: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor]:
        """Return the maps as the network takes them, and what of the input its boxes are shares of: (B, 4) in pixels."""
        if self._masked:
            return at_origin(maps[:-1], maps[-1], self.size)
        return maps, maps[0].new_tensor([0, 0, self.size, self.size]).expand(len(maps[0]), 4)

    def _run(self, maps: Sequence[Tensor], content_B4: Tensor, labels: list[dict[str, Tensor]] | None) -> Any:
        self.supplied.hold(maps)
        blank = maps[0].new_zeros(()).expand(len(maps[0]), 3, self.size, self.size)
        masked = {"pixel_mask": mask(content_B4, self.size)} if self._masked else {}
        return self.network(pixel_values=blank, labels=labels, **masked)


def _assembled(network: Any, config: Mapping[str, Any], preprocessor: Mapping[str, Any], *, trained: bool) -> Backbone:
    image = _image(preprocessor)
    owner, name = _where(network)
    layout: Layout = "sequence" if name == "vit" else "map"
    stage = _stage(getattr(owner, name), config, image, layout)
    count = int(network.config.num_labels)
    names = tuple(str(network.config.id2label.get(number, f"class {number}")) for number in range(count))
    own = TransformersDetector(network, config, image.size)
    backbone = Backbone(
        stages=[("network", stage)],
        modality=image,
        layout=layout,
        width=_width(stage, image.size, layout),
        builder=Builder(id="", settings={"config": dict(config), "preprocessor": dict(preprocessor)}),
        classifier=Classifier(layer=own, classes=names) if trained else None,
    )
    backbone.detector = LibraryLayers(stages=(), build=partial(_layers, dict(config)))
    return backbone


def _stage(network: nn.Module, config: Mapping[str, Any], image: Image, layout: Layout) -> KeptMaps:
    """Return the stage that keeps what the detector takes of its backbone."""
    if config.get("model_type") in _MASKED:
        return KeptMapsWithContent(network, _feature_maps, image.std)
    return KeptMaps(network, _feature_maps if layout == "map" else _hidden, layout)


def _layers(config: Mapping[str, Any], classes: int, size: int) -> TransformersDetector:
    return TransformersDetector(_made(config, classes), config, size)


def _made(config: Mapping[str, Any], classes: int | None) -> Any:
    """Return a network with randomly initialised weights, for other classes than the config's where a number is given."""
    from transformers import AutoModelForObjectDetection

    settings = _settings(config)
    if classes is not None:
        settings.num_labels = classes
    return AutoModelForObjectDetection.from_config(settings, attn_implementation="eager", trust_remote_code=False)


def _settings(config: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**copy.deepcopy({key: value for key, value in config.items() if key not in SAVED_WITH}))


def _where(network: nn.Module) -> tuple[Any, str]:
    """Return the module that holds the backbone, and its name there.

    Raises:
        WeightsError: the network has none that can be told from the rest.
    """
    from transformers.backbone_utils import BackboneMixin

    for module in network.modules():
        if hasattr(module, "vit"):
            return module, "vit"
        if type(module).__name__.endswith("ConvEncoder") and hasattr(module, "model"):
            return module, "model"
        name = next((name for name, child in module.named_children() if isinstance(child, BackboneMixin)), None)
        if name is not None:
            return module, name
    raise WeightsError(
        f"{type(network).__name__} has no backbone that could be told from its other layers, so it cannot be fine-tuned here."
    )


def _feature_maps(out: Any) -> list[Tensor]:
    """Return the maps of a backbone of the library, or of one that is timm's own."""
    return list(out.feature_maps if isinstance(out, dict) else out)


def _hidden(out: Any) -> list[Tensor]:
    return [out.last_hidden_state]


def _maps(maps: Sequence[Tensor]) -> Any:
    from transformers.modeling_outputs import BackboneOutput

    every: Any = tuple(maps)
    return BackboneOutput(feature_maps=every)


def _sequence(maps: Sequence[Tensor]) -> Any:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(last_hidden_state=maps[0])


@torch.no_grad()
def _width(stage: KeptMaps, size: int, layout: str) -> int:
    """Return the channels of the last map, found by running an empty image."""
    from pretune.types import Features

    mode = stage.training
    tensor = stage.eval()(Features(tensor=torch.zeros(1, 3, size, size), layout="map")).tensor
    stage.train(mode)
    return tensor.shape[1 if layout == "map" else -1]


def _image(preprocessor: Mapping[str, Any]) -> Image:
    """Return the preprocessing: images of a fixed height and width are squashed, others are padded to a square."""
    sizes = preprocessor.get("size", {})
    sizes = {"shortest_edge": sizes} if isinstance(sizes, int) else sizes
    fixed = "height" in sizes
    size = int(sizes["height"] if fixed else sizes.get("shortest_edge", _SIDE))
    mean, std = (tuple(map(float, preprocessor.get(key, other))) for key, other in zip(("image_mean", "image_std"), _IMAGENET, strict=True))
    if not preprocessor.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Image(size=size, resize=size, mean=mean, std=std, interpolation="bilinear", fit="squash" if fixed else "pad")


def _relative(boxes_N4: Tensor, content_4: Tensor) -> Tensor:
    """Return boxes as centre, width and height in shares of a rectangle."""
    low_N2, high_N2 = ((corner_N2 - content_4[:2]) / (content_4[2:] - content_4[:2]) for corner_N2 in boxes_N4.split(2, 1))
    return torch.cat([(low_N2 + high_N2) / 2, high_N2 - low_N2], 1)


def _corners(boxes_BQ4: Tensor) -> Tensor:
    centre_BQ2, half_BQ2 = boxes_BQ4[..., :2], boxes_BQ4[..., 2:] / 2
    return torch.cat([centre_BQ2 - half_BQ2, centre_BQ2 + half_BQ2], -1)


def _kept(scores_QC: Tensor, corners_Q4: Tensor, one_each: bool) -> Tensor:
    """Return boxes (K, 6) of one image: of each query its best class, or the best of all pairs."""
    count = scores_QC.shape[1]
    if one_each:
        scores, classes = scores_QC.max(1)
        scores, queries = scores.topk(min(_MOST, len(scores)))
        classes = classes[queries]
    else:
        scores, places = scores_QC.flatten().topk(min(_MOST, scores_QC.numel()))
        queries, classes = places // count, places % count
    found = torch.cat([corners_Q4[queries], scores[:, None], classes[:, None].to(scores)], 1)
    return found[scores > _LEAST]
