"""A language model over characters, one pass over the text: ours against nanoGPT's recipe and Trainer with Muon."""

import json
from pathlib import Path
from typing import Any

from benchmarks.cases._base import CPU, MEMORY, WALL, Bench, Case, Contestant, Measure, last_json

OURS, SAME, NANO, TRAINER = (
    "pretune pretrain, default (Muon)",
    "pretune pretrain, AdamW",
    "nanoGPT's recipe (AdamW)",
    "Trainer with torch.optim.Muon",
)
SHAPE = "backbone=scratch:gpt,width=128,layers=4,heads=4"
ADAMW = (
    "optim=adamw", "optim.beta1=0.9", "optim.beta2=0.99", "lr=1e-3", "weight_decay=0.1",
    "schedule=cosine", "schedule.warmup=0.05", "schedule.floor=0.1",
)  # fmt: skip


def _pretune(bench: Bench, turn: int, *settings: str) -> list[str]:
    same = ("objective=causal", SHAPE, "units=character", "max_tokens=64", "batch_size=12", "epochs=1", f"seed={turn}")
    return bench.pretune(*same, *settings, verb="pretrain")


def _trainer(bench: Bench, turn: int) -> list[str]:
    return bench.peer("huggingface", "hf_language.py", "--seed", str(turn))


def _read(stdout: str, _folder: Path) -> dict[str, float]:
    metrics: dict[str, Any] = json.loads(stdout)
    return {"tokens_per_s": metrics["throughput"]["pretrain_tokens_per_s"], "nats": metrics["held"]["nats_per_character"]}


CASE = Case(
    name="language",
    title="A language model over characters",
    same_work=(
        "the whole process, from exec to exit: read the text, train a GPT-2 with 4 layers, 4 heads and 128 channels from random weights "
        "on as many tokens as the first nine tenths of the text have (blocks of 64 characters, 12 a step), measure nats per character "
        "over all of the last tenth in blocks that do not overlap, save the model. Ours also makes its tokenizer and cache, measures two "
        "baselines, and writes the report."
    ),
    what=(
        "`AdamW` is at equal optimizer: the same betas, rate 1e-3, weight decay 0.1, warm-up and cosine as nanoGPT's recipe. Trainer has "
        "torch.optim.Muon at 1e-2 for the hidden matrices and AdamW for the rest. The precision of each peer was found ahead, outside "
        "the measurement; ours measures its own in the run. The peers take blocks at random places, as nanoGPT does; ours takes every "
        "block once."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=_read),
        Contestant(name=SAME, command=lambda bench, turn: _pretune(bench, turn, *ADAMW), read=_read),
        Contestant(
            name=NANO,
            command=lambda bench, turn: bench.peer("plain", "nano_gpt.py", "--seed", str(turn)),
            read=last_json,
            environment="plain",
            tunes=True,
        ),
        Contestant(name=TRAINER, command=_trainer, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(
        Measure(name="tokens_per_s", title="tokens/s", better="more", digits=0),
        Measure(name="nats", title="test loss, nats/character", better="none", digits=3),
        WALL,
        CPU,
        MEMORY,
    ),
    rivals=((SAME, NANO), (OURS, NANO), (OURS, TRAINER)),
    modality="corpus",
    weights=False,
)
