"""Detection: its loss and assignment, its figures against COCO's own, its start from a pretrained head, and a whole flow."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretune import finetune
from pretune.architectures.layers import csp
from pretune.architectures.layers.dense import DenseHead, DenseOutputs, DenseShape, grid
from pretune.architectures.layers.detector import DetectionTargets
from pretune.backbones import Backbone, _nanodet
from pretune.deploy._rectangles import draw
from pretune.evaluation.boxes import TrueBoxes, average_precision, intervals, matches
from pretune.evaluation.diagnosis import diagnose
from pretune.labels import Labels, Ragged
from pretune.modalities.image import Image as Image_
from pretune.models.dense.assignment import assign
from pretune.models.dense.kept import kept
from pretune.models.dense.loss import dense_loss
from pretune.sources.boxes import Box, Boxes
from pretune.strategies.full import Full
from pretune.tasks import LossSettings, Space
from pretune.tasks._boxes import BoxTruth, f1, read_back, tiny, written
from pretune.tasks._stand_ins import Seen, seen, sentence, stand_ins
from pretune.tasks.detection import Detection
from pretune.types import Row
from tests.box_data import write_voc
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

SHAPE = DenseShape(channels=(4, 8), strides=(8, 16), width=8, norm=False)


def scenes(count: int, seed: int = 0) -> tuple[list[np.ndarray], list[TrueBoxes]]:
    """Return boxes that were found, some near true ones, and the true ones, of three classes."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(count):
        number = int(rng.integers(0, 5))
        low = rng.uniform(0, 60, (number, 2))
        boxes, classes = np.hstack([low, low + rng.uniform(5, 40, (number, 2))]), rng.integers(0, 3, number)
        truth.append(TrueBoxes(boxes=boxes, classes=classes, ignored=rng.random(number) < 0.2))
        near = np.hstack([boxes + rng.normal(0, 3, boxes.shape), rng.random((number, 1)), classes[:, None]])
        other = rng.uniform(0, 60, (3, 2))
        false = np.hstack([other, other + 20, rng.random((3, 1)), rng.integers(0, 3, (3, 1))])
        found.append(np.vstack([near, false]))
    return found, truth


def test_matches_of_our_own_have_cocos_average_precision() -> None:
    found, truth = scenes(40)
    figures = average_precision(found, truth, ("a", "b", "c"))
    each = np.stack([matches(found, truth, at).average_precision(np.ones(40)) for at in range(3)])
    assert figures["map"] == pytest.approx(each.mean(), abs=1e-6)
    assert figures["ap50"] == pytest.approx(each[:, 0].mean(), abs=1e-6)
    assert figures["ap75"] == pytest.approx(each[:, 5].mean(), abs=1e-6)
    assert [row["ap"] for row in figures["per_class"].values()] == pytest.approx(each.mean(1).tolist(), abs=1e-6)
    low, high = intervals(found, truth, ("a", "b", "c"))["map"]
    assert low < figures["map"] < high


def test_an_image_that_counts_twice_is_like_two_images() -> None:
    found, truth = scenes(10)
    weights = np.array([2, 1, 0, 1, 3, 1, 1, 0, 1, 1])
    order = np.repeat(np.arange(10), weights)
    twice = matches([found[i] for i in order], [truth[i] for i in order], 0)
    assert matches(found, truth, 0).average_precision(weights) == pytest.approx(twice.average_precision(np.ones(len(order))))


def test_figures_without_boxes_do_not_exist_and_perfect_ones_are_one() -> None:
    none = TrueBoxes(boxes=np.zeros((0, 4)), classes=np.zeros(0, int), ignored=np.zeros(0, bool))
    assert average_precision([np.zeros((0, 6))], [none], ("a",))["map"] is None
    assert intervals([np.zeros((0, 6))], [none], ("a",)) == {}
    one = TrueBoxes(boxes=np.array([[1.0, 2, 30, 40]]), classes=np.array([0]), ignored=np.array([False]))
    assert average_precision([np.array([[1.0, 2, 30, 40, 0.9, 0]])], [one], ("a",))["map"] == pytest.approx(1)
    assert average_precision([np.zeros((0, 6))], [one], ("a",))["map"] == pytest.approx(0)


