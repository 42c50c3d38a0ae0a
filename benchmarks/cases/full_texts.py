"""Full fine-tuning of texts: ours against a plain tuned loop and Trainer."""

from dataclasses import replace

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, RATE, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, PLAIN, TRAINER = "pretune, strategy=full", "plain PyTorch loop, tuned", "Trainer, tuned"
EPOCHS = 2


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("strategy=full", "batch_size=32", f"epochs={EPOCHS}", f"seed={turn}")


def _same(turn: int) -> tuple[str, ...]:
    return ("--batch-size", "32", "--epochs", str(EPOCHS), "--lr", "2e-4", "--seed", str(turn))


def _trainer(bench: Bench, turn: int) -> list[str]:
    tuned = ("--by-length", "--weight-decay", "0.01")
    return bench.peer("huggingface", "hf_text.py", *_same(turn), *tuned)


CASE = Case(
    name="full_texts",
    title="Full fine-tuning of texts",
    same_work=(
        "the whole process, from exec to exit: read the TSV files, tokenise (at most 256 tokens), train every parameter of MiniLM for "
        f"{EPOCHS} epochs, 32 texts a step with AdamW and a peak rate of 2e-4, evaluate on the test split, save the model. Texts/s count "
        "the training epochs after the first, without evaluation. Ours also audits, measures two baselines, fits the head on frozen "
        "features first, and writes the report."
    ),
    what=(
        "The plain loop has the mean of the last layer's tokens and a linear head, batches of like length padded to their own longest "
        "text, and fused AdamW. Trainer has `AutoModelForSequenceClassification` and groups by length. The precision of each peer was "
        "found ahead, outside the measurement. Ours has its defaults for `strategy=full`."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=pretune_metrics),
        Contestant(
            name=PLAIN,
            command=lambda bench, turn: bench.peer("huggingface", "plain_texts.py", *_same(turn)),
            read=last_json,
            environment="huggingface",
            tunes=True,
        ),
        Contestant(name=TRAINER, command=_trainer, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(replace(RATE, title="texts/s"), WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, PLAIN), (OURS, TRAINER)),
    modality="text",
)
