"""SetFit on TSV files of texts and labels: contrastive fine-tuning of the sentence encoder, then logistic regression.

After SetFit's documentation ("Quickstart"), batches of 16 pairs. Its own sampling takes every pair of texts, which is meant for
a handful of texts a class and would take days here; `num_iterations` is its documented way to bound them (2 pairs a text and
iteration).
"""

import argparse
import json

from _tables import read_split
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--iterations", type=int, default=1)
    args = parser.parse_args()
    texts, labels = read_split(args.data, "train")
    model = SetFitModel.from_pretrained(args.weights, local_files_only=True)
    settings = TrainingArguments(
        output_dir=f"{args.out}/checkpoints",
        batch_size=16,
        num_epochs=1,
        num_iterations=args.iterations,
        seed=args.seed,
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
    )
    Trainer(model=model, args=settings, train_dataset=Dataset.from_dict({"text": texts, "label": labels})).train()
    model.save_pretrained(f"{args.out}/model")
    test_texts, test_labels = read_split(args.data, "test")
    predicted = model.predict(test_texts, batch_size=32)
    print(json.dumps({"accuracy": sum(a == b for a, b in zip(predicted, test_labels, strict=True)) / len(test_labels)}))


if __name__ == "__main__":
    main()