def test_every_box_is_learned_by_points_within_it_and_a_tiny_one_by_the_nearest() -> None:
    points = grid((8, 8), 8, torch.device("cpu"))
    boxes = torch.tensor([[4.0, 4, 40, 40], [33.0, 33, 34, 34]])
    context = torch.cat([points - 6, points + 6], 1)
    chosen = assign(torch.full((64, 2), 0.3), context, points, boxes, torch.tensor([0, 1]))
    assert set(chosen.boxes.tolist()) == {0, 1}
    big = points[chosen.points[chosen.boxes == 0]]
    assert bool(((big > 4) & (big < 40)).all())
    assert points[chosen.points[chosen.boxes == 1]].tolist() == [[35.5, 35.5]]
    assert 0 <= float(chosen.quality.min()) <= float(chosen.quality.max()) <= 1


def trained(steps: int) -> tuple[DenseHead, list[torch.Tensor], list[DetectionTargets]]:
    torch.manual_seed(0)
    head = DenseHead(SHAPE, 2)
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    nothing = torch.zeros(0, 4)
    wanted = [
        DetectionTargets(boxes=torch.tensor([[8.0, 8, 40, 40]]), classes=torch.tensor([1]), ignored=nothing),
        DetectionTargets(boxes=nothing, classes=torch.zeros(0, dtype=torch.long), ignored=nothing),
    ]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        dense_loss(head(maps), wanted).backward()
        optimizer.step()
    return head, maps, wanted


def test_what_is_learned_is_found_and_nothing_is_found_where_nothing_is() -> None:
    head, maps, wanted = trained(150)
    with torch.no_grad():
        assert float(dense_loss(head(maps), wanted)) < 0.5 * float(dense_loss(trained(0)[0](maps), wanted))
    first, second = kept(head(maps), 64).split()
    assert first[0, :4].tolist() == pytest.approx([8, 8, 40, 40], abs=4)
    assert int(first[0, 5]) == 1
    assert float(first[0, 4]) > 0.5
    assert len(second) == 0 or float(second[0, 4]) < 0.2


def _bias(head: DenseHead) -> torch.Tensor:
    layer = head.outputs[0]
    assert isinstance(layer, torch.nn.Conv2d)
    assert layer.bias is not None
    return layer.bias


def test_what_is_found_inside_an_ignored_box_costs_nothing() -> None:
    head, maps, _ = trained(0)
    with torch.no_grad():
        _bias(head)[:2] = 4.0  # sure of everything everywhere
    nothing, none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    everywhere = DetectionTargets(boxes=nothing, classes=none, ignored=torch.tensor([[-1.0, -1, 65, 65]]))
    assert float(dense_loss(head(maps), [everywhere] * 2)) == 0
    assert float(dense_loss(head(maps), [DetectionTargets(boxes=nothing, classes=none, ignored=nothing)] * 2)) > 10


def dense(boxes: torch.Tensor, logits: torch.Tensor, bins: int = 5) -> DenseOutputs:
    """Return what is found in one image of 32 pixels at 4 x 4 points: random sides, or those of some boxes (A, 4)."""
    points = grid((4, 4), 8, torch.device("cpu"))
    distance = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], 1) / 8
    places = torch.arange(bins, dtype=torch.float32)
    sides = -4 * (places - distance[..., None]).abs()
    return DenseOutputs(logits[None], sides[None], points, torch.full((16,), 8.0))


