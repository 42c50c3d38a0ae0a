"""Translation from randomly initialised weights: ours against Seq2SeqTrainer with a Marian of the same size."""

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.cases._base import CPU, MEMORY, RATE, WALL, Bench, Case, Contestant, Measure, last_json, pretune_metrics

OURS, SAME, MARIAN = "pretune, default (Muon)", "pretune, AdamW", "Seq2SeqTrainer, Marian (AdamW)"
EPOCHS = 3
ADAMW = ("optim=adamw", "lr=1e-3", "weight_decay=0.01", "schedule=linear", "schedule.warmup=0.1")
BLEU = Measure(name="bleu", title="test BLEU", better="none", digits=1)


def _pretune(bench: Bench, turn: int, *settings: str) -> list[str]:
    return bench.pretune("batch_size=128", f"epochs={EPOCHS}", f"seed={turn}", *settings)


def _marian(bench: Bench, turn: int) -> list[str]:
    return bench.peer("huggingface", "hf_translation.py", "--epochs", str(EPOCHS), "--lr", "1e-3", "--seed", str(turn))


def _read(stdout: str, folder: Path) -> dict[str, float]:
    return pretune_metrics(stdout, folder, names=()) | {"bleu": json.loads(stdout)["written"]["bleu"]}


CASE = Case(
    name="translation",
    title="Translation from scratch",
    same_work=(
        "the whole process, from exec to exit: read the lines, make a joint byte-level BPE of 8,000 pieces, train an encoder-decoder of 3 "
        f"and 3 layers, 256 channels and 4 heads from random weights for {EPOCHS} epochs of 128 pairs a step, write a translation of each "
        "test text by beam search with 4 beams, save the model. Pairs/s count the training epochs after the first, without evaluation. "
        "Ours also audits, measures two baselines, evaluates after each epoch, and writes the report."
    ),
    what=(
        "Marian has one table for both languages and the output, as ours, dropout of 0.1, and Seq2SeqTrainer's AdamW at a peak rate of "
        "1e-3 with warm-up and linear decay; texts of like length share a batch, and its precision was found ahead, outside the "
        "measurement. Our default is Muon at 1e-2; `AdamW` is ours at Marian's recipe. Marian norms after each branch, ours before. Both "
        "BLEU figures are sacrebleu's."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=_read),
        Contestant(name=SAME, command=lambda bench, turn: _pretune(bench, turn, *ADAMW), read=_read),
        Contestant(name=MARIAN, command=_marian, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(replace(RATE, title="pairs/s"), WALL, CPU, BLEU, MEMORY),
    rivals=((OURS, MARIAN), (SAME, MARIAN)),
    modality="translations",
    weights=False,
)
