"""Pretraining on images: what each objective compares, what it must not see, and when it says that nothing was learned."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import pretune as pt
from pretune import backbones
from pretune.architectures.vit import Patches, cut, places
from pretune.auditing.duplicates import without_copies
from pretune.augmentations import preset
from pretune.augmentations.blur import Blur
from pretune.augmentations.grey import Grey
from pretune.backbones import Backbone
from pretune.data.splits import at_random
from pretune.deploy import _curves
from pretune.deploy._pretraining import _bars, _beside
from pretune.errors import DataError, Interrupted, RequestError, SettingError
from pretune.labels import Labels
from pretune.models.pooling import Pool
from pretune.objectives import PretextLearner
from pretune.objectives._items import FEW, collapse, effective_rank, health, spread
from pretune.objectives._labels import set_classes
from pretune.objectives._masked_images import LeftOut, MaskedImagesLearner, Painted, hidden, normalised
from pretune.objectives._sampling import Wanted
from pretune.objectives.autoencode import Autoencode
from pretune.objectives.contrastive import Contrastive, simclr, vicreg
from pretune.objectives.distillation import Distillation
from pretune.objectives.masked import Masked
from pretune.objectives.supervised import Supervised
from pretune.recipe import Inputs
from pretune.runner.inputs import fitted_to_small
from pretune.runner.reporter import Silent
from pretune.training.events import Event, Stepped
from pretune.training.optim import Optim
from pretune.types import Batch, Features, Row
from tests.test_augmentations import applied, pictures
from tests.test_flows import folder, losses, pretune

VIT = "scratch:vit,width=12,layers=2,heads=3"
CNN = "scratch:cnn,width=8,stages=3,depth=1"
QUICK: dict[str, Any] = {"backbone": "scratch:cnn,width=8,stages=2,depth=1", "image_size": 16, "batch_size": 8, "epochs": 2, "threads": 1}


def network(id: str, size: int = 32) -> Backbone:
    torch.manual_seed(0)
    return backbones.load(id, offline=True, image_size=size)


def batch_of(images: Tensor, targets: Tensor | None = None) -> Batch:
    return Batch(
        inputs=Features(tensor=images, layout="raw"),
        labels=None if targets is None else Labels.of(targets),
        index=torch.arange(len(images)),
    )


def images(count: int = 6, size: int = 32) -> Tensor:
    return pictures(count, size, size)


# --- augmentations -------------------------------------------------------------------------------


def test_grey_images_have_one_luma_and_the_others_are_left() -> None:
    before = pictures(200, 4, 4)
    out = applied(Grey(probability=0.3), before).inputs.tensor
    grey = (out == out[:, :1]).flatten(1).all(1)
    assert 0.2 < grey.float().mean() < 0.4
    assert torch.equal(out[~grey], before[~grey])
    luma = (before[grey].float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    assert (out[grey][:, 0] - luma).abs().max() <= 0.501
    assert torch.equal(applied(Grey(probability=0), before).inputs.tensor, before)


def test_blur_keeps_flat_images_and_takes_detail_from_others() -> None:
    flat = torch.full((4, 3, 20, 20), 77, dtype=torch.uint8)
    assert torch.equal(applied(Blur(probability=1, width=0.1), flat).inputs.tensor, flat)
    noise = torch.randint(0, 256, (60, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = applied(Blur(probability=0.5, width=0.1), noise).inputs.tensor
    changed = (out != noise).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.7
    assert (out[changed].float().std((2, 3)) < noise[changed].float().std((2, 3)) + 1e-3).all()
    assert abs(float(out[changed].float().mean() - noise[changed].float().mean())) < 1


def test_views_are_a_preset_of_both_modalities() -> None:
    assert [type(part).__name__ for part in preset("views", "image")] == ["RandomResizedCrop", "Flip", "Colour", "Grey", "Blur"]
    assert all("audio" in part.modalities for part in preset("views", "audio"))


# --- the vision transformer ----------------------------------------------------------------------


def test_patches_are_cut_row_by_row_and_know_their_places() -> None:
    x = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = cut(x, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(patches[1, 4].view(4, 4, 3), x[1, :, 4:8, 4:8].permute(1, 2, 0))
    where = places(3, 5, 16)
    assert where.shape == (15, 16)
    assert len(where.unique(dim=0)) == 15
    stage = Patches(4, 12)
    out = stage(Features(tensor=torch.zeros(1, 3, 8, 12), layout="raw"))
    assert (out.layout, out.tensor.shape) == ("sequence", (1, 6, 12))
    assert torch.allclose(out.tensor[0] - stage.embed.bias, places(2, 3, 12), atol=1e-6)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingError, match="must divide the size"):
        network("scratch:vit,patch=5")
    with pytest.raises(SettingError, match="multiple of 4"):
        network("scratch:vit,width=10,heads=2")


# --- collapse ------------------------------------------------------------------------------------


def test_rank_and_spread_tell_collapsed_features() -> None:
    torch.manual_seed(0)
    healthy = torch.randn(400, 16)
    line = torch.randn(400, 1) @ torch.randn(1, 16)
    same = torch.randn(1, 16) + 1e-4 * healthy
    assert effective_rank(healthy) > 15
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert spread(healthy) > 0.95
    assert spread(same) < 0.01
    assert collapse({"spread": spread(healthy), "rank": 15.0}) == []
    assert "collapsed" in collapse({"spread": spread(same), "rank": 15.0})[0]
    assert "1.0 directions" in collapse({"spread": 0.9, "rank": effective_rank(line)})[0]


# --- contrastive ---------------------------------------------------------------------------------


def test_simclr_is_the_cross_entropy_of_the_other_view() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(3, 5), torch.randn(3, 5)
    views = F.normalize(torch.stack([one, other], 1).flatten(0, 1), dim=1)
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        similar = torch.stack([views[i] @ views[j] for j in others]) / 0.5
        terms.append(-similar.log_softmax(0)[others.index(i ^ 1)])
    assert float(simclr(one, other, 0.5)) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)
    assert float(simclr(torch.ones(4, 5), torch.ones(4, 5), 0.5)) == pytest.approx(math.log(7), rel=1e-5)


def test_vicreg_is_small_for_varied_views_that_agree_and_large_for_a_constant() -> None:
    torch.manual_seed(0)
    varied = torch.linalg.qr(torch.randn(64, 8))[0] * 64**0.5 * 1.1
    varied = varied - varied.mean(0)
    assert float(vicreg(varied, varied)) < 1
    assert float(vicreg(torch.ones(64, 8), torch.ones(64, 8))) > 20
    assert float(vicreg(varied, varied.roll(1, 0))) > 25


@pytest.mark.parametrize("loss", ["simclr", "vicreg"])
@pytest.mark.parametrize("id", [CNN, VIT])
def test_contrastive_learns_to_match_views_and_reports_its_health(loss: Any, id: str) -> None:
    torch.manual_seed(0)
    learner = Contrastive(loss=loss, hidden=16, outputs=8).learner(network(id))
    x = images(12)
    batch = batch_of(torch.stack([x, (x.float() * 0.8).to(torch.uint8)], 1))
    optimizer = Optim().build(learner.groups(), 3e-3, 0.0)
    first = None
    for _ in range(12):
        out = learner.train()(batch)
        first = first or float(out.loss.detach())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.logs == {}
    assert float(out.loss.detach()) < first
    seen = learner.eval()(batch)
    assert {"matched", "spread", "rank"} <= set(seen.logs)
    assert ("floor_chance" in seen.logs) == (loss == "simclr")
    assert learner.predict(batch).shape[0] == 24


def test_views_that_are_not_told_apart_are_said() -> None:
    learner = Contrastive().learner(network(CNN))
    metrics = {"loss": 5.4, "spread": 0.9, "rank": 30.0}
    assert "barely distinguishes" in learner.verdict(metrics, {"chance": 5.5})[0]
    assert learner.verdict(metrics | {"loss": 3.0}, {"chance": 5.5}) == []


# --- masked --------------------------------------------------------------------------------------


def test_as_many_patches_of_every_image_are_hidden() -> None:
    masks = hidden(50, 16, 0.6, torch.device("cpu"))
    assert (masks.sum(1) == 10).all()
    assert len(masks.unique(dim=0)) > 40
    assert (hidden(5, 4, 0.95, torch.device("cpu")).sum(1) == 3).all()


def masked(id: str, size: int = 32) -> MaskedImagesLearner:
    learner = Masked().learner(network(id, size))
    assert isinstance(learner, MaskedImagesLearner)
    return learner.eval()


def test_hidden_patches_never_enter_the_vision_transformer() -> None:
    learner = masked(VIT)
    assert isinstance(learner, LeftOut)
    lengths: list[int] = []
    learner.backbone.stages["layer1"].register_forward_hook(lambda _module, inputs, _out: lengths.append(inputs[0].tensor.shape[1]))
    learner(batch_of(images()))
    assert lengths == [16, 64], "a quarter of 64 patches; all of them only for the health of features"


@pytest.mark.parametrize(("id", "size"), [(VIT, 32), (CNN, 32), (CNN, 29)])
def test_what_is_hidden_does_not_change_what_is_predicted(id: str, size: int) -> None:
    learner = masked(id, size)
    x = learner.normaliser(Features(tensor=images(4, size), layout="raw")).tensor
    count = cut(learner._whole(x), learner.patch).shape[1]
    mask = hidden(4, count, 0.5, torch.device("cpu"))
    rows = math.ceil(size / learner.patch)
    over = F.interpolate(mask.unflatten(1, (rows, -1))[:, None].float(), scale_factor=learner.patch)[:, :, :size, :size].bool()
    other = torch.where(over, torch.randn_like(x), x)
    assert torch.allclose(learner.predicted(x, mask), learner.predicted(other, mask), atol=1e-5)
    assert not torch.allclose(learner.predicted(x, mask), learner.predicted(torch.where(over, x, 0), mask), atol=1e-3)


@pytest.mark.parametrize(("id", "size"), [(VIT, 32), (CNN, 29)])
def test_reconstructions_show_the_real_pixels_where_none_were_hidden(id: str, size: int) -> None:
    learner = masked(id, size)
    x = images(4, size)
    (_, real), (_, seen), (_, filled) = learner.reconstructions(batch_of(x))
    for k in range(4):
        assert (real[k] == x[k].permute(1, 2, 0).numpy()).all()
        kept = (seen[k] == real[k]).all(2)
        assert 0.1 < kept.mean() < 0.7
        assert (filled[k][kept] == real[k][kept]).mean() > 0.95
        assert (filled[k][~kept] != real[k][~kept]).any()


def test_the_loss_looks_at_hidden_patches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = masked(CNN)
    assert isinstance(learner, Painted)

    def knowing(x: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask[..., None], normalised(cut(x, learner.patch)), 1e3)

    monkeypatch.setattr(learner, "predicted", knowing)
    out = learner(batch_of(images()))
    assert float(out.loss) == pytest.approx(0, abs=1e-6)
    assert 0.5 < out.logs["floor_patch_mean"] <= 1.0
    assert learner.verdict({"loss": 0.1, "spread": 0.5, "rank": 5.0}, {"patch_mean": 0.99}) == []
    assert "not predicted better than the baseline" in learner.verdict({"loss": 0.99, "spread": 0.5, "rank": 5.0}, {"patch_mean": 0.99})[0]


def test_networks_without_places_are_refused() -> None:
    other = network(VIT)
    other.stages["patches"] = torch.nn.Identity()
    with pytest.raises(SettingError, match="whose features have places"):
        Masked().learner(other)
    with pytest.raises(SettingError, match="single place"):
        Masked().learner(network("scratch:cnn,stages=6,width=8,depth=1"))


# --- supervised and distillation -----------------------------------------------------------------


def test_supervised_needs_classes_and_reports_accuracy() -> None:
    learner: Any = Supervised().learner(network(CNN))
    with pytest.raises(DataError, match="at least two classes"):
        learner.classes = ()
    learner.classes = ("bright", "dark")
    x = torch.cat([torch.full((6, 3, 32, 32), 250, dtype=torch.uint8), torch.full((6, 3, 32, 32), 3, dtype=torch.uint8)])
    batch = batch_of(x, torch.tensor([0] * 6 + [1] * 6))
    optimizer = Optim().build(learner.groups(), 1e-2, 0.0)
    for _ in range(8):
        optimizer.zero_grad()
        learner.train()(batch).loss.backward()
        optimizer.step()
    learner.train()
    for _ in range(20):
        learner(batch)  # running statistics of norms catch up
    out = learner.eval()(batch)
    assert out.logs["accuracy"] == 1.0
    assert out.logs["floor_majority"] == 0.5
    assert learner.verdict({"loss": 0.1, "accuracy": 1.0}, {"majority": 0.5, "chance": 0.7}) == []
    assert "no better than fresh weights" in learner.verdict({"loss": 0.8, "accuracy": 0.5}, {"majority": 0.5, "chance": 0.7})[0]


def test_a_teacher_sees_by_its_own_preprocessing_and_is_in_no_checkpoint() -> None:
    learner = Distillation(teacher_size=48).learner(network(CNN))
    teacher = learner._teacher[0]
    assert not any("teacher" in name for name in learner.state_dict())
    assert not {id(p) for p in learner.parameters()} & {id(p) for p in teacher.parameters()}
    learner.train()
    assert not any(module.training for module in teacher.modules())
    own = backbones.load("package:efficientnet_lite0", offline=True, image_size=48).eval()
    x = images(3, 48)
    with torch.no_grad():
        expected = Pool(own.pooling)(own(own.modality.normaliser()(Features(tensor=x, layout="raw")))).tensor
    assert torch.allclose(teacher(Features(tensor=x, layout="raw")), expected, atol=1e-4)
    assert teacher(Features(tensor=images(3), layout="raw")).shape == expected.shape, "smaller pictures are scaled"
    out = learner(batch_of(images(4)))
    out.loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert "does not match the teacher" in learner.verdict({"loss": 1.0, "spread": 0.5, "rank": 5.0}, {"mean": 1.0})[0]


def test_teachers_of_another_modality_are_refused() -> None:
    with pytest.raises(SettingError, match="takes audio and the student scratch:cnn image"):
        Distillation(teacher="scratch:audiocnn").learner(network("scratch:cnn"))
    with pytest.raises(SettingError, match=r"needs objective\.teacher"):
        Distillation().learner(backbones.load("scratch:audiocnn"))


@pytest.mark.parametrize(
    ("name", "given", "side", "seen"),
    [
        ("scratch:cnn", None, 30, 32),
        ("scratch:cnn", None, 9, 16),
        ("scratch:cnn", None, 60, 64),
        ("scratch:cnn", None, 300, 64),
        ("scratch:cnn", 64, 30, 64),
        ("scratch:cnn,size=64", None, 30, 64),
        ("package:efficientnet_lite0", None, 30, 224),
    ],
)
def test_fresh_networks_see_small_pictures_at_about_their_size(name: str, given: int | None, side: int, seen: int, tmp_path: Path) -> None:
    rows = [Row(id=f"{i}.png", path=tmp_path / f"{i}.png") for i in range(5)]
    for row in rows[:4]:  # the last is missing, which is reported when all are decoded
        Image.new("RGB", (side + 5, side)).save(cast("Path", row.path))
    given_backbone = backbones.load(name, offline=True, image_size=given)
    backbone, message = fitted_to_small(given_backbone, rows, named=name, inputs=Inputs(image_size=given), seed=3)
    assert backbone.modality.size == seen
    assert (f"at most {side} pixels" in message) is (seen < 64)
    again, _ = fitted_to_small(given_backbone, rows, named=name, inputs=Inputs(image_size=given), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), again.parameters(), strict=True))


# --- whole runs ----------------------------------------------------------------------------------


def test_contrastive_then_finetune_from_the_command_line(home: Path) -> None:
    folder(home / "photos", 12)
    words = ["backbone=scratch:cnn,width=8,stages=2,depth=1", "image_size=16", "batch_size=8", "epochs=2", "threads=1", "held=0.3"]
    metrics = json.loads(pretune("pretrain", "photos", "objective=contrastive", *words, "out=pre", "--json", "--offline").stdout)
    assert metrics["objective"] == "contrastive"
    assert {"matched", "spread", "rank", "loss"} <= set(metrics["held"])
    assert metrics["floors"]["chance"] > 0
    tuned = pt.finetune(home / "photos", backbone="run:pre", strategy="full", epochs=1, threads=1)
    assert json.loads((tuned.path / "metrics.json").read_text())["backbone"] == "scratch:cnn"


@pytest.mark.parametrize(("objective", "backbone"), [("masked", VIT), ("supervised", None), ("masked", None)])
def test_objectives_run_save_and_are_taken_up(home: Path, objective: str, backbone: str | None) -> None:
    folder(home / "photos", 10)
    settings = QUICK | ({"backbone": backbone} if backbone else {}) | ({"augment": "strong"} if objective == "supervised" else {})
    run = pt.pretrain(home / "photos", objective=objective, **settings, out="pre")
    told = json.loads((run.path / "metrics.json").read_text())
    assert math.isfinite(told["held"]["loss"])
    assert told["floors"]
    if objective == "masked":
        shown = json.loads((run.path / "pictures" / "samples.json").read_text())[0]
        assert shown["rows"][0]["heading"] == "held-out images"
        assert "filled in (each patch with its real mean" in (run.path / "report.html").read_text()
    assert backbones.load(f"run:{run.path}").width > 0


class Stopping(Silent):
    """Presses Ctrl-C after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def event(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_distillation_resumes_bit_for_bit_without_its_teacher_in_the_run(home: Path) -> None:
    folder(home / "photos", 10)
    objective = {"name": "distillation", "teacher_size": 32}
    pt.pretrain(home / "photos", objective=objective, **QUICK, out="whole")
    with pytest.raises(Interrupted):
        pt.pretrain(home / "photos", objective=objective, **QUICK, out="cut", reporter=Stopping(3))
    pt.pretrain(home / "photos", objective=objective, **QUICK, out="cut", resume=True)
    assert losses(home / "cut") == losses(home / "whole")
    for file in ("weights/last.safetensors", "backbone/weights.safetensors"):
        assert (home / "cut" / file).read_bytes() == (home / "whole" / file).read_bytes()
        assert (home / "cut" / file).stat().st_size < 1_000_000


def test_unlabelled_images_are_refused_where_labels_are_learned(home: Path) -> None:
    photos = folder(home / "photos", 10)
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        path.rename(photos / f"{number}.png")
    with pytest.raises(DataError, match="at least two classes"):
        pt.pretrain(photos, objective="supervised", **QUICK, out="pre")


def texts(path: Path) -> Path:
    words = {"food": ["bread", "soup", "rice", "cheese"], "space": ["moon", "star", "orbit", "rocket"]}
    lines = [f"{' '.join(words[kind][(i * k) % 4] for k in (1, 2, 3))} {i},{kind}" for i in range(20) for kind in words]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def test_texts_are_learned_by_class_and_then_from_a_teacher(home: Path) -> None:
    data, sizes = texts(home / "t.csv"), "layers=1,heads=2"
    common: dict[str, Any] = {"epochs": 2, "batch_size": 8, "threads": 1}
    teacher = pt.pretrain(data, objective="supervised", backbone=f"scratch:transformer,width=16,{sizes}", **common, out="teacher")
    assert json.loads((teacher.path / "metrics.json").read_text())["classes"] == ["food", "space"]
    objective = {"name": "distillation", "teacher": f"run:{teacher.path}"}
    student = pt.pretrain(data, objective=objective, backbone=f"scratch:transformer,width=8,{sizes}", **common, out="student")
    assert json.loads((student.path / "metrics.json").read_text())["held"]["loss"] < 1.5
    read = [backbones.load(f"run:{run.path}").modality for run in (teacher, student)]
    assert getattr(read[0], "tokenizer", "a") == getattr(read[1], "tokenizer", "b")
    with pytest.raises(SettingError, match="different tokens"):
        Distillation(teacher=f"run:{teacher.path}").learner(backbones.load("scratch:transformer"))


def test_a_learner_is_what_the_contract_says() -> None:
    for objective in (Contrastive(), Masked(), Supervised(), Distillation(teacher_size=32)):
        learner = objective.learner(network(CNN))
        assert isinstance(learner, PretextLearner)
        learner.begin("pretrain")
        named = [name for group in learner.groups() for name, _ in group]
        assert named
        assert sorted(named) == sorted(name for name, p in learner.named_parameters() if p.requires_grad)


# --- few items, equal items, settings ------------------------------------------------------------


def test_few_items_tell_nothing_about_collapse() -> None:
    torch.manual_seed(0)
    assert health(torch.randn(FEW - 1, 8)) == {}
    assert set(health(torch.randn(FEW, 8))) == {"spread", "rank"}
    assert collapse(health(torch.randn(FEW, 8))) == []
    messages = collapse({})
    assert len(messages) == 1
    assert "cannot tell" in messages[0]


def test_equal_examples_are_taken_once_and_both_parts_of_a_comparison_hold_two() -> None:
    done: Any = SimpleNamespace(hashes=["a", "b", "a", "c", "b"], rows=[SimpleNamespace(id=str(i)) for i in range(5)])
    positions, copies = without_copies(done)
    assert positions.tolist() == [0, 1, 3]
    assert [(copy.item, copy.detail) for copy in copies] == [("2", "equals 0 byte for byte"), ("4", "equals 1 byte for byte")]
    assert without_copies(done, [0, 0, 1, 0, 0])[0].tolist() == [0, 1, 2, 3], "other labels are other items"
    rows = [Row(id=str(i), path=None, text=("x",)) for i in range(4)]
    assert [len(part) for part in at_random(rows, np.arange(4), fraction=0.1, seed=0, what="images", least=2).values()] == [2, 2]
    with pytest.raises(DataError, match="images: 3"):
        at_random(rows, np.arange(3), fraction=0.1, seed=0, what="images", least=2)


def test_settings_of_another_modality_or_loss_are_refused() -> None:
    with pytest.raises(SettingError, match="whole_words is for texts"):
        Masked(whole_words=True).learner(network(CNN))
    with pytest.raises(SettingError, match="temperature is for loss=simclr"):
        Contrastive(loss="vicreg", temperature=0.5)
    assert Contrastive(loss="vicreg", outputs=8).loss == "vicreg"


@pytest.mark.parametrize(("id", "size"), [("scratch:vqvae,width=8", 30), (CNN, 28), ("scratch:cnn,width=320,stages=2,depth=1", 16)])
def test_pictures_of_any_size_are_decoded_by_a_decoder_of_bounded_width(id: str, size: int) -> None:
    learner: Any = Autoencode(codes=8).learner(network(id, size)).eval()
    learner.begin("autoencode")
    set_classes(learner, ())
    with torch.no_grad():
        out = learner(batch_of(images(3, size)))
    assert math.isfinite(float(out.loss))
    assert max(p.shape[0] for p in learner.decoder.parameters()) <= 256


def test_pictures_have_no_length() -> None:
    learner: Any = Autoencode(codes=8).learner(network("scratch:vqvae,width=8", 16))
    set_classes(learner, ())
    with pytest.raises(SettingError, match="length is for texts and sounds"):
        learner.generate(Wanted(length=5))


def test_the_mean_that_decoding_must_beat_is_that_of_the_other_items() -> None:
    learner: Any = Autoencode(codes=8).learner(network("scratch:vqvae,width=8", 16)).eval()
    learner.begin("autoencode")
    set_classes(learner, ())
    batch = batch_of(images(3, 16))
    x = learner.decoder.target(learner.input(batch.inputs))
    others = torch.stack([(x[[1, 2]].mean(0) - x[0]), (x[[0, 2]].mean(0) - x[1]), (x[[0, 1]].mean(0) - x[2])]).square().mean()
    with torch.no_grad():
        assert learner(batch).logs["floor_mean_error"] == pytest.approx(float(others), rel=1e-4)
        assert "floor_mean_error" not in learner(batch_of(images(1, 16))).logs
    assert not learner.verdict({"codes_in_use": 8.0, "error": 0.1, "loss": 1.0}, {"unigram": 2.0})


def test_copies_of_one_picture_are_too_few(home: Path) -> None:
    (home / "copies").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for i in range(6):
        Image.fromarray(pixels).save(home / "copies" / f"{i}.png")
    with pytest.raises(DataError, match="different usable images under"):
        pt.pretrain(home / "copies", **QUICK)
    folder(home / "photos", 6)
    with pytest.raises(SettingError, match="augment=none makes them the same"):
        pt.pretrain(home / "photos", augment="none", **QUICK)
    with pytest.raises(SettingError, match="units is not used by objective=contrastive"):
        pt.pretrain(home / "copies", units="word", **QUICK)


def test_what_is_fresh_beside_weights_that_exist_learns_at_a_pace_of_its_own() -> None:
    learner = Masked().learner(network(CNN))
    plain = learner.groups()
    assert {group.lr_scale for group in plain} == {1.0}
    learner.pace = 10.0
    paced = learner.groups()
    scales = {name: group.lr_scale for group in paced for name, _ in group}
    assert scales == {name: 1.0 if name.startswith("backbone.") else 10.0 for group in plain for name, _ in group}
    assert {group.decay for group in paced if any(p.ndim <= 1 for _, p in group)} == {False}


def test_continued_weights_are_moved_more_slowly_than_the_head_on_them(home: Path) -> None:
    folder(home / "photos", 6)
    noted = Noted()
    quick = {**QUICK, "epochs": 1, "objective": "masked", "out": home / "first"}
    pt.pretrain(home / "photos", **quick, reporter=noted)
    assert "times as fast" not in noted.text
    pt.pretrain(
        home / "photos", **{**quick, "backbone": f"run:{home / 'first'}", "out": home / "second", "image_size": None}, reporter=noted
    )
    assert "use 10× the learning rate" in noted.text


class Noted(Silent):
    """Keeps what was said."""

    text = ""

    def say(self, line: str) -> None:
        self.text += line + "\n"


# --- what the report says ------------------------------------------------------------------------


def test_floors_stand_beside_the_figure_they_are_floors_of() -> None:
    metrics = {"held": {"loss": 4.5, "error": 0.2}, "floors": {"mean_error": 0.3, "unigram": 5.3}}
    assert [row["label"] for row in _bars(metrics, "loss")] == ["this model", "baseline: unigram"]
    assert _beside(metrics["floors"], "error") == " (baseline: mean error 0.3)"
    assert _beside(metrics["floors"], "codes_in_use") == ""


def test_a_loss_is_sampled_once() -> None:
    stepped = [{"event": "stepped", "phase": "pretrain", "step": n, "epoch": 0, "loss": 2.0 - 0.1 * n, "lr": 0.1} for n in range(1, 5)]
    evaluated = {"event": "evaluated", "phase": "pretrain", "step": 4, "epoch": 1, "split": "held", "metrics": {"loss": 1.7}}
    made = _curves.build([*stepped, evaluated], "loss")
    assert made is not None
    assert [chart["title"] for chart in made["phases"][0]["charts"]] == ["loss", "learning rate"]


def test_a_run_that_makes_nothing_is_called_by_its_objective(home: Path) -> None:
    folder(home / "photos", 6)
    run = pt.pretrain(home / "photos", objective="masked", out=home / "run", **{**QUICK, "backbone": VIT, "epochs": 1})
    with pytest.raises(RequestError, match="objective=masked, which makes nothing new"):
        pt.generate(run.path)


def test_a_run_is_extended_by_its_own_objective_only(home: Path) -> None:
    folder(home / "photos", 6)
    pt.pretrain(home / "photos", objective="masked", out=home / "run", **QUICK)
    more = {"extend": str(home / "run"), "batch_size": 8, "epochs": 4, "threads": 1}
    assert pt.pretrain(home / "photos", out=home / "longer", **more).metrics["objective"] == "masked"
    with pytest.raises(SettingError, match=r"extend goes on with what .* was learning"):
        pt.pretrain(home / "photos", objective="contrastive", **more)
