"""Cached features: keyed by everything that computes them, verified, and never wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from pretune import backbones, kernels
from pretune.backbones import Backbone, Builder, TensorStage
from pretune.errors import TrainingError
from pretune.features import frozen, passes
from pretune.features.frozen import FrozenFeatures
from pretune.features.passes import FeatureCache
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.runner.prepare import followed
from pretune.runner.reporter import Noted, Silent
from pretune.storage import identity
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested, ingest
from pretune.storage.remembered import remembered
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.types import Row
from tests.conftest import Numbers, tiny_backbone

CPU = Device(device=torch.device("cpu"))


def decoded(cache: Cache, count: int = 12) -> Ingested:
    """Return rows of four numbers, decoded."""
    rows = [Row(id=f"r{i}", text=(f"{i},{i % 3},1,0",), target="ab"[i % 2]) for i in range(count)]
    return ingest(rows, Numbers(), cache, threads=1)


def needs_of(folder: Path, backbone: Backbone, precision: Precision | None = None, notes: list[str] | None = None) -> FeatureCache:
    cache, reporter = Cache(folder), Noted(Silent())
    reporter.notes = [] if notes is None else notes
    cache.warn = reporter.warn
    return FeatureCache(
        ingested=decoded(cache),
        modality=Numbers(),
        cache=cache,
        device=CPU,
        measure=lambda: precision or Precision(),
        progress=followed("computing features", reporter),
        warn=reporter.warn,
        builder=backbone.builder,
    )


def model_of(backbone: Backbone) -> Model:
    model = Model(backbone, Linear(), 2)
    for name in (*model.body, "input"):
        model.stages[name].requires_grad_(False)
    return model.eval()


def computed(folder: Path, backbone: Backbone, **options: Any) -> tuple[torch.Tensor, FeatureCache]:
    needs = needs_of(folder, backbone, **options)
    found = frozen.compute(model_of(backbone), needs, None, 1, 0)
    assert isinstance(found, FrozenFeatures)
    return found.view(np.arange(12), None, 1).batch(np.arange(12), 0).inputs.tensor, needs


def entries(folder: Path) -> int:
    return sum(entry.kind == "features" for entry in Cache(folder).entries())


def test_the_same_network_finds_its_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = computed(tmp_path, tiny_backbone())
    monkeypatch.setattr(passes, "inference_copy", lambda *_: pytest.fail("computed twice"))
    again, _ = computed(tmp_path, tiny_backbone())
    assert torch.equal(first, again)
    assert entries(tmp_path) == 1


def middle(backbone: Backbone) -> Any:
    return cast("Any", backbone.stages["middle"]).module


def with_attribute(backbone: Backbone) -> None:
    middle(backbone)[0].eps = 0.5


def with_weight(backbone: Backbone) -> None:
    with torch.no_grad():
        backbone.stages["last"].module.weight[0, 0] += 1


def with_statistics(backbone: Backbone) -> None:
    middle(backbone)[0].running_mean += 1


def with_another_type(backbone: Backbone) -> None:
    middle(backbone)[1] = nn.LeakyReLU(0.3)


def with_a_setting(backbone: Backbone) -> None:
    backbone.builder = Builder(id="test:tiny", settings={"heads": 4})


def with_a_hook(backbone: Backbone) -> None:
    backbone.stages["last"].register_forward_hook(lambda module, inputs, out: replace(out, tensor=2 * out.tensor))


def with_an_own_forward(backbone: Backbone) -> None:
    last: Any = backbone.stages["last"]
    last.forward = lambda features: features.with_tensor(3 * last.module(features.tensor), "pooled")


@pytest.mark.parametrize(
    "change",
    [with_attribute, with_weight, with_statistics, with_another_type, with_a_setting, with_a_hook, with_an_own_forward],
    ids=lambda change: change.__name__,
)
def test_whatever_computes_otherwise_has_an_entry_of_its_own(tmp_path: Path, change: Callable[[Backbone], None]) -> None:
    computed(tmp_path, tiny_backbone())
    other = tiny_backbone()
    change(other)
    values, _ = computed(tmp_path, other)
    assert entries(tmp_path) == 2
    fresh, _ = computed(tmp_path / "empty", other)
    assert torch.equal(values, fresh)


@pytest.mark.parametrize("what", ["versions", "code", "precision", "kernels"])
def test_versions_code_and_precision_are_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    computed(tmp_path, tiny_backbone())
    if what == "versions":
        real = passes.versions
        monkeypatch.setattr(passes, "versions", lambda *names: real(*names) | {"torch": "9.9"})
    elif what == "code":
        monkeypatch.setattr(passes, "code_of_package", lambda *folders: "edited")
    elif what == "kernels":
        monkeypatch.setattr(kernels, "enabled", lambda: False)
    computed(tmp_path, tiny_backbone(), precision=Precision(bfloat16=what == "precision"))
    assert entries(tmp_path) == 2


def test_a_key_over_code_that_is_not_there_is_refused() -> None:
    assert identity.code_of_package("corpus/corpus.py") != identity.code_of_package("corpus/documents.py")
    with pytest.raises(FileNotFoundError):
        identity.code_of_package("corpus/corpus.py", "corpus/gone.py")


def test_heads_of_attention_are_in_the_key() -> None:
    """The weights of two and of four heads have the same names, shapes and, here, values."""
    made = [backbones.load(f"scratch:transformer,heads={heads}", offline=True) for heads in (2, 4, 2)]
    for backbone in made:
        backbone.stages.load_state_dict(made[0].stages.state_dict())
    keys = [identity.structure(*backbone.stages.values()) for backbone in made]
    assert passes.weights_hash(list(made[0].stages.values())) == passes.weights_hash(list(made[1].stages.values()))
    assert keys[0] == keys[2] != keys[1]


OWN = """
from torch import nn
import {helper}

