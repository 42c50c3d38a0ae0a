"""Weights that others saved: found under whatever their tools put before the names, and refused where they are not sound."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from pretune import backbones
from pretune.backbones import Builder, _ctranslate2, _gguf, load_matching
from pretune.backbones._prefixes import fit
from pretune.backbones._states import State, read_state
from pretune.errors import RequestError, SettingError, WeightsError
from pretune.modalities.image import Image
from pretune.recipe import Recipe
from pretune.runner.deadline import Deadline
from pretune.runner.job import RunContext
from pretune.runner.network import choose_backbone
from pretune.runner.reporter import Noted, Silent
from pretune.sources.table import Table
from pretune.sources.target_type import ONE_CLASS
from pretune.tasks.classification import Classification
from pretune.training.device import Device


def _net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def _under(prefix: str, seed: int = 0, skip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in _net(seed).state_dict().items() if not name.startswith(skip)}


def _fit(content: Any, path: Path, entry: str | None = None) -> State:
    torch.save(content, path)
    return fit(read_state(path, entry), _net().state_dict(), ("2.",))


def _seed(state: State) -> int:
    """Return which of the seeds the first tensor is of."""
    return next(seed for seed in range(3) if torch.equal(state.tensors["0.weight"], _net(seed)[0].weight))


# --- what stands before the names ----------------------------------------------------------------------


PREFIXES = ["", "encoder.", "backbone.", "net.", "module.", "model.", "_orig_mod.", "module._orig_mod.model.", "some.thing_else."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_what_stands_before_the_networks_names(prefix: str, tmp_path: Path) -> None:
    state = _fit({**_under(prefix), "projector.0.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    assert set(state.tensors) == set(_net().state_dict())
    assert _seed(state) == 0
    assert "1 other tensors not used (projector.0" in state.source
    assert not prefix or repr(prefix) in state.source


LAYOUTS: dict[str, tuple[Callable[[], dict[str, Any]], int, str]] = {
    "dino": (
        lambda: {"student": _under("module.backbone.", 1), "teacher": {**_under("backbone."), "head.a": torch.ones(1)}, "epoch": 3},
        0,
        "'student.module.backbone'",
    ),
    "moco": (lambda: {"state_dict": {**_under("module.encoder_k.", 1), **_under("module.encoder_q.")}}, 0, "'state_dict.module.encoder_k'"),
    "moco_v3": (lambda: {"state_dict": {**_under("momentum_encoder.", 1), **_under("base_encoder.")}}, 0, "momentum_encoder"),
    "timm_ema": (lambda: {"state_dict": _under("", 1), "state_dict_ema": _under("")}, 0, "'state_dict'"),
    "byol": (lambda: {**_under("target_encoder.", 1), **_under("online_encoder.")}, 0, "'target_encoder'"),
    "lightning": (lambda: {"state_dict": _under("model."), "optimizer_states": [{}]}, 0, "'model.'"),
    "headless": (lambda: {"state_dict": _under("backbone.", skip=("2.",))}, 0, "'backbone.'"),
    "copies": (lambda: {**_under("a."), **_under("b.")}, 0, "they are equal"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_several_sets_the_one_that_is_meant_is_taken_and_said(layout: str, tmp_path: Path) -> None:
    make, seed, message = LAYOUTS[layout]
    state = _fit(make(), tmp_path / "w.pth")
    assert _seed(state) == seed
    assert message in state.source


def test_the_other_set_can_be_named_and_equals_are_asked_for(tmp_path: Path) -> None:
    both = {"student": _under("module.", 1), "teacher": _under("")}
    assert _seed(_fit(both, tmp_path / "w.pth", "student")) == 1
    assert _seed(_fit(both, tmp_path / "w.pth", "student.module")) == 1
    with pytest.raises(SettingError, match=r"entry=pupil.*'teacher'"):
        _fit(both, tmp_path / "w.pth", "pupil")
    with pytest.raises(SettingError, match=r"2 sets of weights.*entry=left or .*entry=right"):
        _fit({**_under("left.", 0), **_under("right.", 1)}, tmp_path / "w.pth")


def test_part_of_a_larger_network_is_not_taken_for_the_whole_of_a_smaller(tmp_path: Path) -> None:
    save_file(models.resnet34().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected layer1\.2"):
        backbones.load(f"file:{tmp_path / 'w.safetensors'}@torchvision:resnet18")


def test_files_meet_networks_of_every_library(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for network, made in (("timm:test_resnet", timm.create_model("test_resnet")), ("torchvision:resnet18", models.resnet18())):
        body = {name: tensor for name, tensor in made.state_dict().items() if not name.startswith("fc.")}
        student = {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in body.items()}
        torch.save({"student": student, "teacher": {f"backbone.{name}": tensor for name, tensor in body.items()}}, path)
        backbone = backbones.load(f"file:{path}@{network}")
        assert "entry=student.module.backbone takes the other" in str(backbone.report)
        assert backbone.classifier is None
        assert any(float(p.detach().abs().sum()) > 0 for p in backbone.stages.parameters())
        named = backbones.load(f"file:{path}@{network},entry=student")
        assert all(float(p.detach().abs().sum()) == 0 for p in named.stages.parameters())
        with pytest.raises(SettingError, match="entry=ema"):
            backbones.load(f"file:{path}@{network},entry=ema")


# --- no weights at all ---------------------------------------------------------------------------------


def test_from_scratch_needs_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("pretune.backbones._states.read_state", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr("pretune.backbones._packages.distribution", lambda name: pytest.fail(f"{name} was asked for"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("weights were fetched"))
    ids = ("torchvision:resnet18", "timm:test_resnet", "package:mobilenet_v2", "package:resemblyzer", "file:no.pth@torchvision:resnet18")
    for id in ids:
        backbone = backbones.from_scratch(id, offline=True, image_size=64 if "res" not in id[:12] else None)
        assert backbone.report is None
        assert backbone.builder.id.startswith(id)
    assert backbones.from_scratch("timm:test_resnet").modality == backbones.build(Builder(id="timm:test_resnet")).modality


def test_a_run_from_scratch_loads_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.from_settings(str(home), backbone="timm:test_resnet", strategy="scratch", image_size=64)
    monkeypatch.setattr(backbones, "load", lambda *_, **__: pytest.fail("weights were loaded"))
    table = Table(rows=[], modality="image", target_type=ONE_CLASS, root=home, layout="")
    run = RunContext(place=recipe.place, device=Device(device=torch.device("cpu")), reporter=Noted(Silent()), deadline=Deadline(None))
    first, second = (choose_backbone(recipe, None, Classification(), table, run) for _ in range(2))
    assert isinstance(first.modality, Image)
    assert first.modality.size == 64
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)), "the seed decides"


# --- numbers that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn])
def test_only_floats_become_floats(dtype: torch.dtype, tmp_path: Path) -> None:
    state = _under("") | {"0.weight": torch.ones(4, 3, 3, 3).to(dtype)}
    with pytest.raises(WeightsError, match=rf"'0\.weight' is {str(dtype)[6:]}, but the network has float32"):
        load_matching(_net(), state, source="w.pth")
    made = {
        name: tensor.to(dtype) if name == "fc.weight" else tensor for name, tensor in timm.create_model("test_resnet").state_dict().items()
    }
    torch.save(made, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'fc\.weight' is"):
        backbones.load(f"file:{tmp_path / 'w.pth'}@timm:test_resnet")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "2.bias"])
def test_nan_and_infinity_are_seen(value: float, name: str, tmp_path: Path) -> None:
    state = _under("")
    state[name].view(-1)[1] = value
    with pytest.raises(WeightsError, match=rf"1 of \d+ numbers of tensor '{name}' are NaN or infinite"):
        load_matching(_net(), state, source="w.pth")
    made = timm.create_model("test_resnet").state_dict()
    made["layer1.0.conv1.weight"].view(-1)[3] = value
    save_file(made, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight"):
        backbones.load(f"file:{tmp_path / 'w.safetensors'}@timm:test_resnet")


def test_large_finite_numbers_are_numbers_and_masks_may_be_infinite() -> None:
    network: Any = _net()
    network.register_buffer("mask", torch.zeros(2))
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    state["0.weight"] = torch.full((4, 3, 3, 3), 60_000.0).half()  # their sum is beyond float16
    state["0.bias"] = torch.full((4,), 3e38)  # and this one's beyond float32
    state["mask"] = torch.tensor([0.0, -float("inf")])
    load_matching(network, state, source="w.pth")
    assert float(network[0].weight.detach().max()) == 60_000


# --- files that lie ------------------------------------------------------------------------------------


def test_a_state_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    laughs: dict[str, Any] = {"x": 1}
    for _ in range(60):
        laughs = {"a": laughs, "b": laughs}
    for content in (loop, laughs):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match="holds no tensors"):
            read_state(tmp_path / "w.pth")
    loop["state_dict"] = {"model": loop, "teacher": _under("")}
    assert _seed(_fit(loop, tmp_path / "w.pth")) == 0


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty(3, device="meta"), "on the meta device"),
        (torch.eye(3).to_sparse(), "sparse"),
    ],
)
def test_tensors_without_plain_numbers_are_named(tensor: Tensor, message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": tensor}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"'state_dict.w' is {message}"):
        read_state(tmp_path / "w.pth")


def _header(told: Any, body: int = 40) -> bytes:
    header = json.dumps(told).encode()
    return struct.pack("<Q", len(header)) + header + bytes(body)


LIES: dict[str, tuple[bytes, str]] = {
    "offset": (_header({"a": {"dtype": "F32", "shape": [10], "data_offsets": [0, 4000]}}), "'a' is said to end at byte 4,000 of 40"),
    "cut": (_header({"a": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}, 20), "'a' is said to end at byte 40 of 20"),
    "shape": (_header({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 40]}}), "'a' of shape"),
    "negative": (_header({"a": {"dtype": "F32", "shape": [-10], "data_offsets": [0, 40]}}), "'a' has a shape"),
    "text": (_header({"a": "no"}), "'a' is not described"),
    "list": (_header([1]), "names no tensors"),
    "length": (struct.pack("<Q", 10**15) + b"{}", "1,000,000,000,000,000 bytes"),
    "short": (b"\1", "said to take 0 bytes"),
    "json": (struct.pack("<Q", 8) + b"{" * 8, "is no JSON"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_refused_with_the_tensor(lie: str, tmp_path: Path) -> None:
    raw, message = LIES[lie]
    (tmp_path / "w.safetensors").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"w\.safetensors is not a whole safetensors file") as caught:
        read_state(tmp_path / "w.safetensors")
    assert message in str(caught.value)


def test_a_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    save_file(_under(""), tmp_path / "w.pth")
    assert set(read_state(tmp_path / "w.pth").tensors) == set(_under(""))
    for raw, message in ((b"GGUF" + bytes(40), "a GGUF file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")):
        (tmp_path / "w.bin").write_bytes(raw)
        with pytest.raises(WeightsError, match=message):
            read_state(tmp_path / "w.bin")
    with pytest.raises(WeightsError, match="is a folder"):
        read_state(tmp_path)


def test_zip_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert read_state(tmp_path / "plain.pth").tensors["a"].shape == (1_000_000,)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(WeightsError, match=r"unpacks to 4,00\d,\d+.*Nothing of it was read"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("old_format", [False, True])
def test_files_cut_anywhere_get_one_sentence(old_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(_under(""), path, _use_new_zipfile_serialization=not old_format)
    raw = path.read_bytes()
    for share in range(1, 20):
        path.write_bytes(raw[: len(raw) * share // 20])
        with pytest.raises(WeightsError):
            read_state(path)


# --- GGUF and CTranslate2 ------------------------------------------------------------------------------


def _gguf_file(*, key: bytes = b"a", kind: int = 4, value: bytes = b"\1\0\0\0", shape: tuple[int, ...] = (32,), data: int = 128) -> bytes:
    sides = b"".join(struct.pack("<Q", side) for side in shape)
    told = struct.pack("<Q", 1) + b"t" + struct.pack("<I", len(shape)) + sides + struct.pack("<IQ", 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value + told
    return head + bytes(-len(head) % 32) + bytes(data)


GGUFS = {
    "empty": b"",
    "type": _gguf_file(kind=77),
    "nested": _gguf_file(kind=9, value=struct.pack("<IQ", 9, 1) * 3000),
    "long_text": _gguf_file(kind=8, value=struct.pack("<Q", 2**62)),
    "many": _gguf_file(kind=9, value=struct.pack("<IQ", 4, 2**62)),
    "no_text": _gguf_file(key=b"\xff\xfe"),
    "alignment": _gguf_file(key=b"general.alignment", value=bytes(4)),
    "shape": _gguf_file(shape=(2**40, 2**40)),
    "cut": _gguf_file(data=100),
}


@pytest.mark.parametrize("name", GGUFS)
def test_gguf_files_that_lie_get_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(_gguf_file())
    assert _gguf.read_gguf(tmp_path / "w.gguf").tensors["t"].shape == (32,)
    (tmp_path / "w.gguf").write_bytes(GGUFS[name])
    with pytest.raises(WeightsError, match=r"w\.gguf"):
        _gguf.read_gguf(tmp_path / "w.gguf")


def test_gguf_and_ctranslate2_files_cut_anywhere_get_one_sentence(tmp_path: Path) -> None:
    text = lambda name: struct.pack("<H", len(name) + 1) + name + b"\0"  # noqa: E731
    tensor = text(b"t") + struct.pack("<BIIBI", 2, 2, 3, 0, 24) + bytes(24)
    whole = struct.pack("<I", 6) + text(b"spec") + struct.pack("<II", 1, 1) + tensor
    assert _ctranslate2.read_ctranslate2(whole, "model.bin", lambda _: True)["t"].shape == (2, 3)
    for end in range(len(whole)):
        with pytest.raises(RequestError, match=r"model\.bin"):
            _ctranslate2.read_ctranslate2(whole[:end], "model.bin", lambda _: True)
    wrong = whole.replace(struct.pack("<BII", 2, 2, 3), struct.pack("<BII", 2, 2, 4))
    with pytest.raises(WeightsError, match=r"model\.bin: tensor t"):
        _ctranslate2.read_ctranslate2(wrong, "model.bin", lambda _: True)
    raw = _gguf_file()
    for end in range(len(raw)):
        (tmp_path / "w.gguf").write_bytes(raw[:end])
        with pytest.raises(WeightsError, match=r"w\.gguf"):
            _gguf.read_gguf(tmp_path / "w.gguf")
