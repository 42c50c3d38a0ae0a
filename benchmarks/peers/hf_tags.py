"""Hugging Face's Trainer on CoNLL files, after transformers' own run_ner.py example.

With batches of texts of like length (`group_by_length`), padded to their own longest text, and bfloat16 where a few steps are faster in
it (`--tune`, outside the measurement). Prints one JSON object: the F1 of whole entities on the test split, and texts/s of the training
epochs after the first (of all, where there is one).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from _trainer import Rate, add_precision, settings, tune
from datasets import Dataset
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
)


def read_split(folder, name):
    """Return the words and the tags of each text of NAME.conll; words without characters are left out."""
    texts, words, tags = [], [], []
    for line in [*(Path(folder) / f"{name}.conll").read_text(encoding="utf-8").split("\n"), ""]:
        if line.strip():
            word, tag = line.split("\t")
            if word.strip("\u200b\u200c\u200d\u2060\ufeff\ufe0f \xa0"):
                words.append(word)
                tags.append(tag)
        elif words:
            texts.append((words, tags))
            words, tags = [], []
    return texts


def encoded(texts, tags, tokenizer):
    """Return a dataset whose labels stand at the first token of each word."""

    def labelled(rows):
        out = tokenizer(rows["words"], is_split_into_words=True, truncation=True, max_length=256)
        out["labels"] = []
        for row, names in enumerate(rows["tags"]):
            ids = out.word_ids(row)
            firsts = [word is not None and (at == 0 or ids[at - 1] != word) for at, word in enumerate(ids)]
            out["labels"].append([tags.index(names[word]) if first else -100 for word, first in zip(ids, firsts, strict=True)])
        return out

    part = Dataset.from_dict({"words": [words for words, _ in texts], "tags": [names for _, names in texts]})
    return part.map(labelled, batched=True, remove_columns=["words", "tags"])


def entities(tags):
    """Return the entities of one text: first word, one past the last, type (conlleval's rules)."""
    found, start, kind = set(), None, ""
    for at, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if start is not None and (mark != "I" or name != kind):
            found.add((start, at, kind))
            start = None
        if mark == "B" or (mark == "I" and start is None):
            start, kind = at, name
    return found


def scores(texts, tags):
    """Return the function by which Trainer computes the F1 of whole entities; words that were cut off are O."""

    def compute(prediction):
        right = there = told = 0
        for (_, names), logits, labels in zip(texts, prediction.predictions, prediction.label_ids, strict=True):
            best = [tags[at] for at in np.asarray(logits)[np.asarray(labels) != -100].argmax(1)]
            true, found = entities(names), entities([*best, *["O"] * (len(names) - len(best))])
            right, there, told = right + len(true & found), there + len(true), told + len(found)
        return {"entity_f1": 2 * right / max(1, there + told)}

    return compute


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train.conll and test.conll: word, tab, IOB2 tag")
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
    texts = {name: read_split(args.data, name) for name in ("train", "test")}
    tags = sorted({tag for _, names in texts["train"] for tag in names})
    data = {name: encoded(part, tags, tokenizer) for name, part in texts.items()}
    by_length = {"train_sampling_strategy": "group_by_length"} if args.by_length else {}

    def make(**more):
        same = {"per_device_eval_batch_size": args.batch_size, "weight_decay": args.weight_decay, "save_strategy": "no"}
        rate = Rate()
        trainer = Trainer(
            model=AutoModelForTokenClassification.from_pretrained(args.weights, num_labels=len(tags)),
            args=settings(args, **{**same, **by_length, **more}),
            train_dataset=data["train"],
            eval_dataset=data["test"],
            compute_metrics=scores(texts["test"], tags),
            data_collator=DataCollatorForTokenClassification(tokenizer),
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
    print(json.dumps({"entity_f1": metrics["eval_entity_f1"], "items_per_s": rate.of(len(data["train"]))}))


if __name__ == "__main__":
    main()
