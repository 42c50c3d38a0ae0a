"""A language model over characters for a given wall time: ours against Trainer on the same GPT-2."""

import json
from pathlib import Path
from typing import Any

from benchmarks.cases._base import MEMORY, WALL, Bench, Case, Contestant, Measure, last_json

OURS, TRAINER, TUNED = "pretune pretrain", "Trainer, lr 1e-3", "Trainer, bf16, lr 4e-3"
SHAPE = "backbone=scratch:gpt,width=128,layers=4,heads=4"


def _seconds(bench: Bench) -> str:
    return "30" if bench.quick else "105"


def _pretune(bench: Bench, turn: int) -> list[str]:
    settings = ("units=character", "max_tokens=64", "batch_size=12", f"time={_seconds(bench)}", f"seed={turn}")
    where = ("--json", "--offline", "out=run", "cache=cache")
    return [bench.ours, "-m", "pretune", "pretrain", str(bench.data), "objective=causal", SHAPE, *settings, *where]


def _trainer(bench: Bench, turn: int, *settings: str) -> list[str]:
    return bench.peer("hf_language.py", "--seconds", _seconds(bench), "--seed", str(turn), *settings)


def _read(stdout: str, _folder: Path) -> dict[str, float]:
    metrics: dict[str, Any] = json.loads(stdout)
    return {"tokens_per_s": metrics["throughput"]["pretrain_tokens_per_s"], "nats": metrics["held"]["nats_per_character"]}


CASE = Case(
    name="language",
    title="A language model over characters",
    what=(
        "A GPT-2 with 4 layers, 4 heads and 128 channels over blocks of 64 characters, 12 blocks a step, from fresh weights, for 105 s "
        "of the whole process (the last tenth of the text is the test, in blocks that do not overlap). Trainer has AdamW with a cosine, "
        "fitted to the time; ours is `pretune pretrain` with its suggested optimizer and schedule, its tokenizer, measuring and report "
        "included."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=_read, ours=True),
        Contestant(name=TRAINER, command=_trainer, read=last_json),
        Contestant(name=TUNED, command=lambda b, turn: _trainer(b, turn, "--bf16", "--lr", "4e-3"), read=last_json),
    ),
    measures=(
        Measure(name="tokens_per_s", title="tokens/s", better="more", digits=0),
        Measure(name="nats", title="test loss, nats/character", better="none", digits=3),
        WALL,
        MEMORY,
    ),
    rivals=((OURS, TRAINER), (OURS, TUNED)),
    modality="corpus",
)
