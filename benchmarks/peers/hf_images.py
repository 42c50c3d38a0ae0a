"""Hugging Face's Trainer on class folders, after transformers' own run_image_classification.py example.

Prints one JSON object: accuracy on validation, and images/s of the training epochs after the first.
"""

import argparse
import json

import numpy as np
import torch
from _trainer import Rate, settings
from datasets import load_dataset
from torchvision.transforms import CenterCrop, Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, Resize, ToTensor
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer


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


def compute_accuracy(prediction):
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


def read_data(folder, cache, processor):
    data = load_dataset("imagefolder", data_dir=folder, cache_dir=cache)
    size = processor.data_config["input_size"][-1]
    normalize = Normalize(mean=processor.data_config["mean"], std=processor.data_config["std"])
    train = Compose([RandomResizedCrop(size), RandomHorizontalFlip(), ToTensor(), normalize])
    val = Compose([Resize(size), CenterCrop(size), ToTensor(), normalize])
    data["train"].set_transform(transformed(train))
    data["validation"].set_transform(transformed(val))
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, help="folder written by lite0.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    processor = AutoImageProcessor.from_pretrained(args.weights)
    data = read_data(args.data, f"{args.out}/cache", processor)
    names = data["train"].features["label"].names
    model = AutoModelForImageClassification.from_pretrained(args.weights, num_labels=len(names), ignore_mismatched_sizes=True)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    rate = Rate()
    trainer = Trainer(
        model=model,
        args=settings(args, dataloader_num_workers=args.workers, remove_unused_columns=False),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        compute_metrics=compute_accuracy,
        data_collator=collate,
        callbacks=[rate],
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()
    print(json.dumps({"accuracy": metrics["eval_accuracy"], "images_per_s": rate.of(len(data["train"]))}))


if __name__ == "__main__":
    main()
