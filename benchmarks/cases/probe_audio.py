"""Audio to a trained model: our default against frozen Whisper features and scikit-learn's logistic regression."""

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, CV, PLAIN = "pretune, default", "Whisper features + LogisticRegressionCV", "Whisper features + LogisticRegression, C=1"


def _peer(bench: Bench, turn: int, head: str) -> list[str]:
    return bench.peer("huggingface", "whisper_features.py", "--seed", str(turn), "--head", head)


CASE = Case(
    name="probe_audio",
    title="Audio: time to a trained model",
    same_work=(
        "the whole process, from exec to exit: list and read the files, resample to 16 kHz, compute log-mel spectrograms and the "
        "features of the same frozen Whisper base encoder over a window that holds the clips, fit L2 logistic regression with C by "
        "5-fold cross-validation, evaluate on the test split, save the classifier. Ours also audits the data, measures two baselines, "
        "and writes a report, a cache and a self-contained model. The row with C=1 does less: it does not choose C."
    ),
    what=(
        "Ours is `pretune finetune DATA` with no setting and an empty cache; its window holds 95 of 100 training clips whole. Whisper's "
        "window in transformers is cut from 30 s to the longest clip, and a clip's feature is the mean over its own frames; precision "
        "and batch size were tried ahead, outside the measurement."
    ),
    contestants=(
        Contestant(name=OURS, command=lambda bench, turn: bench.pretune(f"seed={turn}"), read=pretune_metrics),
        Contestant(name=CV, command=lambda b, turn: _peer(b, turn, "cv"), read=last_json, environment="huggingface", tunes=True),
        Contestant(name=PLAIN, command=lambda b, turn: _peer(b, turn, "plain"), read=last_json, environment="huggingface", tunes=True),
    ),
    measures=(WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, CV), (OURS, PLAIN)),
    modality="audio",
)
