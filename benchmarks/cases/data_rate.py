"""Data rate: our store and loader against torchvision's ImageFolder with torch's DataLoader."""

from collections.abc import Callable

from benchmarks.cases._base import MEMORY, ROOT, Bench, Case, Contestant, Measure, last_json

WORKERS = (0, 2)


def _command(ours: bool, workers: int) -> Callable[[Bench, int], list[str]]:
    script = ROOT / "benchmarks" / ("ours/data_rate.py" if ours else "peers/torchvision_loader.py")

    def command(bench: Bench, _turn: int) -> list[str]:
        epochs = "1" if bench.quick else "5"
        python = bench.ours if ours else bench.peers
        return [python, str(script), "--data", str(bench.data / "train"), "--workers", str(workers), "--epochs", epochs]

    return command


def _name(ours: bool, workers: int) -> str:
    return f"{'pretune' if ours else 'torchvision'}, {workers} workers"


CASE = Case(
    name="data_rate",
    title="Data rate",
    what=(
        "Images/s that reach the network's input as normalised float batches of 32 at 224 x 224, in shuffled order. The first epoch "
        "starts from the files, listing and (ours) filling the cache included; repeat epochs use the deterministic transform (resize "
        "to 256, centre 224); random crop is RandomResizedCrop in repeat epochs. torchvision's loader keeps its workers between epochs. "
        "Ours cuts random crops from the picture at its working size of 256, torchvision's from the whole file."
    ),
    contestants=tuple(
        Contestant(name=_name(ours, workers), command=_command(ours, workers), read=last_json, ours=ours)
        for workers in WORKERS
        for ours in (True, False)
    ),
    measures=(
        Measure(name="first_epoch", title="first epoch, images/s", better="more", digits=0),
        Measure(name="repeat_epoch", title="repeat epochs, images/s", better="more", digits=0),
        Measure(name="random_crop", title="random crop, images/s", better="more", digits=0),
        MEMORY,
    ),
    rivals=tuple((_name(True, workers), _name(False, workers)) for workers in WORKERS),
)
