"""Hugging Face's Trainer with peft's LoRA on a language model and one plain text, after peft's documentation.

Blocks and held-out text are those of ours: the last tenth of the tokens is held out, and the token before a block is read and not
predicted. bfloat16 where a few steps are faster in it (`--tune`, outside the measurement). Prints one JSON object: tokens/s of the steps
after the first three, and nats per character of the held-out text after training.
"""

import argparse
import json
from pathlib import Path

import torch
from _trainer import Steps, add_precision, settings, tune
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM, Trainer

BLOCK, HELD_OUT, WARM = 510, 0.1, 3
"""Tokens that are predicted in a block; share of the text that is held out; steps before the clock starts."""


def blocks(ids):
    """Return blocks of tokens, each with the one before it (the first with that which ends a text, 0)."""
    ids = [0, *ids]
    return [{"input_ids": ids[at : at + BLOCK + 1], "labels": ids[at : at + BLOCK + 1]} for at in range(0, len(ids) - 1, BLOCK)]


def stacked(rows):
    """Return a batch; the last block of a text may be shorter and is padded."""
    longest = max(len(row["labels"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100}
    return {name: torch.tensor([row[name] + [fill[name]] * (longest - len(row[name])) for row in rows]) for name in fill}


def nats(model, rows):
    """Return the nats of all tokens that blocks predict."""
    total = 0.0
    with torch.inference_mode():
        for row in rows:
            batch = stacked([row])
            total += model(**batch).loss.item() * (len(row["labels"]) - 1)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with input.txt")
    parser.add_argument("--weights", required=True, help="folder written by benchmarks/ours/smollm2_folder.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    add_precision(parser)
    args = parser.parse_args()
    text = Path(args.data, "input.txt").read_text(encoding="utf-8")
    found = Tokenizer.from_file(str(Path(args.weights, "tokenizer.json"))).encode(text, add_special_tokens=False)
    border = int(len(found.ids) * (1 - HELD_OUT))
    train, test = blocks(found.ids[:border]), blocks(found.ids[border:])
    test[0]["input_ids"][0] = test[0]["labels"][0] = found.ids[border - 1]

    def make(**more):
        torch.manual_seed(args.seed)
        model = LlamaForCausalLM.from_pretrained(args.weights, dtype=torch.float32)
        adapters = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        same = {"weight_decay": 0.01, "warmup_steps": 0.1, "lr_scheduler_type": "cosine", "save_strategy": "no", "logging_strategy": "no"}
        clock = Steps()
        trainer = Trainer(
            model=get_peft_model(model, adapters),
            args=settings(args, **{**same, **more}),
            train_dataset=train,
            data_collator=stacked,
            callbacks=[clock],
        )
        return trainer, clock

    if args.tune:
        return tune(make, args, steps=2)
    trainer, clock = make()
    trainer.train()
    trainer.save_model()
    loss = nats(trainer.model.eval(), test) / (len(text) - found.offsets[border][0])
    tokens = args.batch_size * BLOCK * (len(clock.ends) - WARM) / clock.seconds(WARM - 1)
    print(json.dumps({"tokens_per_s": tokens, "nats": loss}))


if __name__ == "__main__":
    main()
