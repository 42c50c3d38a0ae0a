"""Fine-tuning a language model through low-rank updates: ours against Trainer with peft."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases._base import CPU, MEMORY, WALL, Bench, Case, Contestant, Measure, last_json, steps_of

OURS, PEER = "pretune, strategy=lora", "Trainer with peft, tuned"
BLOCK, BATCH, WARM = 510, 2, 3
"""Tokens that are predicted in a block, blocks of a step, and steps before the clock starts."""


def _pretune(bench: Bench, turn: int) -> list[str]:
    """Return our command; a batch has 256 positions for each of its examples at most, so four make room for two blocks."""
    same = ("strategy.rank=8", "strategy.alpha=16", f"batch_size={2 * BATCH}", "epochs=1", "lr=1e-3", "schedule=cosine", "val=0.1")
    text = replace(bench, data=bench.data / "input.txt")
    return text.pretune("task=text_generation", "strategy=lora", *same, f"seed={turn}")


def _peer(bench: Bench, turn: int) -> list[str]:
    return bench.peer("huggingface", "hf_lora.py", "--epochs", "1", "--batch-size", str(BATCH), "--lr", "1e-3", "--seed", str(turn))


def _read(stdout: str, folder: Path) -> dict[str, float]:
    metrics: dict[str, Any] = json.loads(stdout)
    steps = steps_of(folder)
    warm = [step for at, step in enumerate(steps) if sum(one["size"] for one in steps[: at + 1]) <= WARM * BATCH]
    rest = steps[len(warm) :]
    rate = BLOCK * sum(step["size"] for step in rest) / (rest[-1]["seconds"] - warm[-1]["seconds"])
    return {"tokens_per_s": rate, "nats": metrics[metrics["primary"]["split"]]["character_loss"]}


CASE = Case(
    name="language_tuning",
    title="Fine-tuning a language model with LoRA",
    same_work=(
        "the whole process, from exec to exit: read the text, cut it into blocks of 510 tokens, train updates of rank 8 beside every "
        "linear layer of SmolLM2-135M on the first nine tenths of the tokens, once, 2 blocks a step with AdamW and a peak rate of 1e-3, "
        "measure nats per character over all of the last tenth, save the model. Ours also audits, measures the pretrained network and "
        "two baselines on the last tenth, writes on from four texts, merges the updates, and writes the report. Tokens/s count the "
        "training steps after the third."
    ),
    what=(
        "Trainer saves the updates alone. Its precision was found ahead, outside the measurement; ours measures its own in the run. Both "
        "read the token before a block, and predict the same tokens."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=_read),
        Contestant(name=PEER, command=_peer, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(
        Measure(name="tokens_per_s", title="tokens/s", better="more", digits=0),
        Measure(name="nats", title="test loss, nats/character", better="none", digits=3),
        WALL,
        CPU,
        MEMORY,
    ),
    rivals=((OURS, PEER),),
    modality="corpus",
)
