"""Full fine-tuning of MiniLM: texts per second of ours and of Trainer, as it comes and at its best."""

from dataclasses import replace

from benchmarks.cases._base import ACCURACY, MEMORY, RATE, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, TRAINER, BEST = "pretune, strategy=full", "Trainer", "Trainer, bf16, by length"
SAME = ("strategy.lr_decay=1", "strategy.probe_first=false", "schedule=linear", "schedule.warmup=0")


def _epochs(bench: Bench) -> str:
    return "2" if bench.quick else "3"


def _pretune(bench: Bench, turn: int) -> list[str]:
    settings = ("strategy=full", "batch_size=32", "lr=1e-4", "weight_decay=0.01", f"epochs={_epochs(bench)}", f"seed={turn}")
    return bench.pretune(*settings, *SAME)


def _trainer(bench: Bench, turn: int, *tuned: str) -> list[str]:
    settings = ("--batch-size", "32", "--lr", "1e-4", "--weight-decay", "0.01", "--epochs", _epochs(bench), "--seed", str(turn))
    return bench.peer("hf_text.py", *settings, *tuned)


CASE = Case(
    name="texts",
    title="Full fine-tuning of texts",
    what=(
        "Every parameter of MiniLM learns: 32 texts a step, AdamW, 3 epochs, the same learning rate falling linearly to 0, dropout as "
        "the weights were trained with, cut to 256 tokens. Texts/s count the training epochs after the first, without evaluation. Trainer "
        "pads each batch to its longest text (`DataCollatorWithPadding`); at its best it computes in bfloat16 and groups texts by length. "
        "Our whole process includes the audit, the floors and the report."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=pretune_metrics, ours=True),
        Contestant(name=TRAINER, command=_trainer, read=last_json),
        Contestant(name=BEST, command=lambda bench, turn: _trainer(bench, turn, "--bf16", "--by-length"), read=last_json),
    ),
    measures=(replace(RATE, title="texts/s"), WALL, replace(ACCURACY, title="test accuracy"), MEMORY),
    rivals=((OURS, TRAINER), (OURS, BEST)),
    modality="text",
)
