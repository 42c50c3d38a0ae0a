"""A case: contestants that do the same work, and what is read off them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every command of a case shares."""

    data: Path
    """The data folder, absolute."""
    weights: Path
    """The default package weights of the case's modality as a folder that peers read natively."""
    ours: str
    """Our Python interpreter."""
    peers: Path
    """The folder of the peers' environments."""
    quick: bool
    """One short round, to see that everything runs."""
    cores: int
    """How many threads, and loader workers, each contestant has."""

    def pretune(self, *settings: str, verb: str = "finetune") -> list[str]:
        """Return the command of one of our jobs, with a cold cache of its own."""
        return [self.ours, "-m", "pretune", verb, str(self.data), "--json", "--offline", "out=run", "cache=cache", *settings]

    def peer(self, environment: str, script: str, *arguments: str) -> list[str]:
        """Return the command of a peer's script on the same data and weights."""
        path = str(ROOT / "benchmarks" / "peers" / script)
        return [str(self.python(environment)), path, "--data", str(self.data), "--weights", str(self.weights), "--out", ".", *arguments]

    def python(self, environment: str) -> Path:
        """Return the interpreter of a peer's environment."""
        return self.peers / environment / "bin" / "python"


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
    environment: str | None = None
    """The peer's environment, one of environments/*.txt; None is ours."""
    tunes: bool = False
    """Its script finds its fastest options with `--tune`, once, before anything is measured."""

    @property
    def ours(self) -> bool:
        """Whether this is pretune."""
        return self.environment is None


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contestants measured in turn."""

    name: str
    title: str
    same_work: str
    """What every contestant does from start to end."""
    what: str
    """How each does it, and what is different all the same."""
    contestants: tuple[Contestant, ...]
    measures: tuple[Measure, ...]
    rivals: tuple[tuple[str, str], ...]
    """(our contestant, peer) pairs whose ratio is reported."""
    modality: str = "image"
    """Of the data it is measured on: image, text, tags, pairs, boxes, audio, or corpus."""
    weights: bool = True
    """Whether it starts from pretrained weights."""


WALL = Measure(name="wall_s", title="whole process, s")
CPU = Measure(name="cpu_s", title="CPU time, s")
MEMORY = Measure(name="peak_mb", title="peak memory, MB", digits=0)
ACCURACY = Measure(name="accuracy", title="test accuracy", better="none", digits=3)
LOG_LOSS = Measure(name="log_loss", title="test log loss", better="none", digits=3)
RATE = Measure(name="items_per_s", title="images/s", better="more")


def last_json(stdout: str, _folder: Path) -> dict[str, float]:
    """Return the JSON object in the last line a peer printed."""
    return json.loads(stdout.strip().splitlines()[-1])


def pretune_metrics(stdout: str, folder: Path, *, names: Sequence[str] = ("accuracy", "log_loss")) -> dict[str, float]:
    """Return metrics of the score from our --json, and from the events examples/s of the last phase's epochs after its first."""
    metrics: dict[str, Any] = json.loads(stdout)
    score = metrics[metrics["primary"]["split"]]
    steps = steps_of(folder)
    warm = [step for step in steps if step["epoch"] == steps[0]["epoch"]]
    rest = steps[len(warm) :]
    rate = {"items_per_s": sum(step["size"] for step in rest) / (rest[-1]["seconds"] - warm[-1]["seconds"])} if rest else {}
    return {**{name: score[name] for name in names}, **rate}


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Return the events of our last phase's steps; `folder` is where the command ran."""
    lines = (folder / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "stepped"]
    return [step for step in steps if step["phase"] == steps[-1]["phase"]]
