"""What each augmentation changes: a small network trained from scratch on few examples, with one augmentation at a time, paired by seed.

`python -m benchmarks.augmentations measure photos FOLDER SEED …` trains one network for each augmentation and one without, on the same
examples and from the same initial weights, and adds the test accuracies to benchmarks/augmentations.json.
`python -m benchmarks.augmentations table` writes the table of docs/learn.md from that file.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretune.evaluation.student import student
from pretune.recipe import Recipe
from pretune.runner import score
from pretune.runner.finetune import FineTuned, FineTuning
from pretune.runner.runner import Runner
from pretune.runner.state import FineTuningState
from pretune.training.context import Evaluation

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "augmentations.json", HERE.parent / "docs" / "learn.md"
START, END = "<!-- measured augmentations -->\n", "<!-- end of measured augmentations -->"
IMAGES = ("random_resized_crop", "flip", "rotation", "colour", "grey", "randaugment", "erasing", "mixup", "cutmix", "blur")
AUDIO = ("time_shift", "gain", "noise", "speed", "specaugment", "mixup")
Accuracies = dict[str, dict[str, float]]
"""Augmentation ('none' without) -> seed -> test accuracy."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set of class folders, perhaps below train/ and test/."""

    what: str
    arms: tuple[str, ...]
    each: int
    """Training examples of a class, drawn anew for each seed."""
    tested: int
    """Test examples of a class, the same for all."""
    settings: dict[str, Any]


SMALL = {"strategy": "scratch", "threads": 1, "precision": "float32", "lr": 5e-3}
OF_IMAGES = SMALL | {"backbone": "scratch:cnn,width=8,depth=1,stages=3", "image_size": 16}
OF_CLIPS = SMALL | {"backbone": "scratch:audiocnn,width=8,blocks=3,mels=32", "seconds": 0.6}
CASES = {
    "photos": Case(what="CIFAR-10", arms=IMAGES, each=20, tested=100, settings=OF_IMAGES | {"epochs": 40}),
    "signs": Case(what="hand signs of digits", arms=IMAGES, each=20, tested=40, settings=OF_IMAGES | {"epochs": 30}),
    "clips": Case(
        what="spoken digits (FSDD)",
        arms=AUDIO,
        each=10,
        tested=30,
        settings=OF_CLIPS | {"epochs": 30},
    ),
}


def link_sample(case: Case, data: Path, out: Path, seed: int) -> None:
    """Link train/CLASS and test/CLASS of a sample into a folder; where the data have no test set, the last files of a class are it."""
    rng = np.random.default_rng(seed)
    has_test = (data / "test").is_dir()
    for folder in sorted(path for path in (data / "train" if has_test else data).iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        tests = sorted((data / "test" / folder.name).iterdir())[: case.tested] if has_test else files[-case.tested :]
        pool = files if has_test else files[: -case.tested]
        chosen = {"train": [pool[i] for i in rng.permutation(len(pool))[: case.each]], "test": tests}
        for split, paths in chosen.items():
            (out / split / folder.name).mkdir(parents=True)
            for path in paths:
                os.symlink(path, out / split / folder.name / path.name)


class Trained(FineTuning):
    """Fine-tuning that ends with the test accuracy: no baselines, no report."""

    def evaluation(self, state: FineTuningState, number: int) -> Evaluation:
        """Measure nothing between epochs."""
        return Evaluation(splits={})

    def record(self, state: FineTuningState) -> FineTuned:
        """Measure the test set."""
        raw = score.outputs(state.learner, state.view(state.data.splits["test"]), state.run.device, state.precision)
        figures = score.measure(raw, state.data.labels("test"), state.data.task, state.data.space)
        return FineTuned(folder=state.run.folder, metrics=figures, state=state)


def measure(name: str, data: Path, seed: int) -> None:
    """Train one network for each augmentation, and add their accuracies to the results as soon as they are known."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        link_sample(case, data.resolve(), place / "data", seed)
        for arm in ("none", *case.arms):
            how = {"augment": "none"} if arm == "none" else {"augmentations": arm}
            recipe = Recipe.from_settings(str(place / "data"), **case.settings, **how, seed=seed, out=place / arm)
            accuracy = Runner(Trained(recipe=recipe)).run_job().metrics["accuracy"]
            with RESULTS.open("a+") as file:  # several processes may measure at once
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                results = json.loads(file.read() or "{}")
                results.setdefault(name, {}).setdefault(arm, {})[str(seed)] = accuracy
                file.truncate(0)
                file.write(json.dumps(results, indent=1, sort_keys=True) + "\n")
            print(name, arm, seed, accuracy, flush=True)


def difference(found: Accuracies, arm: str) -> tuple[float, float, float]:
    """Return the mean paired difference to no augmentation in points, and the ends of its 95 % interval over seeds."""
    pairs = [100 * (found[arm][seed] - found["none"][seed]) for seed in found[arm] if seed in found["none"]]
    mean = statistics.fmean(pairs)
    reach = student(len(pairs) - 1) * statistics.stdev(pairs) / len(pairs) ** 0.5
    return mean, mean - reach, mean + reach


def cell(found: Accuracies, arm: str) -> str:
    """Return what the table says of an augmentation."""
    if arm not in found:
        return ""
    mean, low, high = difference(found, arm)
    if low == high:  # a blur whose width is a share of 16 pixels
        return "changes nothing at this size"
    figures = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{figures}**" if low > 0 or high < 0 else f"{figures}, no measurable effect"


def table(results: dict[str, Accuracies]) -> str:
    """Return the table."""
    names = [name for name in CASES if name in results]
    heads = [f"{CASES[name].what}, {CASES[name].each} a class" for name in names]
    without = [f"{100 * statistics.fmean(results[name]['none'].values()):.1f} %" for name in names]
    lines = [f"| augmentation | {' | '.join(heads)} |", f"|---|{'---|' * len(names)}", f"| none: test accuracy | {' | '.join(without)} |"]
    arms = dict.fromkeys(arm for name in names for arm in CASES[name].arms)
    lines += [f"| `{arm}` | {' | '.join(cell(results[name], arm) for name in names)} |" for arm in arms]
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> None:
    """Measure, or write the table."""
    if words[:1] == ["measure"]:
        for seed in map(int, words[3:]):
            measure(words[1], Path(words[2]), seed)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    PAGE.write_text(before + START + table(json.loads(RESULTS.read_text())) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
