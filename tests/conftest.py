"""Shared parts: a tiny modality and backbone that know nothing of images, for everything above the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from pretune.backbones import Backbone, Builder, TensorStage
from pretune.modalities import Modality
from pretune.types import Decoded, Features


@dataclass(frozen=True, kw_only=True)
class Numbers(Modality):
    """A modality of comma-separated numbers."""

    extensions: ClassVar[frozenset[str]] = frozenset({".num"})
    unit: ClassVar[str] = "row of numbers"

    def working(self) -> dict[str, Any]:
        """Nothing matters."""
        return {"modality": "numbers"}

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Parse."""
        text = raw.decode() if isinstance(raw, bytes) else raw[0]
        return Decoded(array=np.array([float(x) for x in text.split(",")], dtype=np.float32), info={})

    def collate(self, views: list[Any]) -> Features:
        """Stack."""
        return Features(tensor=torch.from_numpy(np.stack(views)), layout="raw")

    def normaliser(self) -> nn.Module:
        """Nothing to do."""
        return nn.Identity()


WIDTH = 6


def tiny_backbone(seed: int = 0, *, dropout: float = 0.0) -> Backbone:
    """Three stages on rows of four numbers; the middle one has a batch norm."""
    torch.manual_seed(seed)
    stages = [
        ("stem", TensorStage(nn.Linear(4, WIDTH), "pooled")),
        ("middle", TensorStage(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(dropout)), "pooled")),
        ("last", TensorStage(nn.Linear(WIDTH, WIDTH), "pooled")),
    ]
    return Backbone(stages=stages, modality=Numbers(), layout="pooled", width=WIDTH, builder=Builder(id="test:tiny"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a cache of its own."""
    monkeypatch.setenv("PRETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
