"""One pass of the data through the frozen stages: its key in the cache, its batches, and when it is given up."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pretune import config, kernels
from pretune.augmentations import ViewAugmentation
from pretune.backbones import Builder, inference_copy
from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import StoreView, View
from pretune.data.loader import Loader
from pretune.errors import TrainingError
from pretune.modalities import Modality
from pretune.models import Model
from pretune.storage.cache import Cache
from pretune.storage.identity import code_of, code_of_package, structure, versions
from pretune.storage.ingest import Ingested, Progress
from pretune.storage.store import Store, StoreWriter
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.types import Features, Layout

CODE = ("architectures", "augmentations", "backbones", "formats", "kernels", "modalities", "models", "features")
"""Pretune's own files that compute them."""
LIBRARIES = ("numpy", "pillow", "timm", "tokenizers", "torch", "torchvision", "transformers")
REPORTED_SHARE = 0.05
"""Share of the time allowed after which the rate of a pass tells how long it takes: the first batches are slower."""
WINDOW = 1024
"""Examples whose features are held in memory until they can be written in order."""
BATCH = 32
"""Examples of one forward pass; larger ones leave the processor's cache and are slower."""
SHORT = 64
"""Examples of one where they differ in length: texts are mostly so short that twice as many are quicker."""


@dataclass(kw_only=True)
class FeatureCache:
    """What computing features needs besides the model."""

    ingested: Ingested
    """The decoded examples."""
    modality: Modality
    """Cuts and collates them."""
    cache: Cache
    device: Device
    measure: Callable[[], Precision]
    """Chooses the precision; called only where features are computed."""
    progress: Progress
    """Receives (done, all) after every batch, and may end the pass."""
    warn: Callable[[str], None]
    builder: Builder | None = None
    """What the backbone was built from."""
    now: Callable[[], float] = time.monotonic
    """Returns seconds."""
    chosen: Precision | None = None

    @property
    def precision(self) -> Precision:
        """The precision of the frozen stages, chosen at the first use."""
        if self.chosen is None:
            self.chosen = self.measure()
        return self.chosen


