"""A case: contestants that do the same work, and what is read off them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every command of a session shares."""

    data: Path
    """The data folder, absolute."""
    weights: Path
    """The default package weights of the case's modality as a folder that peers read natively."""
    ours: str
    """Our Python interpreter."""
    peers: str
    """The peers' Python interpreter."""
    quick: bool
    """One short round, to see that everything runs."""

    def pretune(self, *settings: str) -> list[str]:
        """Return the command of our main job, with a cold cache of its own."""
        return [self.ours, "-m", "pretune", "finetune", str(self.data), "--json", "--offline", "out=run", "cache=cache", *settings]

    def peer(self, script: str, *arguments: str) -> list[str]:
        """Return the command of a peer's script on the same data and weights."""
        path = str(ROOT / "benchmarks" / "peers" / script)
        return [self.peers, path, "--data", str(self.data), "--weights", str(self.weights), "--out", ".", *arguments]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a run."""

    name: str
    title: str
    better: str = "less"
    """less | more | none: which way the ratio against us is taken; none has no ratio."""
    digits: int = 1


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to do the work of a case."""

    name: str
    command: Callable[[Bench, int], list[str]]
    """(bench, round) -> command line; it runs in a fresh folder."""
    read: Callable[[str, Path], dict[str, float]]
    """(stdout, folder) -> measures by name that only the contestant itself knows."""
    weights: str | None = None
    """Glob of the saved weights."""
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contestants measured in turn."""

    name: str
    title: str
    what: str
    """One paragraph for the report: what is done, and how it is kept fair."""
    contestants: tuple[Contestant, ...]
    measures: tuple[Measure, ...]
    rivals: tuple[tuple[str, str], ...]
    """(our contestant, peer) pairs whose ratio is reported."""
    modality: str = "image"
    """Of the data it is measured on."""


WALL = Measure(name="wall_s", title="whole process, s")
TO_WEIGHTS = Measure(name="to_weights_s", title="to saved weights, s")
MEMORY = Measure(name="peak_mb", title="peak memory, MB", digits=0)
ACCURACY = Measure(name="accuracy", title="val accuracy", better="none", digits=3)
RATE = Measure(name="images_per_s", title="images/s", better="more")


def last_json(stdout: str, _folder: Path) -> dict[str, float]:
    """Return the JSON object in the last line a peer printed."""
    return json.loads(stdout.strip().splitlines()[-1])


def pretune_metrics(stdout: str, folder: Path) -> dict[str, float]:
    """Return the score's accuracy from our --json, and images/s of the last phase's epochs after its first from the events."""
    metrics: dict[str, Any] = json.loads(stdout)
    lines = (folder / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "stepped"]
    steps = [step for step in steps if step["phase"] == steps[-1]["phase"]]
    warm = [step for step in steps if step["epoch"] == steps[0]["epoch"]]
    rest = steps[len(warm) :]
    rate = {"images_per_s": sum(step["size"] for step in rest) / (rest[-1]["seconds"] - warm[-1]["seconds"])} if rest else {}
    return {"accuracy": metrics.get("test", metrics.get("val"))["accuracy"], **rate}
