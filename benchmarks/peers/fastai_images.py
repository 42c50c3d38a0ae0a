"""fastai on class folders: `fine_tune(1)` as in its quick start, or full fine-tuning with fit_one_cycle.

Prints one JSON object: accuracy and log loss on the test split, and images/s of the training epochs after the first.
"""

import argparse
import json
import time

import torch
from _folders import test_folder
from _rate import items_per_s
from fastai.callback.schedule import *  # noqa: F403  (fastai's own idiom: importing attaches fit_one_cycle)
from fastai.callback.training import ShortEpochCallback
from fastai.vision.all import (
    Callback,
    Flip,
    ImageDataLoaders,
    RandomResizedCrop,
    Resize,
    accuracy,
    set_seed,
    vision_learner,
)


class Bfloat16(Callback):
    """Run the forward pass in bfloat16 on the CPU; fastai's own MixedPrecision names 'cuda' whatever the device."""

    order = 10

    def before_batch(self):
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        self.autocast.__enter__()

    def after_loss(self):
        self.autocast.__exit__(None, None, None)

    def after_pred(self):
        self.learn.pred = self.pred.float()


class Rate(Callback):
    """Seconds of each training epoch, without validation."""

    def before_fit(self):
        self.seconds = []

    def before_train(self):
        self.began = time.perf_counter()

    def after_train(self):
        self.seconds.append(time.perf_counter() - self.began)


def tune(learn, share):
    """Print the precision in which a share of an epoch is faster."""
    learn.unfreeze()
    times = {}
    for dtype, callbacks in (("float32", []), ("autocast", [Bfloat16()])):
        for _ in range(2):  # the first warms up
            began = time.perf_counter()
            with learn.no_bar(), learn.no_logging():
                learn.fit(1, 1e-5, cbs=[ShortEpochCallback(pct=min(1, share)), *callbacks])
            times[dtype] = time.perf_counter() - began
    print(json.dumps({"dtype": min(times, key=times.get)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/lite0_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--mode", choices=("trained", "full"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, help="default: fastai's own")
    parser.add_argument("--dtype", choices=("float32", "autocast"), default="float32")
    parser.add_argument("--tune", action="store_true", help="only find the faster precision, and print it")
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    set_seed(args.seed, reproducible=False)
    workers = {} if args.workers is None else {"num_workers": args.workers}
    transforms = {"item_tfms": Resize(224)}
    if args.mode == "full":
        transforms = {"item_tfms": RandomResizedCrop(224, min_scale=0.35), "batch_tfms": Flip()}
    loaders = ImageDataLoaders.from_folder(args.data, valid=test_folder(args.data).name, bs=args.batch_size, **transforms, **workers)
    overlay = {"file": f"{args.weights}/model.safetensors"}
    learn = vision_learner(loaders, "tf_efficientnet_lite0", metrics=accuracy, path=args.out, pretrained_cfg_overlay=overlay, cbs=[Rate()])
    if args.channels_last:
        learn.to_channelslast(use_amp=False)
    if args.tune:
        return tune(learn, 4 * args.batch_size / len(loaders.train_ds))
    if args.dtype == "autocast":
        learn.add_cb(Bfloat16())
    if args.mode == "trained":
        learn.fine_tune(args.epochs)
    else:
        learn.unfreeze()
        learn.fit_one_cycle(args.epochs, args.lr)
    learn.save("model")
    images = len(loaders.train) * args.batch_size  # fastai drops the last incomplete batch
    print(
        json.dumps(
            {
                "accuracy": float(learn.recorder.values[-1][-1]),
                "log_loss": float(learn.recorder.values[-1][-2]),
                "items_per_s": items_per_s(images, learn.rate.seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
