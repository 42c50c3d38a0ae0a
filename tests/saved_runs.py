"""Finished run folders with weights, made without training: what predict, evaluate, generate and run:PATH read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from pretune import backbones, config
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.objectives.autoencode import Autoencode
from pretune.objectives.causal import Causal
from pretune.runner.pretrained import save_learner
from pretune.sources.schema import Schema
from pretune.training.run_dir import RunDir
from tests import fake_run

NAMES = ["ant", "bee"]
SIZE = 16


def photos(folder: Path, names: list[str] = NAMES, each: int = 3) -> Path:
    """Write class folders of tiny images."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / name / f"{number}.png")
    return folder


def classifier(folder: Path, names: list[str] = NAMES) -> Path:
    """Write a finished fine-tuning of a tiny network, with all files that a real one has."""
    fake_run.classification(folder, names=names, items=24, skill=0.5)
    torch.manual_seed(0)
    backbone = backbones.load("scratch:cnn,width=8,depth=1,stages=1", image_size=SIZE)
    backbones.save(backbone, folder / "backbone")
    save_head(backbone, folder / "weights" / "last.safetensors", len(names))
    precision = {"bfloat16": False, "channels_last": False, "micro_batch": None, "reason": "made up"}
    RunDir(folder).write_json(
        "model.json",
        {
            "task": {"name": "classification"},
            "schema": Schema(path="file", label=("label",), text_count=None).to_json(),
            "targets": {"classes": names, "mean": 0.0, "deviation": 1.0, "thresholds": []},
            "head": config.to_tree(Linear()),
            "pooling": "mean",
            "weights": "weights/last.safetensors",
            "precision": precision,
            "forward": precision,
            "frozen": 0,
        },
    )
    return folder


def listener(folder: Path) -> Path:
    """Write a finished fine-tuning of a tiny network for clips of a second."""
    classifier(folder)
    backbone = backbones.load("scratch:audiocnn,width=8")
    modality: Any = backbone.modality
    backbone.modality = replace(modality, seconds=1.0)
    backbones.save(backbone, folder / "backbone")
    save_head(backbone, folder / "weights" / "last.safetensors")
    edit(folder / "model.json", lambda told: told.update(pooling=backbone.pooling))
    return folder


def clips(folder: Path) -> Path:
    """Write one sound of a second."""
    folder.mkdir()
    soundfile.write(folder / "a.wav", 0.3 * np.sin(np.arange(16_000) / 20), 16_000)
    return folder


def save_head(backbone: backbones.Backbone, path: Path, outputs: int = 2) -> None:
    """Write a random head over a backbone."""
    model = Model(backbone, Linear(), outputs)
    path.parent.mkdir(exist_ok=True)
    save_file({name: torch.randn_like(tensor) for name, tensor in model.state_dict().items() if name.startswith("stages.head.")}, path)


def writer(folder: Path) -> Path:
    """Write a finished pretraining of a tiny language model."""
    network = "scratch:gpt,vocabulary=300,units=character,width=16,heads=2,layers=1,max_tokens=16"
    backbone = backbones.load(network)
    modality: Any = backbone.modality
    backbone.modality = modality.learned_from(["a few words", "to write on from"])
    return _pretrained(folder, Causal(), backbone, ())


def painter(folder: Path, names: list[str] = NAMES) -> Path:
    """Write a finished pretraining of a tiny autoencoder that makes images of classes."""
    backbone = backbones.load("scratch:vqvae,width=8,depth=0", image_size=SIZE)
    return _pretrained(folder, Autoencode(codes=8, code_width=4), backbone, tuple(names))


def _pretrained(folder: Path, objective: Any, backbone: Any, names: tuple[str, ...]) -> Path:
    from pretune.objectives._labels import set_classes

    torch.manual_seed(0)
    learner = objective.learner(backbone)
    set_classes(learner, names)
    material: Any = SimpleNamespace(backbone=backbone, classes=names)
    folder.mkdir(parents=True)
    save_learner(RunDir(folder), objective, learner, material)
    RunDir(folder).write_json("recipe.json", {"identity": "0", "recipe": {}, "resolved": {}, "data": "0"})
    RunDir(folder).write_json(
        "metrics.json",
        {
            "task": "pretraining",
            "objective": "autoencode",
            "backbone": backbone.builder.id,
            "primary": {"name": "loss", "value": 1.0, "split": "held"},
            "timing": {"total_s": 1.0},
        },
    )
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the content of a JSON file in place."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
