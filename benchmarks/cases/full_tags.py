"""Full fine-tuning for the entities of texts: ours against Trainer."""

from dataclasses import replace
from functools import partial

from benchmarks.cases._base import CPU, MEMORY, RATE, WALL, Bench, Case, Contestant, Measure, last_json, pretune_metrics

OURS, TRAINER = "pretune, strategy=full", "Trainer, tuned"
EPOCHS = 2
F1 = Measure(name="entity_f1", title="test entity F1", better="none", digits=3)


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("batch_size=32", f"epochs={EPOCHS}", f"seed={turn}")


def _trainer(bench: Bench, turn: int) -> list[str]:
    same = ("--batch-size", "32", "--epochs", str(EPOCHS), "--lr", "2e-4", "--seed", str(turn))
    return bench.peer("huggingface", "hf_tags.py", *same, "--by-length", "--weight-decay", "0.01")


CASE = Case(
    name="full_tags",
    title="Full fine-tuning for named entities",
    same_work=(
        "the whole process, from exec to exit: read the CoNLL files, tokenise (at most 256 tokens), train every parameter of MiniLM for "
        f"{EPOCHS} epochs, 32 texts a step with AdamW and a peak rate of 2e-4, evaluate on the test split, save the model. Texts/s count "
        "the training epochs after the first, without evaluation. Ours also audits, measures three baselines (a linear tagger among "
        "them) and writes the report; where the data have a validation split, it chooses the weight of O on it."
    ),
    what=(
        "Trainer has `AutoModelForTokenClassification`, groups by length, and its precision was found ahead, outside the measurement. "
        "Ours has its defaults. Both score whole entities: first word, last word and type."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=partial(pretune_metrics, names=("entity_f1",))),
        Contestant(name=TRAINER, command=_trainer, read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(replace(RATE, title="texts/s"), WALL, CPU, F1, MEMORY),
    rivals=((OURS, TRAINER),),
    modality="tags",
)
