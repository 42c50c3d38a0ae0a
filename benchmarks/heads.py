"""Compare light heads on the same frozen features: what the default chooses, each pooling, training steps, and scikit-learn's.

    python -m benchmarks.heads DATA [DATA …] [--shares 0.05,0.2,1] [--seeds 1] [group=COLUMN …]

A cell is accuracy and log loss on the split that is the score. `default` is `pretune finetune DATA`; `steps` the training loop
(AdamW) on the pooling that the backbone names; the poolings are L2 logistic regression, its strength by cross-validation, on the
columns of one pooling; scikit-learn's heads take the means of the last stage, each column divided by its deviation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pretune.data import splits
from pretune.evaluation import probe
from pretune.evaluation.folds import of_groups
from pretune.models.pooling import CHOICES, columns_of
from pretune.recipe import Recipe
from pretune.runner import FineTuning, Runner
from pretune.runner.state import FineTuningState
from pretune.sources import sources
from pretune.sources.table import Columns
from pretune.tasks import infer
from pretune.types import Row, Split

THEIRS: dict[str, Callable[[], Any]] = {
    "logistic, C=1": lambda: LogisticRegression(max_iter=2000),
    "SGD": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "ridge": lambda: RidgeClassifier(alpha=1000.0),
    "LDA, shrunk": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "nearest mean": NearestCentroid,
    "10 neighbours": lambda: KNeighborsClassifier(10),
}
"""scikit-learn's heads."""


def parts_of(data: str, columns: Columns, share: float, seed: int) -> dict[str, Split]:
    """Return the split of each example by id, with a share of each class of the training set, at least two of it."""
    table = sources.read(Path(data), columns)
    rows = table.rows
    if all(row.split is None for row in rows):
        rows, _ = splits.assign(rows, target=infer(table.target_type).target_type, fraction=0.2, seed=seed)
    by_class: dict[str, list[Row]] = defaultdict(list)
    for place in np.random.default_rng(seed).permutation(len(rows)):
        if rows[place].split == "train":
            by_class[str(rows[place].target)].append(rows[place])
    taken = [row for found in by_class.values() for row in found[: max(2, round(share * len(found)))]]
    held: dict[str, Split] = {row.id: row.split for row in rows if row.split in ("val", "test")}
    return {**{row.id: "train" for row in taken}, **held}


def compare(data: str, settings: list[str], share: float, seed: int) -> dict[str, str]:
    """Return a cell for each head."""
    group = next((word.partition("=")[2] for word in settings if word.startswith("group=")), None)
    splits = parts_of(data, Columns(group=group), share, seed)
    with tempfile.TemporaryDirectory() as folder:

        def trained(name: str, *words: str) -> FineTuningState:
            recipe = Recipe.from_settings(
                data, "strategy=linear_probe", "head=linear", f"seed={seed}", *words, *settings, out=f"{folder}/{name}"
            )
            return Runner(FineTuning(recipe=recipe, splits=splits), offline=True).run_job().state

        ours = trained("default", "predictor=network")
        cells = {
            "default": f"{_figures(ours)} ({ours.model.pooling})",
            "steps": _figures(trained("steps", "predictor=network", "head.solver=steps")),
        }
        return {"train": str(len(ours.data.splits["train"]))} | cells | _on_features(ours)


def _figures(state: FineTuningState) -> str:
    metrics = state.run.folder.read_json("metrics.json")
    held = metrics[metrics["primary"]["split"]]
    return f"{held['accuracy']:.3f} {held['log_loss']:.3f}"


def _on_features(state: FineTuningState) -> dict[str, str]:
    """Return the cells of heads that are fitted here, on all columns that the default chose from."""
    data, frozen, model = state.data, state.frozen, state.model
    assert frozen is not None
    whole = replace(frozen, columns=None)

    def of(part: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
        view = whole.view(data.splits[part], None, 1)
        labels = data.encoded.take(torch.from_numpy(data.splits[part])).only
        return view.batch(np.arange(len(view)), 0).inputs.tensor, labels.numpy()

    (x, y), (x_held, y_held) = of("train"), of(data.score)
    units, goal = data.units[data.splits["train"]], torch.nn.functional.one_hot(torch.from_numpy(y)).float()
    folds = of_groups(units, goal.numpy().astype(float), probe.FOLDS) if len(np.unique(units)) < len(units) else None
    widths = model.widths(data.example().to(state.run.device.device))
    cells, blocks = {}, {name: columns_of(name, widths) for name in CHOICES[state.backbone.layout]}
    for name, parts in blocks.items():
        found = probe.solve("softmax", x, goal, folds, candidates={name: [(block.start, block.stop) for block in parts]})
        scores = ((x_held[:, found.columns] - found.mean) * found.scale) @ found.weight.T + found.bias
        cells[name] = _cell(scores.softmax(1).numpy(), y_held)
    last = np.concatenate([np.arange(block.start, block.stop) for block in blocks["mean"]])
    for name, make in THEIRS.items():
        fitted = make_pipeline(StandardScaler(), make()).fit(x[:, last], y)
        if hasattr(fitted, "predict_proba"):
            cells[name] = _cell(fitted.predict_proba(x_held[:, last].numpy()), y_held)
        else:
            cells[name] = f"{(fitted.predict(x_held[:, last].numpy()) == y_held).mean():.3f}"
    return cells


def _cell(probability: NDArray[Any], y: NDArray[np.int64]) -> str:
    loss = -np.log(np.clip(probability[np.arange(len(y)), y], 1e-9, 1)).mean()
    return f"{(probability.argmax(1) == y).mean():.3f} {loss:.3f}"


def main() -> None:
    """Print one table, a row for each head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="folders or tables, and key=value settings for all of them")
    parser.add_argument("--shares", default="0.05,0.2,1")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    settings = [word for word in arguments.data if "=" in word]
    columns: dict[str, dict[str, str]] = {}
    for data in (word for word in arguments.data if "=" not in word):
        for share in map(float, arguments.shares.split(",")):
            for seed in range(arguments.seeds):
                cells = compare(data, settings, share, seed)
                columns[f"{Path(data).name} {cells.pop('train')}{f', seed {seed}' if seed else ''}"] = cells
    heads = list(dict.fromkeys(head for cells in columns.values() for head in cells))
    print("\n".join([f"| head | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]))
    for head in heads:
        print(f"| {head} | {' | '.join(cells.get(head, '') for cells in columns.values())} |")


if __name__ == "__main__":
    main()
