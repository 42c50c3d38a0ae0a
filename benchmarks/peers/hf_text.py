"""Hugging Face's Trainer on TSV files of texts and labels, after transformers' own run_classification.py example.

With batches of texts of like length (`group_by_length`), padded to their own longest text, and bfloat16 where a few steps are faster in
it (`--tune`, outside the measurement). Prints one JSON object: accuracy and log loss on the test split, and texts/s of the training
epochs after the first (of all, where there is one).
"""

import argparse
import json

from _tables import read_split
from _trainer import Rate, add_precision, scores, settings, tune
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
)


def read_part(args, name, classes, tokenizer):
    texts, labels = read_split(args.data, name)
    part = Dataset.from_dict({"text": texts, "label": [classes.index(label) for label in labels]})
    return part.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=256), batched=True, remove_columns=["text"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train.tsv and test.tsv: text, tab, label")
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/minilm_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    add_precision(parser)
    parser.add_argument("--by-length", action="store_true", help="batches of texts of like length")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.weights)
    classes = sorted(set(read_split(args.data, "train")[1]))
    data = {name: read_part(args, name, classes, tokenizer) for name in ("train", "test")}
    by_length = {"train_sampling_strategy": "group_by_length"} if args.by_length else {}

    def make(**more):
        same = {"per_device_eval_batch_size": args.batch_size, "weight_decay": args.weight_decay, "save_strategy": "no"}
        rate = Rate()
        trainer = Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(args.weights, num_labels=len(classes)),
            args=settings(args, **{**same, **by_length, **more}),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            compute_metrics=scores,
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
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