def test_the_loss_of_one_box_is_that_of_a_plain_computation() -> None:
    from torchvision.ops import generalized_box_iou

    generator = torch.Generator().manual_seed(0)
    points, box = grid((4, 4), 8, torch.device("cpu")), torch.tensor([[2.0, 5, 27, 21]])
    found = dense(torch.cat([points - 9, points + 7], 1), torch.randn(16, 2, generator=generator))
    wanted = DetectionTargets(boxes=box, classes=torch.tensor([1]), ignored=torch.zeros(0, 4))
    chosen = assign(found.logits[0].sigmoid(), found.boxes()[0], points, box, wanted.classes)
    assert len(chosen.points) > 3
    quality = dict(zip(chosen.points.tolist(), chosen.quality.tolist(), strict=True))
    total, of_scores, of_boxes, of_sides = sum(quality.values()), 0.0, 0.0, 0.0
    for at in range(16):
        for name in range(2):
            target, p = quality.get(at, 0.0) if name == 1 else 0.0, float(found.logits[0, at, name].sigmoid())
            of_scores -= (target - p) ** 2 * (target * np.log(p) + (1 - target) * np.log(1 - p))
        if at in quality:
            of_boxes += quality[at] * (1 - float(generalized_box_iou(found.boxes()[0, at][None], box)))
            x, y = points[at].tolist()
            logs = found.sides[0, at].log_softmax(-1)
            for side, pixels in enumerate((x - 2, y - 5, 27 - x, 21 - y)):
                distance = min(max(pixels / 8, 0), 4 - 0.01)
                low = int(distance)
                nats = -float(logs[side, low]) * (low + 1 - distance) - float(logs[side, low + 1]) * (distance - low)
                of_sides += quality[at] * nats / 4
    expected = (of_scores + 2 * of_boxes + 0.25 * of_sides) / max(1.0, total)
    assert float(dense_loss(found, [wanted])) == pytest.approx(expected, rel=1e-4)


def test_a_box_inside_an_ignored_one_is_learned() -> None:
    points, box = grid((4, 4), 8, torch.device("cpu")), torch.tensor([[2.0, 5, 27, 21]])
    everywhere = torch.tensor([[-1.0, -1, 33, 33]])
    wanted = DetectionTargets(boxes=box, classes=torch.tensor([0]), ignored=everywhere)
    losses = [float(dense_loss(dense(box.expand(16, 4), torch.full((16, 1), score)), [wanted])) for score in (-6.0, 6.0)]
    assert losses[0] > 2 * losses[1], "points that learn a box count, though others in the ignored one do not"
    assert len(points) == 16


def test_a_point_in_two_boxes_learns_the_one_it_overlaps_most() -> None:
    points = grid((4, 4), 8, torch.device("cpu"))
    boxes = torch.tensor([[0.0, 0, 32, 32], [4, 4, 28, 28]])
    chosen = assign(torch.full((16, 1), 0.5), boxes[1].expand(16, 4), points, boxes, torch.tensor([0, 0]))
    assert set(chosen.boxes[(points[chosen.points] > 4).all(1) & (points[chosen.points] < 28).all(1)].tolist()) == {1}
    assert float(chosen.quality.max()) == pytest.approx(1)
    half = assign(torch.full((16, 1), 0.5), torch.tensor([[0.0, 0, 32, 16]]).expand(16, 4), points, boxes[:1], torch.tensor([0]))
    assert float(half.quality.max()) == pytest.approx(0.5), "no more than the overlap"


def test_boxes_that_overlap_are_one_within_a_class() -> None:
    logits = torch.full((16, 2), -9.0)
    logits[5, 0], logits[6, 0], logits[6, 1], logits[9, 1] = 2.0, 1.0, 0.5, -1.0
    boxes = torch.tensor([[0.0, 0, 20, 20]]).repeat(16, 1)
    boxes[9] = torch.tensor([12.0, 12, 40, 40])
    (found,) = kept(dense(boxes, logits), 32).split()
    assert found[:, 5].tolist() == [0, 1, 1]
    assert found[:, 4].tolist() == pytest.approx(logits[[5, 6, 9], [0, 1, 1]].sigmoid().tolist())
    assert float(found[:, :4].max()) == 32, "cut at the edge of the image"


def test_boxes_of_untrained_classes_are_ignored() -> None:
    target = Boxes(boxes=(Box("cat", 0, 0, 9, 9), Box("dog", 1, 1, 8, 8)), width=20, height=20)
    labels = Detection().encode([Row(id="a", target=target)], Space(classes=("dog",)), Image_(size=32, resize=32))
    (truth,) = Detection().truth(labels, Space(classes=("dog",)))
    assert truth.ignored.tolist() == [True, False]


def test_a_head_begins_as_the_best_of_the_classes_that_stand_for_its_own() -> None:
    pretrained, mine = DenseHead(SHAPE, 5), DenseHead(DenseShape(**{**SHAPE.__dict__, "slots": 3}), 2)
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    mine.take(pretrained, [(3, 1), ()])
    theirs, found = pretrained(maps), mine(maps)
    assert torch.allclose(found.logits[..., 0], theirs.logits[..., [1, 3]].amax(-1), atol=1e-5)
    assert torch.allclose(found.sides, theirs.sides, atol=1e-5)


