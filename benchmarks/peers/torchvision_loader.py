"""torchvision's ImageFolder and torch's DataLoader, as in their documentation: images/s ready for a network.

Prints one JSON object: first_epoch and repeat_epoch of the deterministic transform, random_crop of repeat epochs.
"""

import argparse
import json
import time

from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, RandomResizedCrop, Resize, ToTensor

BICUBIC = InterpolationMode.BICUBIC
TENSOR = [ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]


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
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="repeat epochs")
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    first, repeat = rates(args.data, Compose([Resize(256, BICUBIC), CenterCrop(224), *TENSOR]), args)
    _, random_crop = rates(args.data, Compose([RandomResizedCrop(224, interpolation=BICUBIC), *TENSOR]), args)
    print(json.dumps({"first_epoch": first, "repeat_epoch": repeat, "random_crop": random_crop}))


if __name__ == "__main__":
    main()