def weights_hash(modules: list[nn.Module]) -> str:
    """Return a hash of all tensors of some stages, their names, types and shapes included."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class TooLong(Exception):
    """The pass over the data would take longer than it may: about `seconds` for all `items`."""

    def __init__(self, seconds: float, items: int) -> None:
        super().__init__(seconds, items)
        self.seconds, self.items = seconds, items


@dataclass
class FeaturePass:
    """One pass over the data for each view."""

    model: Model
    needs: FeatureCache
    names: tuple[str, ...]
    crop: ViewAugmentation | None
    views: int
    seed: int
    allowed: float = math.inf
    store: Store | None = None
    """What this process has verified; other ranks open it themselves."""

    def opened(self, path: Path) -> Store:
        """Return the features that the first rank has verified."""
        return self.store or Store.open(path)

    def key(self) -> str:
        """Return a hash of everything the features depend on."""
        modality, stages = self.needs.modality, [self.model.stages[name] for name in self.names]
        crop = self.crop if self.views > 1 else None  # the first view is cut without it
        facts: dict[str, Any] = {
            "format": 3,
            "data": self.needs.ingested.hashes,
            "decoded": modality.working(),
            "modality": config.to_tree(modality),
            "crop": config.to_tree(crop),
            "views": self.views,
            "seed": self.seed if self.views > 1 else None,
            "builder": self.builder,
            "weights": weights_hash(stages),
            "structure": structure(*stages),
            "stages": self.names,
            "bfloat16": self.needs.precision.bfloat16,
            "kernels": [kernels.enabled(), bool(torch.backends.mkldnn.enabled)],
            "code": [code_of_package(*CODE), code_of(type(modality), type(crop))],
            "libraries": versions(*LIBRARIES),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]

    @property
    def builder(self) -> dict[str, Any]:
        """What the backbone was built from."""
        return {"id": self.needs.builder.id, "settings": self.needs.builder.settings} if self.needs.builder else {}

    def write(self, path: Path) -> None:
        """Write the features of all examples: example-major, the views of an example side by side."""
        writer: StoreWriter | None = None
        layout, began = "", self.needs.now()
        try:
            for outs in self._run():
                layout = outs[0].layout
                writer = writer or StoreWriter(path, dtype=_dtype(outs[0]), admit=self.needs.cache.admit)
                for item in range(len(outs[0].tensor)):
                    for out in outs:
                        writer.append(_to_numpy(_item(out, item)), _real(out, item))
            if writer is not None:
                writer.close({"layout": layout, "seconds": self.needs.now() - began})
        finally:
            if writer is not None:
                writer.discard()

    def in_memory(self) -> tuple[torch.Tensor, Layout] | None:
        """Return all features as one tensor, or None where they differ in length or would take half the free memory."""
        pieces: list[torch.Tensor] = []
        layout: Layout = "pooled"
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        for outs in self._run():
            layout = outs[0].layout
            pieces.append(torch.stack([out.tensor.cpu() for out in outs], 1).flatten(0, 1))
            wanted = pieces[0].nbytes / len(outs[0].tensor) * len(self.needs.ingested.rows)
            if outs[0].mask is not None or wanted > free / 2:
                self.needs.warn("memory has no room for the features either; they are computed at every epoch")
                return None
        return torch.cat(pieces), layout

    def _run(self) -> Iterator[list[Features]]:
        """Yield batches of features, one for each view."""
        rows, device = len(self.needs.ingested.rows), self.needs.device.device
        prefix = inference_copy([self.model.stages[name] for name in self.names], self.needs.precision.bfloat16).to(device)
        done, began = 0, self.needs.now()
        for window in _windows(rows):
            views = self.shown(window)
            loaders = [Loader(view, Batching(size=_items(view), tokens=token_budget(view, BATCH)), workers=1).iterate(0) for view in views]
            waiting: dict[int, list[Features]] = {}
            for batches in zip(*loaders, strict=True):
                with torch.inference_mode():
                    outs = [prefix(batch.to(device).inputs) for batch in batches]
                self._require_finite(outs, window[batches[0].index.numpy()])
                done += batches[0].size
                self.needs.progress(done, rows)
                self._require_time(self.needs.now() - began, done)
                if views[0].lengths is None:
                    yield outs
                else:  # they came by length
                    waiting |= {int(place): [_alone(out, item) for out in outs] for item, place in enumerate(batches[0].index)}
            yield from (waiting[place] for place in sorted(waiting))

    def shown(self, positions: np.ndarray) -> tuple[StoreView, ...]:
        """Return each view of some examples."""
        store, modality = self.needs.ingested.store, self.needs.modality
        crops = (self.crop if k else None for k in range(self.views))
        return tuple(StoreView(store, positions, modality, None, crop, self.seed + k) for k, crop in enumerate(crops))

    def _require_time(self, took: float, done: int) -> None:
        """End the pass where it would take longer than it may."""
        items = len(self.needs.ingested.rows)
        whole = took / done * items
        if whole > self.allowed and took > REPORTED_SHARE * self.allowed:
            raise TooLong(whole, items)

    def _require_finite(self, outs: list[Features], positions: np.ndarray) -> None:
        """Refuse features that are not numbers: kept, they would spoil every later run."""
        for out in outs:
            each = torch.isfinite(out.tensor)
            if out.mask is not None and not out.attends_padding:
                each |= ~out.mask[..., None]  # what stands for padding is not kept
            finite = each.flatten(1).all(1).cpu().numpy()
            if finite.all():
                continue
            first = self.needs.ingested.rows[int(positions[~finite][0])].id
            every = "every" if not finite.any() else f"{(~finite).sum()} of {len(finite)}"
            network = self.needs.builder.id if self.needs.builder else "the backbone"
            cure = "Try precision=float32." if self.needs.precision.bfloat16 else "Its weights may be damaged: try another backbone."
            raise TrainingError(
                f"the frozen layers of {network} return NaN or infinity for {every} {self.needs.modality.unit} of a batch, "
                f"first for {first}. Nothing was cached. {cure}"
            )


def _items(view: View) -> int:
    return BATCH if view.lengths is None else SHORT


def _windows(items: int) -> Iterator[np.ndarray]:
    """Yield the positions of all examples in pieces: examples of unequal length are sorted within one."""
    return (np.arange(start, min(start + WINDOW, items)) for start in range(0, items, WINDOW))


def _alone(out: Features, item: int) -> Features:
    """Return one example's features as a batch of one without padding."""
    tensor = _item(out, item)[None]
    return Features(tensor=tensor, layout=out.layout, mask=None if out.mask is None else torch.ones(tensor.shape[:2], dtype=torch.bool))


def _dtype(features: Features) -> str:
    return "float32" if features.layout == "pooled" else "bfloat16" if features.tensor.dtype == torch.bfloat16 else "float32"


def _item(out: Features, item: int) -> torch.Tensor:
    """Return one example's features without its padding, but for padding that is attended to."""
    return out.tensor[item] if out.mask is None or out.attends_padding else out.tensor[item][out.mask[item]]


def _real(out: Features, item: int) -> dict[str, int | float | str]:
    """Return how many positions of an example come before padding that is attended to."""
    if not out.attends_padding or out.layout == "pooled":
        return {}
    return {"real": out.tensor.shape[1] if out.mask is None else int(out.mask[item].sum())}


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.cpu().contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