SCALE = 2.0

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return {helper}.twist(self.linear(x)) * SCALE
"""
HELPER = "def twist(x):\n    return x + 1\n"


@pytest.mark.parametrize("edit", ["forward", "constant", "helper", "comment"])
def test_an_edited_module_of_a_persons_own_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str) -> None:
    """The file is edited between two runs; the weights stay."""
    name, helper = f"own_network_{edit}", f"own_helper_{edit}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    files = {name: OWN.format(helper=helper), helper: HELPER}

    def key() -> str:
        for module, text in files.items():
            (tmp_path / f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        for module in (helper, name):
            sys.modules.pop(module, None)
        torch.manual_seed(0)
        return identity.structure(TensorStage(importlib.import_module(name).Mine(), "pooled"))

    before = key()
    assert key() == before
    changes = {
        "forward": (name, "* SCALE", "- SCALE"),
        "constant": (name, "SCALE = 2.0", "SCALE = 3.0"),
        "helper": (helper, "x + 1", "x - 1"),
        "comment": (name, "SCALE = 2.0", "SCALE = 2.0  # twice"),
    }
    module, old, new = changes[edit]
    files[module] = files[module].replace(old, new)
    assert key() != before


def test_what_is_loaded_counts_where_the_file_was_edited_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the old code must not be kept under what the new file would be known by."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    files = {"own_late": OWN.format(helper="own_late_helper"), "own_late_helper": HELPER}
    for module, text in files.items():
        (tmp_path / f"{module}.py").write_text(text)
    old = importlib.import_module("own_late").Mine
    (tmp_path / "own_late.py").write_text(files["own_late"].replace("* SCALE", "- SCALE"))
    stale = identity.code_of(old)
    sys.modules.pop("own_late")
    assert identity.code_of(importlib.import_module("own_late").Mine) != stale


def test_hidden_state_is_part_of_the_structure() -> None:
    def network(hidden: float, buffer: float, table: float) -> nn.Module:
        module: Any = nn.Linear(2, 2)
        module.register_buffer("quiet", torch.full((3,), buffer), persistent=False)
        module.settings = {"gains": [hidden, 2.0]}
        module.tables = (torch.full((2,), table),)
        return module

    keys = [identity.structure(network(*values)) for values in ((1, 1, 1), (1, 1, 1), (9, 1, 1), (1, 9, 1), (1, 1, 9))]
    assert len(set(keys)) == 4
    assert keys[0] == keys[1]


def test_a_structure_is_the_same_in_every_process() -> None:
    names = ("scratch:transformer", "scratch:cnn", "scratch:torchvision:resnet18")
    code = (
        "import sys; from pretune import backbones; from pretune.storage.identity import structure; "
        "print(*[structure(*backbones.load(name, offline=True).stages.values()) for name in sys.argv[1:]])"
    )
    there = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True).stdout.split()
    assert there == [identity.structure(*backbones.load(name, offline=True).stages.values()) for name in names]
    assert len(set(there)) == 3


def test_damaged_features_are_computed_again(tmp_path: Path) -> None:
    first, _ = computed(tmp_path, tiny_backbone())
    data = next(tmp_path.glob("features/*/data.bin"))
    raw = np.frombuffer(data.read_bytes(), np.float32).copy()
    raw[3] = np.nan
    data.write_bytes(raw.tobytes())
    notes: list[str] = []
    again, _ = computed(tmp_path, tiny_backbone(), notes=notes)
    assert torch.equal(first, again)
    assert ["built again" in note for note in notes] == [True]


def test_features_that_are_not_finite_are_refused_by_name_and_not_kept(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.stages["last"].register_forward_hook(  # the fifth item of the first batch only
        lambda module, inputs, out: replace(out, tensor=out.tensor.masked_fill(torch.arange(len(out.tensor))[:, None] == 4, torch.nan))
    )
    with pytest.raises(TrainingError, match=r"NaN or infinity for 1 of 12 .* first for r4\. Nothing was cached"):
        computed(tmp_path, backbone)
    assert list((tmp_path / "features").iterdir()) == []


def test_a_full_disk_keeps_features_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = computed(tmp_path / "room", tiny_backbone())
    opened = Path.open

    def on_a_full_disk(path: Path, *how: Any, **more: Any) -> Any:
        full = path.name == "data.bin" and "features" in str(path)
        return open("/dev/full", "wb", buffering=0) if full else opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    notes: list[str] = []
    values, _ = computed(tmp_path / "full", tiny_backbone(), notes=notes)
    assert torch.equal(values, whole)
    assert any("not kept on disk" in note for note in notes)
    assert list((tmp_path / "full" / "features").iterdir()) == []


def test_a_remembered_choice_is_made_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path), []

    def choose() -> dict[str, Any]:
        made.append(1)
        return asdict(Precision(bfloat16=True, reason="measured"))

    for _ in range(2):
        assert remembered(cache, "precision", {"machine": "this"}, choose) == asdict(Precision(bfloat16=True, reason="measured"))
    assert len(made) == 1
    index = next(tmp_path.glob("precision/*/index.npz"))
    index.write_bytes(index.read_bytes()[:-9])
    assert remembered(cache, "precision", {"machine": "this"}, choose)["bfloat16"]
    assert len(made) == 2
    (tmp_path / "file").write_text("")
    assert remembered(Cache(tmp_path / "file"), "precision", {"machine": "this"}, choose)["bfloat16"], "no room: chosen each time"
    assert len(made) == 3
