"""Frozen features once: the output of the frozen prefix, computed in one pass and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pretune import config
from pretune.augmentations import Augmentation
from pretune.backbones import inference_copy
from pretune.data.cache import Cache
from pretune.data.dataset import FeatureView, StoreView, View
from pretune.data.loader import Loader
from pretune.data.store import Store, StoreWriter
from pretune.models import Model
from pretune.models.model import POOL
from pretune.runner.prepare import Prepared
from pretune.runner.reporter import Reporter
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast, to_device
from pretune.types import Features, Layout

BATCH = 32
"""Items of one forward pass; larger ones leave the processor's cache and are slower."""


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """What computing features needs besides the model."""

    data: Prepared
    cache: Cache
    device: Device
    precision: Precision
    threads: int
    reporter: Reporter


@dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """Features of every item (and view) at a boundary, aligned with the data's rows."""

    store: Store
    layout: Layout
    views: int
    start: int
    """Number of the stage that takes them."""

    def view(self, positions: np.ndarray, targets: torch.Tensor | None, views: int) -> View:
        """Return some items' features as a data view."""
        return FeatureView(self.store, positions, self.layout, targets, views=views, stride=self.views)


def weights_hash(modules: list[nn.Module]) -> str:
    """Return a hash of all tensors of some stages, names included."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def compute(model: Model, needs: FeatureCache, crop: Augmentation | None, views: int, seed: int) -> FrozenFeatures:
    """Return the features at the model's boundary, from the cache or by one pass over the data.

    View 0 is the deterministic one; views 1… are cut by `crop`. The cache key covers the data's bytes, the
    transform, the frozen weights, the boundary, the number format and the library versions.
    """
    stop = model.boundary
    names = model.names[:stop]
    key = _key(model, needs, names, crop, views, seed)
    path = needs.cache.build("features", key, lambda folder: _extract(model, needs, names, crop, views, seed, folder)) if needs.device.first else None
    path = needs.device.agree(path)
    store = Store.open(path)
    layout: Layout = store.infos[0]["layout"]  # type: ignore[assignment]
    return FrozenFeatures(store=store, layout=layout, views=views, start=stop)


def _key(model: Model, needs: FeatureCache, names: list[str], crop: Augmentation | None, views: int, seed: int) -> str:
    facts: dict[str, Any] = {
        "data": needs.data.ingested.hashes,
        "modality": config.to_tree(needs.data.modality),
        "crop": config.to_tree(crop) if views > 1 else None,
        "views": views,
        "seed": seed if views > 1 else None,
        "weights": weights_hash([model.stages[name] for name in names]),
        "stages": names,
        "pooling": str(getattr(model.stages[POOL], "kind", "")) if POOL in names else None,
        "bfloat16": needs.precision.bfloat16,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _extract(model: Model, needs: FeatureCache, names: list[str], crop: Augmentation | None, views: int, seed: int, folder: Path) -> None:
    """Write the features of all items: item-major, the views of an item side by side."""
    data = needs.data
    prefix = inference_copy([model.stages[name] for name in names], needs.precision.bfloat16).to(needs.device.device)
    everything = np.arange(len(data.rows))
    writer: StoreWriter | None = None
    passes = [StoreView(data.ingested.store, everything, data.modality, None, crop if k else None, seed + k) for k in range(views)]
    loaders = [Loader(view, batch_size=BATCH, shuffle=False, seed=0, workers=1).iterate(0) for view in passes]
    done = 0
    with torch.inference_mode():
        for batches in zip(*loaders, strict=True):
            outs = []
            for batch in batches:
                with autocast(needs.precision, needs.device.device):
                    outs.append(prefix(to_device(batch, needs.device.device).inputs))
            writer = writer or StoreWriter(folder, dtype=_dtype(outs[0]))
            _append(writer, outs)
            done += batches[0].size
            needs.reporter.progress("computing features", done, len(everything))
    assert writer is not None
    writer.close()


def _dtype(features: Features) -> str:
    return "float32" if features.layout == "pooled" else "bfloat16" if features.tensor.dtype == torch.bfloat16 else "float32"


def _append(writer: StoreWriter, outs: list[Features]) -> None:
    for item in range(len(outs[0].tensor)):
        for out in outs:
            tensor = out.tensor[item] if out.mask is None else out.tensor[item][out.mask[item]]
            writer.append(_to_numpy(tensor), {"layout": out.layout})


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.cpu().contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