def test_stand_ins_are_chosen_by_name_and_by_what_is_found_on_training_boxes() -> None:
    rng = np.random.default_rng(0)
    images = []
    for number in range(8):
        boxes = np.array([[5, 5, 25, 25], [40, 40, 60, 60], [10, 40, 20, 50]], np.float32) + rng.uniform(0, 4)
        scores = np.full((3, 4), 0.02, np.float32)
        scores[0, 2 if number % 2 else 3] = 0.9  # half of the animals look like sheep, half like cows
        scores[1, 0] = 0.9
        truth = TrueBoxes(boxes=boxes[:1], classes=np.array([0]), ignored=np.array([False]))
        images.append(Seen(scores=scores, boxes=boxes, truth=truth))
    names = ("person", "dog", "sheep", "cow")
    kangaroo, dog, robot = stand_ins(images, ("kangaroo", "Dog", "robot"), names)
    assert sorted(kangaroo) == [2, 3]
    assert dog == (1,)
    assert robot == ()
    assert "kangaroo ← sheep, cow; robot ← nothing that it knows" in sentence(("kangaroo", "robot"), [(2, 3), ()], names)


def test_what_a_pretrained_head_sees_is_kept_point_by_point() -> None:
    head, maps = DenseHead(SHAPE, 4), [torch.randn(3, 4, 8, 8), torch.randn(3, 8, 4, 4)]
    box, none = torch.tensor([[1.0, 2, 30, 40]]), torch.zeros(1, dtype=torch.long)
    labels = Labels({"boxes": Ragged.of([box] * 3), "classes": Ragged.of([none] * 3), "ignored": Ragged.of([none] * 3)})
    images = seen(head, [(maps, labels)])
    assert [one.scores.shape for one in images] == [(80, 4)] * 3
    assert images[0].truth.boxes.tolist() == box.tolist()


def test_boxes_of_a_cell_are_read_back_and_compared() -> None:
    boxes = [Box("big (red) dog", 1, 2.5, 30, 40), Box("cat", 0, 0, 5, 5)]
    assert read_back(written(boxes)) == boxes
    assert read_back("") == []
    assert f1(boxes, boxes) == 1
    assert f1([], boxes) == 0
    assert f1([boxes[1], boxes[1]], boxes[1:]) == pytest.approx(2 / 3)
    assert f1([], []) == 1
    rows = [{"prediction": written(one), "target": written(boxes)} for one in (boxes, boxes[:1], [])]
    assert [Detection().badness(row) for row in rows] == [0, pytest.approx(1 / 3), 1]


def test_points_lie_in_the_middle_of_their_places() -> None:
    head = DenseHead(SHAPE, 1)
    dense: DenseOutputs = head([torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)])
    assert dense.points[:2].tolist() == [[3.5, 3.5], [11.5, 3.5]]
    assert dense.points[-1].tolist() == [55.5, 55.5]
    assert float(dense.logits.sigmoid().mean().detach()) == pytest.approx(0.01, abs=0.005)


def test_boxes_are_drawn_by_what_they_are() -> None:
    row = {"prediction": "a(10 10 50 50)|b(60 60 90 90)", "target": "a(12 10 50 50)|b(0 0 20 20)", "width": "100", "height": "100"}
    drawn = Detection().rectangles(row)
    assert [(one.label, one.mark) for one in drawn] == [("a", ""), ("b", "missing"), ("a", "right"), ("b", "wrong")]
    image = np.asarray(draw(Image.new("RGB", (100, 100), (90, 90, 90)), drawn))
    assert image[30, 49].tolist() == [38, 166, 91], "right: green"
    assert image[75, 89].tolist() == [214, 48, 49], "wrong: red"
    assert image[15, 19].tolist() == [255, 177, 0], "missed: amber"


