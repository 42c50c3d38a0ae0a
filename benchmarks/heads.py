"""Compare how a probe's linear head is found: solved exactly (the default) against training steps, on shares of the training set.

    python -m benchmarks.heads DATA [DATA …] [--shares 0.05,0.2,1] [--seeds 1] [group=COLUMN …]

Each row is one pair of runs on the same split and the same features; figures are those of the split that is the score.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from pretune.data import splits
from pretune.recipe import Recipe
from pretune.runner.run import Given, run
from pretune.sources import sources
from pretune.sources.table import Columns
from pretune.tasks import infer
from pretune.types import Row, Split

SOLVERS = ("steps", "exact")
SHOWN = ("accuracy", "macro_f1", "log_loss", "ece")


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


def compare(data: str, settings: list[str], share: float, seed: int) -> str:
    """Return a table row: the figures of both ways, side by side."""
    group = next((word.partition("=")[2] for word in settings if word.startswith("group=")), None)
    parts = parts_of(data, Columns(group=group), share, seed)
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for solver in SOLVERS:
            recipe = Recipe.from_settings(
                data, "head=linear", f"head.solver={solver}", "strategy=linear_probe", f"seed={seed}", *settings, out=f"{folder}/{solver}"
            )
            metrics = run(recipe, offline=True, given=Given(parts=parts)).folder.read_json("metrics.json")
            held = metrics[metrics["primary"]["split"]]
            cells.append(" ".join(f"{held[name]:.3f}" for name in SHOWN) + f" | {metrics['timing']['train_s']:.1f}")
    count = sum(part == "train" for part in parts.values())
    return f"| {Path(data).name} | {count} | {' | '.join(cells)} |"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="folders or tables, and key=value settings for all of them")
    parser.add_argument("--shares", default="0.05,0.2,1")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    settings = [word for word in arguments.data if "=" in word]
    titles = " | ".join(f"{solver}: {' '.join(SHOWN)} | s" for solver in SOLVERS)
    print(f"| data | train | {titles} |\n|---|---|---|---|---|---|", flush=True)
    for data in (word for word in arguments.data if "=" not in word):
        for share in map(float, arguments.shares.split(",")):
            for seed in range(arguments.seeds):
                print(compare(data, settings, share, seed), flush=True)


if __name__ == "__main__":
    main()
