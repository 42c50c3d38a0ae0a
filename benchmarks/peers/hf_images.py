"""Hugging Face's Trainer on class folders, after transformers' own run_image_classification.py example.

With channels_last, bfloat16 where a few steps are faster in it (`--tune`, outside the measurement), loader workers, and the same crops
as the other contestants. Prints one JSON object: accuracy and log loss on the test split, and images/s of the training epochs after
the first.
"""

import argparse
import json

import torch
from _folders import test_folder
from _trainer import Rate, add_precision, scores, settings, tune
from datasets import load_dataset
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer

BICUBIC = InterpolationMode.BICUBIC


def transformed(transform):
    def apply(examples):
        return {
            "pixel_values": [transform(image.convert("RGB")) for image in examples["image"]],
            "label": examples["label"],
        }

    return apply


def collate(examples):
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": torch.tensor([example["label"] for example in examples]),
    }


def read_data(folder, cache, processor):
    files = {"train": f"{folder}/train/**", "test": f"{test_folder(folder)}/**"}
    data = load_dataset("imagefolder", data_files=files, cache_dir=cache)
    size = processor.data_config["input_size"][-1]
    normalize = Normalize(mean=processor.data_config["mean"], std=processor.data_config["std"])
    train = Compose([RandomResizedCrop(size, scale=(0.35, 1.0), interpolation=BICUBIC), RandomHorizontalFlip(), ToTensor(), normalize])
    val = Compose([Resize(256, BICUBIC), CenterCrop(size), ToTensor(), normalize])
    data["train"].set_transform(transformed(train))
    data["test"].set_transform(transformed(val))
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/lite0_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--workers", type=int, default=0)
    add_precision(parser)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    processor = AutoImageProcessor.from_pretrained(args.weights)
    data = read_data(args.data, f"{args.out}/cache", processor)
    names = data["train"].features["label"].names

    def make(**more):
        model = AutoModelForImageClassification.from_pretrained(args.weights, num_labels=len(names), ignore_mismatched_sizes=True)
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
        rate = Rate()
        trainer = Trainer(
            model=model,
            args=settings(args, dataloader_num_workers=args.workers, remove_unused_columns=False, **more),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            compute_metrics=scores,
            data_collator=collate,
            callbacks=[rate],
        )
        return trainer, rate

    if args.tune:
        return tune(make, args)
    trainer, rate = make()
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()
    figures = {"accuracy": metrics["eval_accuracy"], "log_loss": metrics["eval_log_loss"]}
    print(json.dumps({**figures, "items_per_s": rate.of(len(data["train"]))}))


if __name__ == "__main__":
    main()
