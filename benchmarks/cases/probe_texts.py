"""Texts to a trained model: our default against sentence-transformers with logistic regression, and SetFit."""

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, CV, PLAIN = "pretune, default", "sentence-transformers + LogisticRegressionCV", "sentence-transformers + LogisticRegression, C=1"
SETFIT = "SetFit, num_iterations=1"


def _peer(bench: Bench, turn: int, head: str) -> list[str]:
    return bench.peer("sentence", "sentence_features.py", "--seed", str(turn), "--head", head)


def _setfit(bench: Bench, turn: int) -> list[str]:
    return bench.peer("setfit", "setfit_texts.py", "--seed", str(turn), "--iterations", "1")


CASE = Case(
    name="probe_texts",
    title="Texts: time to a trained model",
    same_work=(
        "the whole process, from exec to exit: read the TSV files, tokenise, compute the features of the same frozen MiniLM weights in "
        "one pass (at most 256 tokens), fit L2 logistic regression with C by 5-fold cross-validation, evaluate on the test split, save "
        "the classifier. Ours also audits the data, measures two baselines (TF-IDF with C by cross-validation among them), and writes a "
        "report, a cache and a self-contained model. The row with C=1 does less; SetFit does more: it fine-tunes the encoder on pairs of "
        "texts."
    ),
    what=(
        "Ours is `pretune finetune DATA` with no setting and an empty cache. sentence-transformers sorts by length; its precision and "
        "batch size were tried ahead, outside the measurement. SetFit has 2 pairs a text (its default, every pair, is meant for a "
        "handful of texts a class) and the settings of its quick start otherwise."
    ),
    contestants=(
        Contestant(name=OURS, command=lambda bench, turn: bench.pretune(f"seed={turn}"), read=pretune_metrics),
        Contestant(name=CV, command=lambda b, turn: _peer(b, turn, "cv"), read=last_json, environment="sentence", tunes=True),
        Contestant(name=PLAIN, command=lambda b, turn: _peer(b, turn, "plain"), read=last_json, environment="sentence", tunes=True),
        Contestant(name=SETFIT, command=_setfit, read=last_json, environment="setfit"),
    ),
    measures=(WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, CV), (OURS, PLAIN), (OURS, SETFIT)),
    modality="text",
)
