"""Full fine-tuning of MiniLM on TSV files of texts and labels: a plain PyTorch loop, tuned as a competent user would.

After PyTorch's "Performance Tuning Guide" and transformers' course: the mean of the last layer's tokens (as these weights were
trained) and a linear head that learns ten times faster, fused AdamW, a linear rate with warm-up, batches of texts of like length in
random order, padded to their own longest text, bfloat16 autocast where it is faster (tried ahead, outside the measurement: `--tune`).
Prints accuracy and log loss on the test split, and texts/s of the epochs after the first, without evaluation.
"""

import argparse
import contextlib
import json
import time

import torch
import torch.nn.functional as F
from _rate import items_per_s
from _tables import read_split
from transformers import AutoModel, AutoTokenizer


class Classifier(torch.nn.Module):
    """A pretrained encoder, the mean of its tokens, and a linear head."""

    def __init__(self, weights, classes):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(weights, add_pooling_layer=False)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None]
        return self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def batches(lengths, size, shuffle):
    """Yield the places of batches of like length; in training they come from shuffled groups of 16 batches."""
    order = torch.randperm(len(lengths)).tolist() if shuffle else sorted(range(len(lengths)), key=lengths.__getitem__)
    group = 16 * size
    groups = [sorted(order[place : place + group], key=lengths.__getitem__) for place in range(0, len(order), group)]
    cut = [places[place : place + size] for places in groups for place in range(0, len(places), size)]
    yield from ([cut[place] for place in torch.randperm(len(cut)).tolist()] if shuffle else cut)


def forward(model, tokenizer, ids, places, args):
    inputs = tokenizer.pad({"input_ids": [ids[place] for place in places]}, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16) if args.dtype == "autocast" else contextlib.nullcontext():
        return model(inputs["input_ids"], inputs["attention_mask"]).float()


def fit(model, tokenizer, ids, targets, epochs, args):
    """Train, and return the seconds of each epoch."""
    steps = epochs * -(-len(ids) // args.batch_size)
    groups = [{"params": model.encoder.parameters(), "lr": args.lr}, {"params": model.head.parameters(), "lr": 10 * args.lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps + 1), (steps - step) / (0.9 * steps))
    )
    seconds, lengths = [], list(map(len, ids))
    model.train()
    for _ in range(epochs):
        began = time.perf_counter()
        for places in batches(lengths, args.batch_size, shuffle=True):
            loss = F.cross_entropy(forward(model, tokenizer, ids, places, args), targets[places])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - began)
    return seconds


def evaluate(model, tokenizer, ids, targets, args):
    model.eval()
    places = list(batches(list(map(len, ids)), args.batch_size, shuffle=False))
    with torch.inference_mode():
        logits = torch.cat([forward(model, tokenizer, ids, batch, args) for batch in places])
    targets = targets[[place for batch in places for place in batch]]
    return {"accuracy": (logits.argmax(dim=1) == targets).float().mean().item(), "log_loss": F.cross_entropy(logits, targets).item()}


def tune(make, tokenizer, ids, targets, args):
    """Choose the precision by the time of a few batches."""
    some = 8 * args.batch_size

    def seconds(dtype):
        args.dtype = dtype
        return min(fit(make(), tokenizer, ids[:some], targets[:some], 2, args))

    print(json.dumps({"dtype": min(("float32", "autocast"), key=seconds)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--dtype", choices=("float32", "autocast"), default="float32")
    parser.add_argument("--tune", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.weights)
    splits = {name: read_split(args.data, name) for name in ("train", "test")}
    classes = sorted(set(splits["train"][1]))
    ids = {name: tokenizer(texts, truncation=True, max_length=256)["input_ids"] for name, (texts, _) in splits.items()}
    targets = {name: torch.tensor([classes.index(label) for label in labels]) for name, (_, labels) in splits.items()}

    def make():
        return Classifier(args.weights, len(classes))

    if args.tune:
        return tune(make, tokenizer, ids["train"], targets["train"], args)
    model = make()
    seconds = fit(model, tokenizer, ids["train"], targets["train"], args.epochs, args)
    score = evaluate(model, tokenizer, ids["test"], targets["test"], args)
    torch.save(model.state_dict(), f"{args.out}/model.pt")
    print(json.dumps({**score, "items_per_s": items_per_s(len(ids["train"]), seconds)}))


if __name__ == "__main__":
    main()
