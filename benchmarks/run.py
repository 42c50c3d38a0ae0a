"""Measure us and the named peers in turn, and write results and the table.

    python -m benchmarks.run DATA --peers PYTHON [--case trained] [--rounds 5] [--quick]

Every round runs each contestant once, in a rotating order, each in a fresh folder with an empty cache;
ratios are taken within a round. Run it on a machine that does nothing else: what other processes used
is recorded and shown.
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
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import machine, measure, table
from benchmarks.cases import Bench, Case, Contestant

ROOT = Path(__file__).resolve().parent.parent
CASES = tuple(sorted(path.stem for path in (ROOT / "benchmarks" / "cases").glob("[!_]*.py")))
Run = dict[str, float]


def main() -> None:
    """Run the cases that the command line names."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="pretune-bench-") as scratch:
        bench = Bench(data=args.data.resolve(), weights=Path(scratch, "weights"), ours=args.ours, peers=args.peers, quick=args.quick)
        _prepare_weights(bench, args.modality)
        _warm(bench)
        cases: list[Case] = [importlib.import_module(f"benchmarks.cases.{name}").CASE for name in args.case or CASES]
        for name, case in [(case.name, case) for case in cases if case.modality == args.modality]:
            result = _facts(bench) | _measure(case, bench, rounds=1 if args.quick else args.rounds, scratch=Path(scratch))
            print(table.section(result), flush=True)
            if not args.quick:
                table.RESULTS.mkdir(exist_ok=True)
                (table.RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
                table.write()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data", type=Path, help="class folders with train/ and val/ or test/, (text) train.tsv and test.tsv, or (corpus) input.txt"
    )
    parser.add_argument(
        "--modality", choices=("image", "text", "audio", "corpus"), default="image", help="of the data; cases of others are left out"
    )
    parser.add_argument("--case", action="append", choices=CASES, help="one of the cases; all of them where none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round that is printed and not kept")
    parser.add_argument("--ours", default=sys.executable, help="the Python that has pretune (default: this one)")
    parser.add_argument("--peers", default=os.environ.get("PRETUNE_PEERS_PYTHON"), help="the Python that has the peers")
    args = parser.parse_args()
    if not args.peers:
        parser.error("name the peers' Python with --peers or PRETUNE_PEERS_PYTHON (see benchmarks/requirements-peers.txt)")
    if args.modality == "text" and not all((args.data / f"{part}.tsv").is_file() for part in ("train", "test")):
        parser.error(f"{args.data} needs train.tsv and test.tsv: text, tab, label")
    if args.modality == "corpus" and not (args.data / "input.txt").is_file():
        parser.error(f"{args.data} needs input.txt")
    if args.modality in ("image", "audio") and not _has_parts(args.data):
        parser.error(f"{args.data} needs class folders in train/ and in val/ or test/")
    args.peers, args.ours = (os.path.abspath(python) for python in (args.peers, args.ours))
    return args


def _has_parts(data: Path) -> bool:
    return (data / "train").is_dir() and any((data / part).is_dir() for part in ("val", "test"))


def _prepare_weights(bench: Bench, modality: str) -> None:
    """Write the package weights as peers read them, before anything is timed."""
    scripts = {
        "image": (bench.peers, "peers/lite0.py"),
        "text": (bench.ours, "ours/minilm_folder.py"),
        "audio": (bench.ours, "ours/whisper_folder.py"),
    }
    if modality not in scripts:  # a corpus: all begin with fresh weights
        return
    script = scripts[modality]
    subprocess.run([script[0], str(ROOT / "benchmarks" / script[1]), str(bench.weights)], check=True)


def _warm(bench: Bench) -> None:
    """Read the data and import both worlds once, so that the first round meets the same page cache as the last."""
    for path in bench.data.rglob("*.*"):
        path.read_bytes()
    subprocess.run([bench.peers, "-c", "import fastai.vision.all, transformers.trainer, datasets"], check=True, capture_output=True)
    subprocess.run([bench.ours, "-c", "import pretune, torch, torchvision, timm, sklearn.linear_model"], check=True)


def _facts(bench: Bench) -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": machine.commit(ROOT),
        "data": bench.data.name,
        "machine": machine.facts(),
        "versions": {"ours": machine.versions(bench.ours, machine.OURS), "peers": machine.versions(bench.peers, machine.PEERS)},
    }


def _measure(case: Case, bench: Bench, *, rounds: int, scratch: Path) -> dict[str, object]:
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in case.contestants}
    for turn, contestant in _order(case, rounds):
        print(f"{case.name}: round {turn + 1}/{rounds}: {contestant.name} …", file=sys.stderr, flush=True)
        runs[contestant.name].append(_one(contestant, bench, turn, scratch))
        print(f"  {runs[contestant.name][-1]}", file=sys.stderr, flush=True)
    return {
        "case": case.name,
        "title": case.title,
        "what": case.what,
        "measures": [asdict(wanted) for wanted in case.measures],
        "ours": [contestant.name for contestant in case.contestants if contestant.ours],
        "rivals": [list(pair) for pair in case.rivals],
        "runs": runs,
    }


def _order(case: Case, rounds: int) -> Iterator[tuple[int, Contestant]]:
    """Yield every contestant once a round; who begins rotates."""
    for turn in range(rounds):
        shift = turn % len(case.contestants)
        yield from ((turn, contestant) for contestant in case.contestants[shift:] + case.contestants[:shift])


def _one(contestant: Contestant, bench: Bench, turn: int, scratch: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_", "KMP_", "PYTHONPATH"))}
        env |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
        seen = measure.run(contestant.command(bench, turn), cwd=Path(folder), env=env, weights=contestant.weights)
        own = contestant.read(seen.stdout, Path(folder))
    outside = {key: value for key, value in asdict(seen).items() if key != "stdout" and value is not None}
    return {key: round(float(value), 4) for key, value in (outside | own).items()}


if __name__ == "__main__":
    main()
