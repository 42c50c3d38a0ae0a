"""Hugging Face's Trainer with torch.optim.Muon on a GPT-2 over characters, from randomly initialised weights.

After transformers' causal-language-modelling guide and the documentation of torch.optim.Muon: Muon for the hidden matrices with
`adjust_lr_fn="match_rms_adamw"`, AdamW for embeddings, norms and biases, one cosine rate for both. The
precision is found ahead, outside the measurement (`--tune`). Prints tokens/s of training and nats per character of the test text.
"""

import argparse
import json
import math

import torch
from _characters import BATCH, BLOCK, nats, random_blocks, read_text, steps_of
from _trainer import Steps, add_precision, settings, tune
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

FLOOR, WARMUP = 0.1, 0.05


class Blocks(Dataset):
    """Blocks at random places, as many as are asked for; GPT-2 shifts the labels itself."""

    def __init__(self, ids, count):
        self.ids, self.count = ids, count

    def __len__(self):
        return self.count

    def __getitem__(self, _):
        piece = random_blocks(self.ids, 1)[0][0]
        return {"input_ids": piece, "labels": piece}


class Both(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer, which is what Trainer takes."""

    def __init__(self, model, lr):
        hidden = [p for name, p in model.named_parameters() if p.dim() == 2 and ".h." in name]
        names = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if id(p) not in names]
        muon = torch.optim.Muon(hidden, lr=lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        self.parts = [muon, torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.1, fused=True)]
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        for part, groups in zip(self.parts, (self.param_groups[:1], self.param_groups[1:]), strict=True):
            part.param_groups = groups  # the schedule moves the rates of these

    def step(self, closure=None):
        for part in self.parts:
            part.step()


def cosine(optimizer, steps):
    def factor(step):
        warm = WARMUP * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=0)
    add_precision(parser)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    ids, test, vocabulary = read_text(args.data)
    shape = {"n_positions": BLOCK, "n_embd": 128, "n_layer": 4, "n_head": 4, "activation_function": "gelu"}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    steps = steps_of(ids, args.epochs)

    def make(max_steps=steps, **more):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **shape, **no_dropout))
        optimizer, clock = Both(model, args.lr), Steps()
        trainer = Trainer(
            model=model,
            args=settings(args, **{"max_steps": max_steps, "max_grad_norm": 1.0, "save_strategy": "no", "logging_strategy": "no", **more}),
            train_dataset=Blocks(ids, steps * BATCH),
            optimizers=(optimizer, cosine(optimizer, steps)),
            callbacks=[clock],
        )
        return trainer, clock

    if args.tune:
        return tune(make, args, steps=40)
    trainer, clock = make()
    trainer.train()
    trainer.save_model()
    model = trainer.model.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "autocast"):
        loss = nats(lambda inputs: model(input_ids=inputs).logits, test)
    print(json.dumps({"tokens_per_s": (steps - 5) * BATCH * BLOCK / clock.seconds(4), "nats": loss}))


if __name__ == "__main__":
    main()
