"""What the frozen-features peers share: their options, the classifier on the features, and what they save and print."""

import argparse
import json
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold


def options(doc):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head", choices=("cv", "plain"), default="cv", help="C by 5-fold cross-validation, or C=1")
    parser.add_argument("--dtype", choices=("float32", "autocast", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tune", action="store_true", help="only find the fastest options, and print them")
    return parser


def fastest(candidates, run):
    """Return the candidate whose `run` takes least, the better of two runs after one that warms up."""

    def seconds(candidate):
        run(candidate)
        times = []
        for _ in range(2):
            began = time.perf_counter()
            run(candidate)
            times.append(time.perf_counter() - began)
        return min(times)

    return min(candidates, key=seconds)


def finish(args, train, train_targets, test, test_targets):
    """Fit the classifier, save it, and print accuracy and log loss on the test split.

    scikit-learn's documentation of LogisticRegressionCV; the folds are shuffled, C is chosen by log loss.
    """
    if args.head == "cv":
        folds = StratifiedKFold(5, shuffle=True, random_state=args.seed)
        classifier = LogisticRegressionCV(
            Cs=np.logspace(-3, 3, 7), cv=folds, scoring="neg_log_loss", max_iter=1000, l1_ratios=(0.0,), use_legacy_attributes=False
        )
    else:
        classifier = LogisticRegression(max_iter=1000)
    classifier.fit(train, train_targets)
    joblib.dump(classifier, Path(args.out, "classifier.joblib"))
    chances = classifier.predict_proba(test)
    accuracy = accuracy_score(test_targets, classifier.classes_[chances.argmax(axis=1)])
    print(json.dumps({"accuracy": accuracy, "log_loss": log_loss(test_targets, chances, labels=classifier.classes_)}))
