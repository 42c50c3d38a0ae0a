"""Detectors of torchvision and transformers: their own boxes and losses, their classes by name, the same verbs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from pretune import backbones, finetune
from pretune.architectures.layers.detector import DetectionTargets, LibraryDetector
from pretune.backbones import _torchvision_detectors as torchvision_detectors
from pretune.backbones._padding import content
from pretune.errors import SettingError
from pretune.labels import Labels, Ragged
from pretune.models import Model
from pretune.models.heads.detector import Detector, LibraryDetectorModule
from pretune.models.pyramid import maps
from pretune.tasks.detection import Detection
from pretune.types import Features
from tests.box_data import write_voc
from tests.command_line import pretune

SIDE = 64
NOTHING = DetectionTargets(boxes=torch.zeros(0, 4), classes=torch.zeros(0, dtype=torch.long), ignored=torch.zeros(0, 4))
SOMETHING = replace(NOTHING, boxes=torch.tensor([[8.0, 8, 40, 40], [20, 30, 60, 62]]), classes=torch.tensor([0, 2]))


def around(backbone: backbones.Backbone, classes: int = 3) -> tuple[Model, LibraryDetectorModule, LibraryDetector]:
    model = Model(backbone, Detector(), classes, layout="pyramid").eval()
    assert isinstance(model.head, LibraryDetectorModule)
    pretrained = backbone.classifier
    assert isinstance(pretrained, LibraryDetector)
    return model, model.head, pretrained.eval()


def images(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


# --- torchvision ---------------------------------------------------------------------------------


@pytest.fixture(params=["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def of_torchvision(request: pytest.FixtureRequest) -> tuple[Any, backbones.Backbone]:
    """Return a detector as torchvision has it, and the same as a backbone."""
    name, weights = request.param, models.get_model_weights(request.param)["DEFAULT"]
    torch.manual_seed(0)
    network: Any = models.get_model_builder(name)(weights=None, weights_backbone=None, num_classes=91).eval()
    size = 320 if "ssd" in name else SIDE
    backbone = torchvision_detectors.assemble(
        network.state_dict(), "a test", network=name, weights=weights, known=weights.meta["categories"], image_size=size
    )
    network.transform.fixed_size = (size, size)
    chooses = network.roi_heads if hasattr(network, "roi_heads") else network
    chooses.score_thresh = min(chooses.score_thresh, 0.01)
    return network, backbone.eval()


def test_a_detector_of_torchvision_finds_what_it_finds_there_and_classes_are_taken_by_name(of_torchvision: Any) -> None:
    network, backbone = of_torchvision
    model, head, pretrained = around(backbone)
    pixels = images(pretrained.size)
    with torch.no_grad():
        theirs = network(list(pixels.float() / 255))
        features = model.before_head(Features(tensor=pixels, layout="raw"))
        found = pretrained.found(maps(features.tensor, head.levels))
    first = found[0][:5]
    assert torch.allclose(first[:, :4], theirs[0]["boxes"][:5], atol=1e-2)
    assert torch.allclose(first[:, 4], theirs[0]["scores"][:5], atol=1e-4)
    known = backbone.classes
    assert known is not None
    assert known[0] == "person", "the background is no class"
    assert first[:, 5].long().tolist() == (theirs[0]["labels"][:5] - 1).tolist()
    head.layers.take(pretrained, [(known.index("dog"),), (), (known.index("cat"),)])
    mine, other = head.layers.state_dict(), pretrained.state_dict()
    name = next(name for name in mine if name.endswith(("cls_score.weight", "module_list.0.1.weight")))
    rows = mine[name].unflatten(0, (-1, 4)), other[name].unflatten(0, (-1, 91))
    for here, there in ((1, known.index("dog") + 1), (3, known.index("cat") + 1), (0, 0)):
        assert torch.equal(rows[0][:, here], rows[1][:, there])
    model.train()
    losses = head.losses(features, [SOMETHING, NOTHING])
    assert len(losses) > 1
    assert all(bool(torch.isfinite(one)) for one in losses.values())


def test_losses_of_ones_own_do_not_apply_and_a_state_dict_of_any_classes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    network = models.get_model_builder(name)(weights=None, weights_backbone=None, num_classes=5)
    torch.save(network.state_dict(), "w.pth")
    backbone = backbones.load(f"file:w.pth@torchvision:{name}", image_size=SIDE)
    assert backbone.classes == ("class 1", "class 2", "class 3", "class 4")
    write_voc(Path("shapes"), 8)
    with pytest.raises(SettingError, match="computes its own loss, so loss= does not apply"):
        finetune("shapes", backbone=backbone, loss=lambda outputs, targets: outputs.sum())


def test_names_hold_detectors_of_boxes_only() -> None:
    names = torchvision_detectors.names()
    assert {"fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2", "ssd300_vgg16"} <= set(names)
    assert not any("mask" in name or "keypoint" in name for name in names)


# --- transformers --------------------------------------------------------------------------------

_RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_ONE, _THREE = {**_RESNET, "out_features": ["stage4"]}, {**_RESNET, "out_features": ["stage2", "stage3", "stage4"]}
_LAYERS = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_queries": 20, "d_model": 32}
_HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
_RT = {
    **{"encoder_hidden_dim": 32, "encoder_in_channels": [12, 16, 24], "feat_strides": [8, 16, 32], "decoder_in_channels": [32, 32, 32]},
    **{"num_denoising": 5, "backbone_config": {**_THREE, "model_type": "rt_detr_resnet"}},
}
FAMILIES: dict[str, dict[str, Any]] = {
    "detr": {"backbone_config": _ONE, **_LAYERS, **_HEADS},
    "conditional_detr": {"backbone_config": _ONE, **_LAYERS, **_HEADS},
    "deformable_detr": {"backbone_config": _THREE, "num_feature_levels": 3, **_LAYERS, **_HEADS},
    "rt_detr": {**_RT, **_LAYERS, **_HEADS},
    "yolos": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32},
        **{"image_size": [SIDE, SIDE], "patch_size": 16, "num_detection_tokens": 10},
    },
}


def saved(folder: Path, kind: str, classes: tuple[str, ...]) -> Any:
    """Write a tiny detector with weights at random as save_pretrained does, and return the network."""
    from transformers import AutoConfig, AutoModelForObjectDetection

    torch.manual_seed(0)
    names = dict(enumerate(classes))
    config = AutoConfig.for_model(kind, id2label=names, label2id={name: at for at, name in names.items()}, **FAMILIES[kind])
    network = AutoModelForObjectDetection.from_config(config, attn_implementation="eager").eval()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": SIDE, "width": SIDE}}))
    return network


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_detector_of_transformers_finds_what_its_image_processor_keeps(tmp_path: Path, kind: str) -> None:
    from transformers import AutoConfig
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    network = saved(tmp_path / kind, kind, ("N/A", "a", "b", "c", "d"))
    backbone = backbones.load(f"transformers:{tmp_path / kind}", offline=True).eval()
    model, head, pretrained = around(backbone)
    pixels = images(SIDE)
    with torch.no_grad():
        features = model.before_head(Features(tensor=pixels, layout="raw"))
        out = network(pixel_values=model.stages["input"](Features(tensor=pixels, layout="raw")).tensor)
        found = pretrained.found(maps(features.tensor, head.levels))
    processors = IMAGE_PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(tmp_path / kind))]
    theirs = processors["torchvision"]().post_process_object_detection(out, threshold=0.01, target_sizes=[(SIDE, SIDE)] * 2)
    for mine, other in zip(found, theirs, strict=True):
        order = other["scores"].argsort(descending=True)[:5]
        assert torch.allclose(mine[:5, 4], other["scores"][order], atol=1e-5)
        assert torch.allclose(mine[:5, :4], other["boxes"][order], atol=1e-3)
    head.layers.take(pretrained, [(4,), (), (2,)])
    mine, other = head.layers.state_dict(), pretrained.state_dict()
    for name, tensor in mine.items():
        if tensor.shape != other[name].shape:
            assert torch.equal(tensor[[0, 2]], other[name][[4, 2]]), name
            assert len(tensor) == 3 or torch.equal(tensor[3], other[name][5]), "no object"
    model.train()
    for targets in ([SOMETHING, NOTHING], [NOTHING, NOTHING]):
        loss = head.losses(features, targets)["loss"]
        assert bool(torch.isfinite(loss))


@pytest.mark.parametrize("kind", ["detr", "conditional_detr", "deformable_detr"])
def test_padding_changes_no_box(tmp_path: Path, kind: str) -> None:
    """An image of 64 x 32 in a square: the library's boxes with its own mask, wherever the image lies, whatever the padding holds."""
    network = saved(tmp_path / kind, kind, ("a", "b", "c"))
    backbone = backbones.load(f"transformers:{tmp_path / kind}", offline=True).eval()
    model, head, pretrained = around(backbone)
    pixels = images(SIDE)
    pixels[:, :, SIDE // 2 :] = torch.tensor([round(255 * value) for value in backbone.modality.mean]).view(3, 1, 1)
    with torch.no_grad():
        values = model.stages["input"](Features(tensor=pixels, layout="raw")).tensor
        real = torch.zeros(2, SIDE, SIDE, dtype=torch.long)
        real[:, : SIDE // 2] = 1
        theirs = network(pixel_values=values, pixel_mask=real).pred_boxes * torch.tensor([SIDE, SIDE // 2] * 2)
        *kept, place = maps(model.before_head(Features(tensor=pixels, layout="raw")).tensor, head.levels)
        assert place.tolist() == [[0, 0, SIDE, SIDE // 2]] * 2
        found = pretrained.found([*kept, place])
        middle = (found[0][:, :2] + found[0][:, 2:4]) / 2
        nearest = (middle[:, None] - theirs[0, None, :, :2]).abs().amax(2).amin(1)
        assert nearest.max() < 1e-3
        for one in kept if kind != "deformable_detr" else ():  # the padding holds something else; that one has group norms over all of it
            one[:, :, one.shape[2] // 2 :] = 9.0
        below = [one.roll(one.shape[2] // 2, 2) for one in kept]
        moved = torch.tensor([0.0, SIDE // 2, 0, SIDE // 2])
        for maps_here, rectangle, shift in ((kept, place, 0 * moved), (below, place + moved, moved)):
            for mine, other in zip(pretrained.found([*maps_here, rectangle]), found, strict=True):
                assert torch.allclose(mine[:, :4], other[:, :4] + shift, atol=1e-3)
                assert torch.allclose(mine[:, 4:], other[:, 4:], atol=1e-4)


def test_an_input_of_padding_alone_is_taken_as_a_whole() -> None:
    steps = torch.tensor([0.02, 0.02, 0.02])
    x_BCHW = torch.zeros(2, 3, 8, 8)
    x_BCHW[0, 1, 2:5, 3:] = 0.02
    assert content(x_BCHW, steps).tolist() == [[3, 2, 8, 5], [0, 0, 8, 8]]


def test_objects_that_do_not_count_are_background_to_losses_of_another_library_and_that_is_reported(tmp_path: Path) -> None:
    saved(tmp_path / "detr", "detr", ("a", "b"))
    model, _, _ = around(backbones.load(f"transformers:{tmp_path / 'detr'}", offline=True), classes=2)
    labels = Labels({"ignored": Ragged.of([torch.tensor([0, 1]), torch.tensor([1])])})
    assert "2 training boxes do not count" in Detection().unlearned(model, labels)
    assert Detection().unlearned(model, Labels({"ignored": Ragged.of([torch.tensor([0])])})) == ""


def test_as_many_classes_as_the_pretrained_ones_are_taken_by_name_too(tmp_path: Path) -> None:
    saved(tmp_path / "detr", "detr", ("a", "b"))
    _, head, pretrained = around(backbones.load(f"transformers:{tmp_path / 'detr'}", offline=True), classes=2)
    head.layers.take(pretrained, [(1,), (0,)])
    weight = "network.class_labels_classifier.weight"
    assert torch.equal(head.layers.state_dict()[weight], pretrained.state_dict()[weight][[1, 0, 2]])


def test_a_backbone_of_another_library_is_not_fetched(tmp_path: Path) -> None:
    saved(tmp_path / "detr", "detr", ("a", "b"))
    path = tmp_path / "detr" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "use_pretrained_backbone": True}))
    assert backbones.load(f"transformers:{path.parent}", offline=True).classes == ("a", "b")
    path.write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Net"}, "model_type": "nobody"}))
    with pytest.raises(Exception, match="never run"):
        backbones.load(f"transformers:{path.parent}", offline=True)


def test_a_detector_of_transformers_goes_through_the_verbs(home: Path) -> None:
    write_voc(home / "shapes", 12)
    saved(home / "detr", "detr", ("square", "cup", "disc"))
    words = ("finetune", "shapes", "backbone=transformers:detr", "epochs=1", "threads=1", "precision=float32", "out=run", "--offline")
    metrics = json.loads(pretune(*words, "--json").stdout)
    assert any("disc ← disc; square ← square." in note for note in metrics["notes"])
    assert metrics["strategy"] == "linear_probe"
    rows = json.loads(pretune("predict", "run", "shapes/JPEGImages", "--json").stdout)["predictions"]
    assert len(rows) == 12
    assert {box["class"] for row in rows for box in row["boxes"]} <= {"disc", "square"}
