"""NanoDet-g, which detects the 80 classes of COCO, from the TensorFlow.js file of an npm package.

The file is a graph whose constants are read by name; nothing in it is run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pretune.architectures.layers import csp
from pretune.architectures.layers.dense import DenseHead, DenseShape
from pretune.backbones._base import Backbone, Builder, Classifier, load_matching
from pretune.errors import WeightsError
from pretune.modalities.image import Image

COCO = tuple(
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench bird cat dog "
    "horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite "
    "baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl banana apple sandwich "
    "orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table toilet tv laptop mouse remote keyboard "
    "cell_phone microwave oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush".replace(
        "_", "\0"
    ).split()
)
COCO = tuple(name.replace("\0", " ") for name in COCO)
"""The classes, in the order of the outputs."""
SIZE = 416
SHAPE = DenseShape(channels=(128, 256, 512), strides=(8, 16, 32), norm=False, shared=False)
_BGR_MEAN, _BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
_DTYPES = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "uint8": np.uint8, "uint16": np.uint16, "bool": np.bool_}
_BIASES = (*range(0, 56, 2), 60, 62, 66, 68, 70, 72)
"""Numbers of the constants that are the biases, in the order of the kernels."""


def assemble(state: dict[str, Tensor] | None, origin: str) -> Backbone:
    """Return NanoDet's backbone; its detecting head is the classifier.

    Args:
        state: tensors as `read` returns them; None for randomly initialised weights.
        origin: where they come from, for messages.
    """
    network = nn.ModuleDict({"body": nn.ModuleDict(dict(csp.stages())), "head": DenseHead(SHAPE, len(COCO))})
    report = None if state is None else load_matching(network, state, source=origin)
    body, head = network["body"], network["head"]
    assert isinstance(body, nn.ModuleDict)
    backbone = Backbone(
        stages=body.items(),
        modality=_image(),
        layout="map",
        width=SHAPE.channels[-1],
        builder=Builder(id="package:nanodet"),
        classifier=None if state is None else Classifier(layer=head, classes=COCO),
    )
    backbone.report, backbone.detector = report, SHAPE
    return backbone


def _image() -> Image:
    """Return the preprocessing: the first kernel's channels are turned to RGB when the file is read."""
    mean, std = (tuple(value / 255 for value in reversed(three)) for three in (_BGR_MEAN, _BGR_STD))
    return Image(size=SIZE, resize=SIZE, mean=mean, std=std, interpolation="bilinear", fit="pad")


def read(parts: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return the tensors of the graph file and its binary, under the names of our modules.

    Raises:
        WeightsError: the files do not hold the constants of NanoDet-g.
    """
    graph, binary = parts
    constants = _constants(json.loads(graph.read_text(encoding="utf-8")), binary.read_bytes())
    names = _names()
    try:
        kernels = [constants["PartitionedCall/split" + (f"_{number}" if number else "")] for number in range(len(names))]
        biases = [constants[f"unknown_{number}"] for number in _BIASES]
    except KeyError as error:
        raise WeightsError(f"{graph} holds no constant {error}: it is not the graph of NanoDet-g.") from error
    out = {}
    for name, kernel, bias in zip(names, kernels, biases, strict=True):
        out[f"{name}.weight"] = torch.from_numpy(kernel.astype(np.float32)).permute(3, 2, 0, 1).contiguous()
        out[f"{name}.bias"] = torch.from_numpy(bias.astype(np.float32))
    first = f"{names[0]}.weight"
    out[first] = out[first].flip(1)  # trained on blue, green, red
    return out


def _names() -> list[str]:
    """Return the modules of the kernels in the file's order."""
    body = [name.removesuffix(".weight") for name, _ in nn.ModuleDict(dict(csp.stages())).named_parameters() if name.endswith(".weight")]
    head = [f"head.lateral.{level}" for level in range(3)]
    towers = [name for level in range(3) for name in (f"head.towers.{level}.0", f"head.outputs.{level}")]
    return [*(f"body.{name}" for name in body), *head, *towers]


def _constants(graph: dict[str, Any], binary: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a TensorFlow.js weights manifest by name, those that are quantised as float32."""
    out, start = {}, 0
    for group in graph["weightsManifest"]:
        for entry in group["weights"]:
            quantised = entry.get("quantization")
            stored = np.dtype(_DTYPES[quantised["dtype"] if quantised else entry["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            array = np.frombuffer(binary, stored, count, start).reshape(entry["shape"])
            start += array.nbytes
            if quantised and "scale" in quantised:
                array = array.astype(np.float32) * quantised["scale"] + quantised["min"]
            out[entry["name"]] = array
    return out
