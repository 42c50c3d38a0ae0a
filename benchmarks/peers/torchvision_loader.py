"""torchvision's ImageFolder and torch's DataLoader, as in their documentation: images/s ready for a network.

With `--resized`, what many users do first: every file is resized once to a shorter side of 256 (Pillow's `thumbnail`, which decodes
a JPEG at the nearest scale, in as many processes as there are workers), and the loader reads those files. Prints one JSON object:
first_epoch (the resizing included), first_ready (without it), repeat_epoch of the deterministic transform, random_crop of repeat
epochs.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, RandomResizedCrop, Resize, ToTensor

BICUBIC = InterpolationMode.BICUBIC
TENSOR = [ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]


def resize(paths):
    """Write one file with a shorter side of 256."""
    source, target = paths
    with Image.open(source) as image:
        scale = 256 / min(image.size)
        image.thumbnail((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        image.convert("RGB").save(target, "JPEG", quality=95)


def resize_all(folder, out, workers):
    files = [path for path in Path(folder).glob("*/*") if path.is_file()]
    targets = [Path(out, path.parent.name, f"{path.stem}.jpg") for path in files]
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(max(1, workers)) as pool:
        list(pool.map(resize, zip(files, targets, strict=True), chunksize=16))
    return out


def epoch_seconds(loader):
    began = time.perf_counter()
    images = sum(len(targets) for _, targets in loader)
    assert images == len(loader.dataset)
    return time.perf_counter() - began


def rates(folder, transform, args):
    """Images/s of the first epoch, start of the workers and listing of the files included, and of later epochs."""
    began = time.perf_counter()
    data = ImageFolder(folder, transform)
    loader = DataLoader(data, args.batch_size, shuffle=True, num_workers=args.workers, persistent_workers=args.workers > 0)
    epoch_seconds(loader)
    first = time.perf_counter() - began
    later = sum(epoch_seconds(loader) for _ in range(args.epochs))
    return len(data) / first, len(data) * args.epochs / later


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="repeat epochs")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--resized", action="store_true")
    args = parser.parse_args()
    began = time.perf_counter()
    folder = resize_all(f"{args.data}/train", Path(args.out, "resized"), args.workers) if args.resized else f"{args.data}/train"
    once = time.perf_counter() - began if args.resized else 0.0
    ready, repeat = rates(folder, Compose([Resize(256, BICUBIC), CenterCrop(224), *TENSOR]), args)
    _, random_crop = rates(folder, Compose([RandomResizedCrop(224, interpolation=BICUBIC), *TENSOR]), args)
    images = len(ImageFolder(folder))
    first = images / (once + images / ready)
    print(json.dumps({"first_epoch": first, "first_ready": ready, "repeat_epoch": repeat, "random_crop": random_crop}))


if __name__ == "__main__":
    main()
