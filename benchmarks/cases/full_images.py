"""Full fine-tuning of images: ours against a plain tuned loop, Trainer and fastai."""

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, RATE, WALL, Bench, Case, Contestant, last_json, pretune_metrics

OURS, PLAIN, TRAINER, FASTAI = "pretune, strategy=full", "plain PyTorch loop, tuned", "Trainer, tuned", "fastai, tuned"
EPOCHS = 2


def _pretune(bench: Bench, turn: int) -> list[str]:
    return bench.pretune("strategy=full", "batch_size=32", f"epochs={EPOCHS}", "augment=light", f"seed={turn}")


def _same(turn: int) -> tuple[str, ...]:
    return ("--batch-size", "32", "--epochs", str(EPOCHS), "--seed", str(turn))


def _tuned(bench: Bench) -> tuple[str, ...]:
    return ("--channels-last", "--workers", str(bench.cores))


def _trainer(bench: Bench, turn: int) -> list[str]:
    return bench.peer("huggingface", "hf_images.py", *_same(turn), "--lr", "1e-3", *_tuned(bench))


def _fastai(bench: Bench, turn: int) -> list[str]:
    return bench.peer("fastai", "fastai_images.py", "--mode", "full", *_same(turn), "--lr", "1e-3", *_tuned(bench))


CASE = Case(
    name="full_images",
    title="Full fine-tuning of images",
    same_work=(
        f"the whole process, from exec to exit: list and read the files, train every parameter of EfficientNet-Lite0 for {EPOCHS} epochs "
        "on 224 x 224 random resized crops (scale 0.35 to 1) with flips, 32 images a step, evaluate on the test split, save the model. "
        "Images/s count the training epochs after the first, without evaluation. Ours also audits, measures two baselines, fits the head "
        "on frozen features first, and writes the report."
    ),
    what=(
        "Each has its own recipe for the rate. The plain loop has channels_last, fused AdamW, frozen batch-norm statistics, and the "
        "number of loader workers found fastest ahead; Trainer and fastai have channels_last and a loader worker for each core. The "
        "precision of each peer was found ahead, outside the measurement; fastai's own mixed precision addresses only CUDA, so that it "
        "carries a callback that does the same on the CPU. Ours cuts its crops from the image at its working size of 256."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=pretune_metrics),
        Contestant(
            name=PLAIN,
            command=lambda bench, turn: bench.peer("plain", "plain_images.py", *_same(turn)),
            read=last_json,
            environment="plain",
            tunes=True,
        ),
        Contestant(name=TRAINER, command=_trainer, read=last_json, environment="huggingface", tunes=True),
        Contestant(name=FASTAI, command=_fastai, read=last_json, environment="fastai", tunes=True),
    ),
    measures=(RATE, WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, PLAIN), (OURS, TRAINER), (OURS, FASTAI)),
)
