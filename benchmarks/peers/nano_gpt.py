"""A character GPT by nanoGPT's recipe, as a plain loop in its style; none of its code is used.

After nanoGPT's README ("I only have a macbook": 4 layers, 4 heads, 128 channels, blocks of 64, 12 a step, no dropout, no compile) and
its character configuration: AdamW with betas 0.9 and 0.99, weight decay 0.1 on matrices only, rate 1e-3 with a warm-up and a cosine
down to a tenth, gradients clipped at 1, no biases, tied embeddings, scaled initialisation of the projections, fused attention. The
precision is found ahead, outside the measurement (`--tune`). Prints tokens/s of training and nats per character of the test text.
"""

import argparse
import contextlib
import json
import math
import time

import torch
import torch.nn.functional as F
from _characters import BATCH, BLOCK, nats, random_blocks, read_text, steps_of
from torch import nn

LAYERS, HEADS, WIDTH = 4, 4, 128
PEAK, FLOOR, WARMUP = 1e-3, 0.1, 0.05


class Block(nn.Module):
    """Attention and a multi-layer perceptron, each after a norm and around a residual."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """Token and position embeddings, blocks, and the tied output."""

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def rate_of(step, steps):
    warm = WARMUP * steps
    if step < warm:
        return PEAK * (step + 1) / (warm + 1)
    return PEAK * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))))


def precision(args):
    return torch.autocast("cpu", torch.bfloat16) if args.dtype == "autocast" else contextlib.nullcontext()


def train(model, ids, steps, args):
    """Train, and return the seconds of the steps after the first five."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    began = 0.0
    for step in range(steps):
        if step == min(5, steps - 1):
            began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step, steps)
        inputs, targets = random_blocks(ids, BATCH)
        with precision(args):
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "autocast"), default="float32")
    parser.add_argument("--tune", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    ids, test, vocabulary = read_text(args.data)
    if args.tune:
        times = {}
        for args.dtype in ("float32", "autocast"):
            times[args.dtype] = min(train(Gpt(vocabulary), ids, 40, args) for _ in range(2))
        return print(json.dumps({"dtype": min(times, key=times.get)}))
    model, steps = Gpt(vocabulary), steps_of(ids, args.epochs)
    seconds = train(model, ids, steps, args)
    torch.save(model.state_dict(), f"{args.out}/model.pt")
    with precision(args):
        print(json.dumps({"tokens_per_s": (steps - 5) * BATCH * BLOCK / seconds, "nats": nats(model.eval(), test)}))


if __name__ == "__main__":
    main()
