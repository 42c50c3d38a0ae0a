"""Our way from files to normalised batches, with an empty cache: images/s ready for a network.

Prints one JSON object: first_epoch (filling the cache included), first_ready (without it) and repeat_epoch of the deterministic
view, random_crop of repeat epochs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from pretune.augmentations.random_resized_crop import RandomResizedCrop
from pretune.data.batching import Batching
from pretune.data.dataset import StoreView
from pretune.data.loader import Loader
from pretune.modalities.image import Image
from pretune.sources.sources import read
from pretune.storage.cache import Cache
from pretune.storage.ingest import Ingested, ingest


def epoch_seconds(loader: Loader, image: Image, epoch: int) -> float:
    """Return the seconds of one epoch of normalised batches."""
    began = time.perf_counter()
    normalise = image.normaliser()
    images = sum(len(normalise(batch.inputs).tensor) for batch in loader.iterate(epoch))
    assert images == len(loader.view)
    return time.perf_counter() - began


def make_loader(ingested: Ingested, image: Image, crop: RandomResizedCrop | None, args: argparse.Namespace) -> Loader:
    """Return a shuffling loader of all items."""
    view = StoreView(ingested.store, np.arange(len(ingested.rows)), image, None, crop, seed=0)
    return Loader(view, Batching(size=args.batch_size, shuffle=True), workers=args.workers)


def main() -> None:
    """Measure: decoding into the cache belongs to the first epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="repeat epochs")
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    image = Image(mean=(0.5,) * 3, std=(0.5,) * 3)
    began = time.perf_counter()
    ingested = ingest(read(args.data).rows, image, Cache(Path("cache"), None), threads=max(1, args.workers))
    filled = time.perf_counter()
    loader = make_loader(ingested, image, None, args)
    epoch_seconds(loader, image, 0)
    ready = time.perf_counter() - filled
    first = time.perf_counter() - began
    repeat = sum(epoch_seconds(loader, image, epoch) for epoch in range(1, args.epochs + 1))
    cropped = make_loader(ingested, image, RandomResizedCrop(), args)
    epoch_seconds(cropped, image, 0)
    random_crop = sum(epoch_seconds(cropped, image, epoch) for epoch in range(1, args.epochs + 1))
    images, many = len(ingested.rows), len(ingested.rows) * args.epochs
    rates = {"first_epoch": images / first, "first_ready": images / ready, "repeat_epoch": many / repeat, "random_crop": many / random_crop}
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
