"""Hugging Face's Trainer on a GPT-2 over characters, from fresh weights, for a given wall time.

The number of steps is fitted to the time after a few have been timed, so that the learning rate falls to 0 just before it is over.
Prints one JSON object: tokens/s of training, and nats per character of the last tenth of the text in blocks that do not overlap.
"""

import argparse
import json
import time
from pathlib import Path

STARTED = time.perf_counter()

import torch  # noqa: E402
from torch.utils.data import Dataset  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # noqa: E402

TIMED, RESERVE = 30, 4.0


class Blocks(Dataset):
    """Blocks at random places, as many as are asked for."""

    def __init__(self, ids, block, count):
        self.ids, self.block, self.count = ids, block, count

    def __len__(self):
        return self.count

    def __getitem__(self, _):
        place = torch.randint(len(self.ids) - self.block, ()).item()
        piece = self.ids[place : place + self.block]
        return {"input_ids": piece, "labels": piece}


class Clock(TrainerCallback):
    """Seconds of the steps after the first few."""

    def __init__(self):
        self.began = self.ended = 0.0
        self.steps = 0

    def on_step_end(self, _args, state, *_, **__):
        if state.global_step == 5:
            self.began = time.perf_counter()
        self.ended, self.steps = time.perf_counter(), state.global_step - 5

    @property
    def per_step(self):
        return (self.ended - self.began) / max(1, self.steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=105)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()

    text = Path(args.data, "input.txt").read_text(encoding="utf-8")
    places = {character: place for place, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([places[character] for character in text])
    cut = int(0.9 * len(ids))
    shape = {"n_positions": 64, "n_embd": 128, "n_layer": 4, "n_head": 4, "activation_function": "gelu"}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

    def trained(steps):
        torch.manual_seed(args.seed)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(places), bos_token_id=0, eos_token_id=0, **shape, **no_dropout))
        settings = TrainingArguments(
            output_dir=args.out,
            max_steps=steps,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.lr,
            lr_scheduler_type="cosine",
            warmup_steps=100 if steps > 200 else 0,
            weight_decay=0.1,
            bf16=args.bf16,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            seed=args.seed,
        )
        clock = Clock()
        data = Blocks(ids[:cut], 64, steps * args.batch_size)
        Trainer(model=model, args=settings, train_dataset=data, callbacks=[clock]).train()
        return model, clock

    _, timed = trained(TIMED)
    left = args.seconds - RESERVE - (time.perf_counter() - STARTED)
    model, clock = trained(max(TIMED, int(left / timed.per_step)))
    model.eval()
    held = ids[cut:]
    count = (len(held) - 1) // 64
    blocks = torch.stack([held[i * 64 : i * 64 + 65] for i in range(count)])
    with torch.inference_mode():
        total = 0.0
        for part in blocks.split(256):
            logits = model(input_ids=part[:, :-1]).logits
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
    tokens = args.batch_size * 64 / clock.per_step
    print(json.dumps({"tokens_per_s": tokens, "nats": total / (count * 64), "steps": clock.steps + 5}))


if __name__ == "__main__":
    main()
