"""Images to a trained model: our default against frozen timm features and scikit-learn's logistic regression."""

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, CV, PLAIN = "pretune, default", "timm features + LogisticRegressionCV", "timm features + LogisticRegression, C=1"


def _peer(bench: Bench, turn: int, head: str) -> list[str]:
    return bench.peer("plain", "timm_features.py", "--seed", str(turn), "--head", head)


CASE = Case(
    name="probe_images",
    title="Images: time to a trained model",
    same_work=(
        "the whole process, from exec to exit: list and read the files, decode and resize them, compute the features of the same frozen "
        "EfficientNet-Lite0 weights at 224 x 224 in one pass, fit L2 logistic regression with C by 5-fold cross-validation, evaluate on "
        "the test split, save the classifier. Ours also audits the data (duplicates, leaks, confounds), measures two baselines, and "
        "writes a report, a cache and a self-contained model. The row with C=1 does less: it does not choose C."
    ),
    what=(
        "Ours is `pretune finetune DATA` with no setting and an empty cache; what it times and chooses is inside its measurement. timm's "
        "precision, memory format, batch size and loader workers were tried ahead, outside the measurement; the fastest is used."
    ),
    contestants=(
        Contestant(name=OURS, command=lambda bench, turn: bench.pretune(f"seed={turn}"), read=pretune_metrics),
        Contestant(name=CV, command=lambda b, turn: _peer(b, turn, "cv"), read=last_json, environment="plain", tunes=True),
        Contestant(name=PLAIN, command=lambda b, turn: _peer(b, turn, "plain"), read=last_json, environment="plain", tunes=True),
    ),
    measures=(WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, CV), (OURS, PLAIN)),
)
