"""Measure us and the named peers in turn, and write results and the table.

    python -m benchmarks.run all --peers PEERS                     every case, on data that is generated
    python -m benchmarks.run probe_images DATA --peers PEERS       one case, on data of one's own
    python -m benchmarks.run probe_texts DATA --limit 500 --quick  one short round on a share of it; nothing is kept

PEERS is a folder with one Python environment for each file of benchmarks/environments; a peer whose environment is missing is
left out, and named. Every round runs each contestant once, in a rotating order, each in a fresh folder with an empty cache, with
the same threads; ratios are taken within a round. Run it on a machine that does nothing else: what other processes used is
recorded and shown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import data, layouts, machine, measure, table
from benchmarks.cases import Bench, Case, Contestant

ROOT = Path(__file__).resolve().parent.parent
CASES = tuple(sorted(path.stem for path in (ROOT / "benchmarks" / "cases").glob("[!_]*.py")))
SHORT_ROUND_S, ROUNDS, ROUNDS_OF_LONG = 120, 5, 3
IMPORTS = {
    "plain": "torch, torchvision, timm, faster_coco_eval, sklearn.linear_model",
    "sentence": "sentence_transformers, sklearn.linear_model",
    "embeddings": "sentence_transformers, datasets, accelerate",
    "huggingface": (
        "torch, torchvision, timm, transformers, datasets, accelerate, peft, soundfile, soxr, sacrebleu, jiwer, sklearn.linear_model"
    ),
    "setfit": "setfit, datasets",
    "fastai": "fastai.vision.all, timm",
    "spdl": "torch, spdl.io, spdl.pipeline",
    "autogluon": "autogluon.multimodal",
}
"""What each environment must be able to import; imported once before the first round, so that all meet a warm page cache."""
Run = dict[str, float]


@dataclass
class Session:
    """One case on one data set: who takes part, with which options, and what was measured."""

    case: Case
    bench: Bench
    scratch: Path
    left_out: dict[str, str] = field(default_factory=dict)
    """Why a peer does not take part, by name."""
    tuned: dict[str, list[str]] = field(default_factory=dict)
    """The options that a peer's script found fastest, by name."""
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def taking_part(self) -> list[Contestant]:
        """Return the contestants that are not left out."""
        return [contestant for contestant in self.case.contestants if contestant.name not in self.left_out]


def main() -> None:
    """Run the cases that the command line names."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="pretune-bench-") as scratch:
        for name in CASES if args.case == "all" else (args.case,):
            case: Case = importlib.import_module(f"benchmarks.cases.{name}").CASE
            result = _run(case, args, Path(scratch))
            print(table.section(result), flush=True)
            if not args.quick:
                table.RESULTS.mkdir(exist_ok=True)
                (table.RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
                table.write()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("all", *CASES))
    parser.add_argument("data", nargs="?", type=Path, help="a folder of one's own; without it, data is generated")
    parser.add_argument("--limit", type=int, help="take at most so many training and so many test examples (characters of a corpus)")
    parser.add_argument("--test", type=int, help="take at most so many test examples where --limit takes more")
    parser.add_argument("--rounds", type=int, help="without it, 5 where a round is under two minutes, else 3")
    parser.add_argument("--quick", action="store_true", help="one round on a small share, printed and not kept")
    parser.add_argument("--ours", default=sys.executable, help="the Python that has pretune's dependencies (default: this one)")
    parser.add_argument("--peers", type=Path, default=os.environ.get("PRETUNE_PEERS"), help="the folder of the peers' environments")
    args = parser.parse_args()
    if not args.peers:
        parser.error("name the folder of the peers' environments with --peers or PRETUNE_PEERS (see benchmarks/environments)")
    if args.data and args.case == "all":
        parser.error("`all` runs on generated data; name one case with a folder of your own")
    args.peers, args.ours = Path(args.peers).absolute(), os.path.abspath(args.ours)
    return args


def _run(case: Case, args: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Prepare and measure one case, and return its result."""
    folder, label = _data(case.modality, args, scratch)
    weights = scratch / "weights" / case.modality
    if case.weights and not weights.exists():
        script = ROOT / "benchmarks" / "ours" / str(layouts.LAYOUTS[case.modality].weights)
        subprocess.run([args.ours, str(script), str(weights)], check=True, env=_environment(ours=True), capture_output=True)
    bench = Bench(data=folder, weights=weights, ours=args.ours, peers=args.peers, quick=args.quick, cores=machine.cores())
    session = Session(case=case, bench=bench, scratch=scratch)
    _prepare(session)
    _measure(session, rounds=1 if args.quick else args.rounds)
    return _facts(session, label)


def _data(modality: str, args: argparse.Namespace, scratch: Path) -> tuple[Path, str]:
    """Return the data folder of a case and what the table calls it."""
    folder, label = args.data, args.data.resolve().name if args.data else f"generated {data.MODALITIES[modality]}"
    if folder is None:
        folder = scratch / "generated" / data.MODALITIES[modality]
        folder = folder if folder.exists() else data.generate(modality, folder.parent)
    if lacks := layouts.missing(modality, folder):
        sys.exit(f"{folder} needs {lacks}")
    layout = layouts.LAYOUTS[modality]
    most = args.limit or (layout.quick if args.quick else None)
    if most is None:
        return folder.resolve(), label
    test = min(most, args.test or most)
    taken = scratch / f"{label} {most} {test}".replace(" ", "-")
    what = f"{label}, at most {most:,} {layout.unit}" if test == most else f"{label}, at most {most:,} training and {test:,} test examples"
    return (taken if taken.exists() else layouts.share(modality, folder, most, taken, test=test)), what


