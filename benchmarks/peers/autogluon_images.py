"""AutoGluon-MultiModal on class folders of images, after its documentation ("AutoMM for Image Classification - Quick Start").

Its defaults, which fine-tune everything with AdamW, early stopping and a soup of the best checkpoints, within a time limit. The
backbone is named, so that it starts from the same weights as the other contestants (its own would be downloaded), and the rate, as
its own of 1e-4 learns nothing in a few minutes on a processor. Prints one JSON
object: accuracy and log loss on the test split.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from _folders import test_folder
from autogluon.multimodal import MultiModalPredictor


def table(folder):
    """Return a data frame of image paths and labels."""
    files = sorted(path for path in Path(folder).glob("*/*") if path.is_file())
    return pd.DataFrame({"image": [str(path) for path in files], "label": [path.parent.name for path in files]})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/lite0_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, required=True, help="AutoGluon's time_limit")
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    predictor = MultiModalPredictor(label="label", path=f"{args.out}/autogluon", verbosity=0)
    settings = {"optim.lr": args.lr, "model.names": ["timm_image"], "model.timm_image.checkpoint_name": args.weights}
    predictor.fit(table(f"{args.data}/train"), hyperparameters=settings, time_limit=args.seconds, seed=args.seed)
    scores = predictor.evaluate(table(test_folder(args.data)), metrics=["accuracy", "log_loss"])
    print(json.dumps({"accuracy": float(scores["accuracy"]), "log_loss": abs(float(scores["log_loss"]))}))


if __name__ == "__main__":
    main()
