"""A linear probe on MiniLM: our default against Trainer with a frozen backbone, for 3 and for 10 epochs."""

from dataclasses import replace

from benchmarks.cases._base import ACCURACY, MEMORY, TO_WEIGHTS, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, THREE, TEN = "pretune, default", "Trainer, frozen, 3 epochs", "Trainer, frozen, 10 epochs"
BEST = "Trainer, frozen, 3 epochs, bf16, by length"


def _trainer(bench: Bench, turn: int, epochs: str, *tuned: str) -> list[str]:
    settings = ("--frozen", *tuned, "--batch-size", "32", "--lr", "1e-3", "--seed", str(turn))
    return bench.peer("hf_text.py", *settings, "--epochs", "1" if bench.quick else epochs)


def _best(bench: Bench, turn: int) -> list[str]:
    return _trainer(bench, turn, "3", "--bf16", "--by-length")


CASE = Case(
    name="texts_probe",
    title="A linear probe on texts",
    what=(
        "MiniLM frozen, a linear classifier learned, from the start of the process. pretune is `pretune finetune DATA` with no setting and "
        "an empty cache: one forward pass, then 30 epochs of the head on the means of all layers; its whole process includes the audit, "
        "the floors and the report. Trainer is at its defaults (float32, `DataCollatorWithPadding`); at its best it computes in "
        "bfloat16 and groups texts by length."
    ),
    contestants=(
        Contestant(name=OURS, command=lambda b, turn: b.pretune(f"seed={turn}"), read=pretune_metrics, weights="run/model.json", ours=True),
        Contestant(name=THREE, command=lambda b, turn: _trainer(b, turn, "3"), read=last_json, weights="model.safetensors"),
        Contestant(name=TEN, command=lambda b, turn: _trainer(b, turn, "10"), read=last_json, weights="model.safetensors"),
        Contestant(name=BEST, command=_best, read=last_json, weights="model.safetensors"),
    ),
    measures=(TO_WEIGHTS, WALL, replace(ACCURACY, title="test accuracy"), MEMORY),
    rivals=((OURS, THREE), (OURS, TEN), (OURS, BEST)),
    modality="text",
)
