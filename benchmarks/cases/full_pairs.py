"""Contrastive fine-tuning of sentence embeddings: ours against sentence-transformers."""

from dataclasses import replace
from functools import partial

from benchmarks.cases._base import CPU, MEMORY, RATE, WALL, Bench, Case, Contestant, Measure, last_json, pretune_metrics

OURS, PEER = "pretune, strategy=full", "sentence-transformers, tuned"
EPOCHS = 2
MRR = Measure(name="mrr", title="test MRR", better="none", digits=3)


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("batch_size=64", f"epochs={EPOCHS}", "lr=5e-5", f"seed={turn}")


def _peer(bench: Bench, turn: int) -> list[str]:
    same = ("--batch-size", "32", "--epochs", str(EPOCHS), "--lr", "5e-5", "--seed", str(turn))
    return bench.peer("embeddings", "st_pairs.py", *same, "--weight-decay", "0.01")


CASE = Case(
    name="full_pairs",
    title="Contrastive fine-tuning for retrieval",
    same_work=(
        "the whole process, from exec to exit: read the pairs, tokenise (at most 256 tokens), train every parameter of MiniLM for "
        f"{EPOCHS} epochs, 32 pairs a step with AdamW, a peak rate of 5e-5 and the in-batch negatives of both directions (multiple "
        "negatives ranking, scale 20), rank all passages of the test split for each of its queries, save the model. Texts/s count both "
        "texts of a pair, in the training epochs after the first, without evaluation."
    ),
    what=(
        "sentence-transformers trains with its own trainer, loss and sampler without duplicates; its precision was found ahead, outside "
        "the measurement. Ours has its defaults: a tenth of the training pairs is set aside to choose the weights by, the start among "
        "them, and it also audits, measures two baselines and the start, and writes the report."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=partial(pretune_metrics, names=("mrr",))),
        Contestant(name=PEER, command=_peer, read=last_json, environment="embeddings", tunes=True),
    ),
    measures=(replace(RATE, title="texts/s"), WALL, CPU, MRR, MEMORY),
    rivals=((OURS, PEER),),
    modality="pairs",
)