def test_boxes_in_a_cropped_training_view_are_those_that_can_be_seen() -> None:
    head = DenseHead(SHAPE, 1)
    dense = head([torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)])
    labels = Labels(
        {
            "boxes": Ragged.of([torch.tensor([[-200.0, 0, 10, 64], [100, 100, 140, 140]])]),
            "classes": Ragged.of([torch.tensor([0, 0])]),
            "ignored": Ragged.of([torch.tensor([0, 0])]),
        }
    )
    away = Labels({**labels.tensors, "boxes": Ragged.of([torch.tensor([[-9.0, 0, 10, 64], [100, 100, 140, 140]])])})
    task = Detection()
    loss = task.loss(Space(classes=("a",)), labels, LossSettings())
    nothing = DetectionTargets(boxes=torch.zeros(0, 4), classes=torch.zeros(0, dtype=torch.long), ignored=torch.tensor([[0.0, 0, 10, 64]]))
    assert float(loss(dense, labels).detach()) == pytest.approx(float(dense_loss(dense, [nothing]).detach()))
    assert float(loss(dense, away).detach()) > float(dense_loss(dense, [nothing]).detach())


def test_what_goes_wrong_is_said_in_words() -> None:
    rows = {"disc": {"ap": 0.1, "support": 9, "found": 20}, "square": {"ap": 0.0, "support": 7, "found": 0}}
    val = {"map": 0.05, "per_class": rows, "tiny_boxes": 0.4}
    told = diagnose([], {"primary": {"name": "map", "value": 0.05, "split": "val"}, "val": val}, {}, {"val": 8})
    assert any("Everything that was found on val is of one class: disc (20 of 20)" in line for line in told)
    assert any("Never predicted on val, though present: square" in line for line in told)
    assert any("40% of the boxes are smaller than 8 pixels" in line and "image_size" in line for line in told)
    truth = [
        BoxTruth(boxes=np.array([[0.0, 0, 6, 60], [0, 0, 40, 40]]), classes=np.zeros(2), ignored=np.zeros(2, bool), shown=np.eye(2, 3))
    ]
    assert tiny(truth) == 0.5


def test_a_detector_that_does_not_learn_is_told_so() -> None:
    def sentences(select: list[float], losses: tuple[float, float], train: float) -> list[str]:
        course = [{"event": "stepped", "loss": loss, "phase": "full", "step": at} for at, loss in enumerate(losses)]
        best = max(select[1:]) > select[0]
        for at, value in enumerate(select):
            event = {"event": "evaluated", "phase": "full", "split": "select", "step": at, "epoch": at, "metrics": {"map": value}}
            course.append({**event, "best": at == 0 or (best and value == max(select))})
        scores = {"map": 0.0, "ap50": 0.01, "per_class": {}}
        metrics = {"primary": {"name": "map", "value": 0.0, "split": "val"}, "val": scores, "train": {"map": train, "ap50": train}}
        return diagnose(course, metrics, {}, {"val": 40})

    told = " ".join(sentences([0.3, 0.2, 0.1], (2.0, 0.5), 0.001))
    assert "In none of 2 epochs was the detector better than at the start" in told
    assert "The loss fell from 2 to 0.5 while AP50 on val stays at 0.010: boxes are not yet right on the training images either" in told
    told = " ".join(sentences([0.1, 0.2, 0.3], (2.0, 0.5), 0.6))
    assert "In none of" not in told
    assert "learned by heart" in told
    assert "The loss fell" not in " ".join(sentences([0.1, 0.2, 0.3], (2.0, 1.9), 0.001))


def test_a_detector_says_what_it_cannot_have(home: Path) -> None:
    write_voc(home / "shapes", 8)
    words = ("finetune", "shapes", "epochs=1", "--offline")
    told = pretune(*words, "backbone=scratch:cnn", "image_size=64", "head=mlp", code=2).stderr
    assert "task=detection takes head=detector. Leave head out." in told
    told = pretune(*words, "backbone=scratch:vit", code=2).stderr
    assert "returns no maps, which detection needs" in told
    from tests.test_flows import folder

    folder(home / "photos", 4)
    told = pretune("finetune", "photos", "task=detection", "backbone=scratch:cnn", code=2).stderr
    assert "task=detection needs boxes, and these are labels of whole images" in told


def pretrained_detector() -> Backbone:
    """Return NanoDet with weights at random, for images of 64 pixels."""
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({"body": torch.nn.ModuleDict(dict(csp.stages())), "head": DenseHead(_nanodet.SHAPE, 80)})
    backbone = _nanodet.assemble(network.state_dict(), "a test")
    backbone.modality = Image_(size=64, resize=64, fit="pad")
    return backbone


