"""Frozen timm features and scikit-learn's logistic regression, on class folders of images.

After timm's documentation ("Feature extraction", `num_classes=0`) with the transform of the weights' own configuration,
torchvision's ImageFolder and torch's DataLoader. What a competent user would add is tried ahead, outside the measurement
(`--tune`): float32, bfloat16 autocast or bfloat16 weights, channels_last, the batch size, and the number of loader workers.
"""

import contextlib
import json
import os

import timm
import torch
from _folders import test_folder
from _probe import fastest, finish, options
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

TUNED_ON = 64


def make_model(args):
    overlay = {"file": f"{args.weights}/model.safetensors"}
    model = timm.create_model("tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0).eval()
    model = model.to(memory_format=torch.channels_last if args.channels_last else torch.contiguous_format)
    return model.to(torch.bfloat16) if args.dtype == "bfloat16" else model


def features(model, data, args):
    loader = DataLoader(data, args.batch_size, num_workers=args.workers)
    autocast = torch.autocast("cpu", torch.bfloat16) if args.dtype == "autocast" else contextlib.nullcontext()
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    found, targets = [], []
    with torch.inference_mode(), autocast:
        for images, labels in loader:
            images = images.to(torch.bfloat16 if args.dtype == "bfloat16" else torch.float32, memory_format=memory_format)
            found.append(model(images).float())
            targets.append(labels)
    return torch.cat(found).numpy(), torch.cat(targets).numpy()


def tune(data, args):
    """Choose precision and memory format, then the batch size, then the number of workers, by the time of some images."""
    some = Subset(data, torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:TUNED_ON].tolist())

    def run(candidate):
        vars(args).update(candidate)
        features(make_model(args), some, args)

    ways = [{"dtype": dtype, "channels_last": last} for dtype in ("float32", "autocast", "bfloat16") for last in (0, 1)]
    best = fastest(ways, run)
    for key, values in (("batch_size", (16, 32, 64)), ("workers", range(len(os.sched_getaffinity(0)) + 1))):
        best = fastest([best | {key: value} for value in values], run)
    print(json.dumps(best))


def main():
    parser = options(__doc__)
    parser.add_argument("--channels-last", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    model = make_model(args)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    train = ImageFolder(f"{args.data}/train", transform)
    if args.tune:
        return tune(train, args)
    finish(args, *features(model, train, args), *features(model, ImageFolder(test_folder(args.data), transform), args))


if __name__ == "__main__":
    main()
