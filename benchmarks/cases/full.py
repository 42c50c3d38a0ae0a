"""Full fine-tuning: images per second of ours, of fastai and of Trainer, at defaults and tuned."""

from benchmarks.cases._base import ACCURACY, MEMORY, RATE, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, FASTAI, TRAINER = "pretune, strategy=full", "fastai", "Trainer"
FASTAI_TUNED, TRAINER_TUNED = "fastai, tuned", "Trainer, tuned"
TUNED = ("--bf16", "--channels-last", "--workers", "2")


def _epochs(bench: Bench) -> str:
    return "2" if bench.quick else "4"


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("strategy=full", "batch_size=32", f"epochs={_epochs(bench)}", "augment=light", f"seed={turn}")


def _fastai(bench: Bench, turn: int, *tuned: str) -> list[str]:
    settings = ("--mode", "full", "--batch-size", "32", "--epochs", _epochs(bench), "--lr", "1e-3", "--seed", str(turn))
    return bench.peer("fastai_images.py", *settings, *tuned)


def _trainer(bench: Bench, turn: int, *tuned: str) -> list[str]:
    return bench.peer("hf_images.py", "--batch-size", "32", "--epochs", _epochs(bench), "--lr", "1e-3", "--seed", str(turn), *tuned)


CASE = Case(
    name="full",
    title="Full fine-tuning",
    what=(
        "Every parameter learns, on 224 x 224 random resized crops with flips, 32 images a step, with each library's own optimizer. "
        "Images/s count the training epochs after the first, without validation. Tuned means bfloat16 autocast, channels_last and two "
        "loader workers; fastai's own mixed precision addresses only CUDA, so its tuned run carries a callback that does the same on "
        "the CPU."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=pretune_metrics, ours=True),
        Contestant(name=FASTAI, command=_fastai, read=last_json),
        Contestant(name=TRAINER, command=_trainer, read=last_json),
        Contestant(name=FASTAI_TUNED, command=lambda bench, turn: _fastai(bench, turn, *TUNED), read=last_json),
        Contestant(name=TRAINER_TUNED, command=lambda bench, turn: _trainer(bench, turn, *TUNED), read=last_json),
    ),
    measures=(RATE, WALL, ACCURACY, MEMORY),
    rivals=((OURS, FASTAI), (OURS, TRAINER), (OURS, FASTAI_TUNED), (OURS, TRAINER_TUNED)),
)
