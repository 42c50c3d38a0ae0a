"""sentence-transformers on JSON lines of pairs, after its documentation ("Training Overview").

Its own trainer with MultipleNegativesRankingLoss in both directions and batches without duplicates; bfloat16 where a few steps are faster
in it (`--tune`, outside the measurement). Prints one JSON object: the MRR of the test queries over all passages of that split, and texts/s
of the training epochs after the first (of all, where there is one).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from _trainer import Rate, add_precision, tune
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss


def read_split(folder, name):
    """Return the pairs of NAME.jsonl as two lists."""
    rows = [json.loads(line) for line in Path(folder, f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["anchor"] for row in rows], [row["positive"] for row in rows]


def mrr(model, queries, passages, size):
    """Return the mean reciprocal rank of each query's passage among all; equal texts are one, equal similarities share their rank."""

    def plain(text):
        return " ".join(text.casefold().split())

    corpus = list({plain(text): text for text in passages}.values())
    place = {plain(text): at for at, text in enumerate(corpus)}
    goals = {}
    for query, passage in zip(queries, passages, strict=True):
        goals.setdefault(plain(query), (query, set()))[1].add(place[plain(passage)])
    same = {"batch_size": size, "normalize_embeddings": True, "show_progress_bar": False}
    searched, asked = model.encode(corpus, **same), model.encode([query for query, _ in goals.values()], **same)
    ranks = []
    for row, (query, goal) in zip(np.round(asked @ searched.T, 6), goals.values(), strict=True):
        if plain(query) in place:
            row[place[plain(query)]] = -np.inf
        best = max(row[at] for at in goal)
        ranks.append((row > best).sum() + ((row == best).sum() + 1) / 2)
    return float(np.mean(1 / np.array(ranks)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train.jsonl and test.jsonl: anchor, positive")
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/minilm_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    add_precision(parser)
    args = parser.parse_args()
    queries, passages = read_split(args.data, "train")

    def make(**more):
        model = SentenceTransformer(args.weights, device=None if torch.cuda.is_available() else "cpu", local_files_only=True)
        model.max_seq_length = 256
        rate = Rate()
        settings = SentenceTransformerTrainingArguments(
            output_dir=args.out,
            seed=args.seed,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.lr,
            weight_decay=args.weight_decay,
            warmup_ratio=0.1,
            batch_sampler="no_duplicates",
            use_cpu=not torch.cuda.is_available(),
            bf16=args.dtype == "autocast",
            report_to="none",
            disable_tqdm=True,
            **{"save_strategy": "no", **more},
        )
        loss = MultipleNegativesRankingLoss(model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")
        data = Dataset.from_dict({"anchor": queries, "positive": passages})
        return SentenceTransformerTrainer(model=model, args=settings, train_dataset=data, loss=loss, callbacks=[rate]), rate

    if args.tune:
        return tune(make, args)
    trainer, rate = make()
    trainer.train()
    trainer.save_model()
    print(
        json.dumps({"mrr": mrr(trainer.model, *read_split(args.data, "test"), args.batch_size), "items_per_s": rate.of(2 * len(queries))})
    )


if __name__ == "__main__":
    main()