@pytest.mark.parametrize("settings", [{}, {"augment": "light"}, {"strategy": Full(probe_first=False), "augment": "none"}], ids=str)
def test_a_pretrained_detector_is_the_start_whatever_is_trained_and_cached(home: Path, settings: dict[str, Any]) -> None:
    write_voc(home / "shapes", 12)
    run = finetune("shapes", backbone=pretrained_detector(), epochs=1, threads=1, precision="float32", out="run", **settings)
    assert any("the pretrained detector's classes stand for those of the data" in note for note in run.metrics["notes"])
    first = [event for event in map(json.loads, (home / "run" / "events.jsonl").read_text().splitlines()) if event.get("split") == "select"]
    assert first[0]["step"] == 0, "the start is measured"
    assert max(event["metrics"]["map"] for event in first) == pytest.approx([e["metrics"]["map"] for e in first if e["best"]][-1])
    assert len(run.predict("shapes/JPEGImages")) == 12, "and what was saved can be read"


def test_names_of_the_graph_are_those_of_the_network() -> None:
    tensors = set(pretrained_detector().stages.state_dict())
    names = _nanodet._names()
    assert len(names) == len(set(names)) == 34
    assert {f"{name.removeprefix('body.')}.weight" for name in names if name.startswith("body.")} <= tensors


def test_a_run_finds_boxes_from_files_to_report(home: Path) -> None:
    write_voc(home / "shapes", 28)
    words = ("finetune", "shapes", "backbone=scratch:cnn,width=16,depth=2", "image_size=64", "epochs=2", "threads=1", "precision=float32")
    metrics = json.loads(pretune(*words, "out=run", "--json", "--offline").stdout)
    assert metrics["task"] == "detection"
    assert metrics["classes"] == ["disc", "square"]
    assert metrics["primary"]["name"] == "map"
    assert {"map", "ap50", "ap75", "ar100", "per_class"} <= metrics["val"].keys()
    assert list(metrics["floors"]) == ["mean_box", "nearest"]
    assert metrics["counts"]["select"] > 0
    rows = json.loads(pretune("predict", "run", "shapes/JPEGImages", "--json").stdout)["predictions"]
    assert len(rows) == 28
    assert (rows[0]["width"], rows[0]["height"]) == (96, 64)
    again = json.loads(pretune("evaluate", "run", "shapes", "--json").stdout)
    assert again["counts"]["used"] == 28
    page = (home / "run" / "report.html").read_text()
    assert "AP50" in page
    assert (home / "run" / "pictures" / "mistakes-00.jpg").exists()
    outputs = ("predict", "run", "shapes/JPEGImages")
    told = pretune(*outputs, "format=coco", "out=found.json").stderr
    assert "28 images are written to found.json" in told
    found = json.loads((home / "found.json").read_text())
    assert [one["name"] for one in found["categories"]] == ["disc", "square"]
    assert len(found["annotations"]) == sum(len(row["boxes"]) for row in rows)
    pretune(*outputs, "format=yolo", "out=labels")
    assert (home / "labels" / "classes.txt").read_text() == "disc\nsquare\n"
    assert len(list((home / "labels").glob("*.txt"))) == 29
    pretune(*outputs, "format=images", "out=drawn")
    assert len(list((home / "drawn").glob("*.jpg"))) == 28
    assert "format=coco needs out=" in pretune(*outputs, "format=coco", code=2).stderr
    told = pretune("finetune", *words[1:], "out=other", "resume=true", "--offline").stderr
    assert "select mAP" in told


def test_the_commands_of_the_page_run(home: Path) -> None:
    write_voc(home / "boxes", 20)
    toy = ("backbone=scratch:cnn,width=8,depth=1", "image_size=32", "strategy=scratch", "epochs=1", "threads=1", "precision=float32")
    lines = commands(ROOT / "docs" / "tasks" / "detection.md")
    assert len(lines) == 9
    for line in lines:
        words = [word for word in shlex.split(line) if not word.startswith(("backbone=", "epochs=", "strategy=", "time="))]
        if words[0] == "evaluate":
            words.remove("part=val")  # these data have no splits of their own
        pretune(*words, *(toy if words[0] == "finetune" else ()), "--offline")
    assert (home / "found.json").exists()
    assert len(list((home / "drawn").iterdir())) == 20
