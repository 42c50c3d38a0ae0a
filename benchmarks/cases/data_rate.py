"""Data rate: our store and loader against torchvision's ImageFolder, on files as they are and resized once, and SPDL."""

from benchmarks.cases._base import MEMORY, ROOT, Bench, Case, Contestant, Measure, last_json

OURS, TORCHVISION, RESIZED, SPDL = "pretune", "torchvision", "torchvision, files resized once to 256", "SPDL"


def _same(bench: Bench) -> tuple[str, ...]:
    return ("--workers", str(bench.cores), "--epochs", "1" if bench.quick else "3")


def _pretune(bench: Bench, _turn: int) -> list[str]:
    return [bench.ours, str(ROOT / "benchmarks/ours/data_rate.py"), "--data", str(bench.data / "train"), *_same(bench)]


CASE = Case(
    name="data_rate",
    title="Data rate",
    same_work=(
        "from image files to normalised float batches of 32 at 224 x 224, in shuffled order, with as many workers as cores; no network. "
        "The first epoch starts from the files: listing them, starting workers, and what is done once (ours fills its cache, one "
        "torchvision row resizes the files) are in it; the second column leaves out what is done once. Repeat epochs use the "
        "deterministic transform (shorter side 256, centre 224), random crop is RandomResizedCrop in repeat epochs. Imports are not "
        "counted."
    ),
    what=(
        "torchvision's loader keeps its worker processes between epochs; SPDL has threads and FFmpeg. Ours and the resized row cut "
        "random crops from the image at its working size of 256, the others from the whole file."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=last_json),
        Contestant(
            name=TORCHVISION,
            command=lambda bench, _turn: bench.peer("plain", "torchvision_loader.py", *_same(bench)),
            read=last_json,
            environment="plain",
        ),
        Contestant(
            name=RESIZED,
            command=lambda bench, _turn: bench.peer("plain", "torchvision_loader.py", "--resized", *_same(bench)),
            read=last_json,
            environment="plain",
        ),
        Contestant(
            name=SPDL,
            command=lambda bench, _turn: bench.peer("spdl", "spdl_loader.py", *_same(bench)),
            read=last_json,
            environment="spdl",
        ),
    ),
    measures=(
        Measure(name="first_epoch", title="first epoch, images/s", better="more", digits=0),
        Measure(name="first_ready", title="first epoch without what is done once, images/s", better="more", digits=0),
        Measure(name="repeat_epoch", title="repeat epochs, images/s", better="more", digits=0),
        Measure(name="random_crop", title="random crop, images/s", better="more", digits=0),
        MEMORY,
    ),
    rivals=((OURS, TORCHVISION), (OURS, RESIZED), (OURS, SPDL)),
    weights=False,
)