def _prepare(session: Session) -> None:
    """Warm the page cache, leave out whose environment is missing, and let the others find their fastest options."""
    for path in session.bench.data.rglob("*.*"):
        path.read_bytes()
    subprocess.run([session.bench.ours, "-c", "import pretune, torch, torchvision, timm"], check=True, env=_environment(ours=True))
    checked: dict[str, str] = {}
    for contestant in session.case.contestants:
        if contestant.environment is not None:
            if contestant.environment not in checked:
                checked[contestant.environment] = _fault(session.bench, contestant.environment)
            if checked[contestant.environment]:
                _leave_out(session, contestant.name, checked[contestant.environment])
    found: dict[tuple[str, ...], list[str]] = {}
    for contestant in session.taking_part():
        if contestant.tunes:
            command = contestant.command(session.bench, 0)
            key = tuple(word for word in command if not word.startswith("--head") and word not in ("cv", "plain"))
            if key not in found:
                print(f"{session.case.name}: {contestant.name}: finding its fastest options …", file=sys.stderr, flush=True)
                try:
                    found[key] = _tuned(session, contestant, command)
                except measure.CommandFailed as failure:
                    _leave_out(session, contestant.name, f"it failed: {_last_line(str(failure))}")
                    continue
            session.tuned[contestant.name] = found[key]


def _fault(bench: Bench, environment: str) -> str:
    """Return why a peer's environment cannot be used; "" where it can."""
    python = bench.python(environment)
    if not python.exists():
        return f"there is no {environment}/bin/python in the folder of the peers' environments (benchmarks/environments/{environment}.txt)"
    done = subprocess.run(
        [str(python), "-c", f"import {IMPORTS[environment]}"], capture_output=True, text=True, env=_environment(ours=False)
    )
    return f"its environment does not import: {_last_line(done.stderr)}" if done.returncode else ""


def _tuned(session: Session, contestant: Contestant, command: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
        seen = measure.run([*command, "--tune"], cwd=Path(folder), env=_environment(ours=False))
    best = contestant.read(seen.stdout, Path())
    return [word for key, value in best.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def _measure(session: Session, *, rounds: int | None) -> None:
    session.runs = {contestant.name: [] for contestant in session.taking_part()}
    began, turn = time.perf_counter(), 0
    while turn == 0 or turn < (rounds or ROUNDS):
        for contestant in _order(session.taking_part(), turn):
            print(f"{session.case.name}: round {turn + 1}: {contestant.name} …", file=sys.stderr, flush=True)
            try:
                session.runs[contestant.name].append(_one(session, contestant, turn))
                print(f"  {session.runs[contestant.name][-1]}", file=sys.stderr, flush=True)
            except measure.CommandFailed as failure:
                if contestant.ours:
                    raise
                _leave_out(session, contestant.name, f"it failed: {_last_line(str(failure))}")
        turn += 1
        if rounds is None:
            rounds = ROUNDS if time.perf_counter() - began < SHORT_ROUND_S else ROUNDS_OF_LONG


def _order(contestants: Sequence[Contestant], turn: int) -> Iterator[Contestant]:
    """Yield every contestant once; who begins rotates with the round."""
    shift = turn % len(contestants)
    yield from (*contestants[shift:], *contestants[:shift])


def _leave_out(session: Session, name: str, why: str) -> None:
    session.left_out[name] = why
    session.runs.pop(name, None)
    print(f"{session.case.name}: {name} is left out: {why}", file=sys.stderr, flush=True)


def _one(session: Session, contestant: Contestant, turn: int) -> Run:
    command = [*contestant.command(session.bench, turn), *session.tuned.get(contestant.name, [])]
    with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
        seen = measure.run(command, cwd=Path(folder), env=_environment(ours=contestant.ours))
        own = contestant.read(seen.stdout, Path(folder))
    outside = {key: value for key, value in asdict(seen).items() if key != "stdout"}
    return {key: round(float(value), 4) for key, value in (outside | own).items()}


def _environment(*, ours: bool) -> dict[str, str]:
    """Return the environment variables of a contestant; ours runs the source of this repository."""
    return machine.environment() | ({"PYTHONPATH": str(ROOT / "src")} if ours else {})


def _last_line(text: str) -> str:
    """Return the last line that says something, without places on this machine."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["it said nothing"]
    return " ".join(word if not word.startswith(("/", "'/", '"/')) else Path(word.strip("'\":,")).name for word in lines[-1].split())


def _facts(session: Session, label: str) -> dict[str, object]:
    """Return everything that the table shows."""
    case, bench = session.case, session.bench
    environments = sorted({contestant.environment for contestant in session.taking_part() if contestant.environment})
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": machine.commit(ROOT),
        "data": label,
        "machine": machine.facts(),
        "threads": machine.threads(),
        "versions": {
            "pretune": machine.versions(bench.ours),
            **{name: machine.versions(str(bench.python(name))) for name in environments},
        },
        "case": case.name,
        "title": case.title,
        "same_work": case.same_work,
        "what": case.what,
        "measures": [asdict(wanted) for wanted in case.measures],
        "ours": [contestant.name for contestant in case.contestants if contestant.ours],
        "rivals": [list(pair) for pair in case.rivals if not set(pair) & set(session.left_out)],
        "left_out": session.left_out,
        "tuned": {name: " ".join(words) for name, words in session.tuned.items()},
        "runs": session.runs,
    }


if __name__ == "__main__":
    main()
