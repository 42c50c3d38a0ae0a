"""Time to a trained model: our default against fastai's fine_tune(1) and Hugging Face's Trainer."""

from benchmarks.cases._base import ACCURACY, MEMORY, TO_WEIGHTS, WALL, Case, Contestant, last_json, pretune_metrics

OURS, FASTAI, TRAINER, TRAINER_BF16 = (
    "pretune, default",
    "fastai, fine_tune(1)",
    "Trainer, 3 epochs",
    "Trainer, 3 epochs, bf16, channels_last, lr 3e-4",
)

CASE = Case(
    name="trained",
    title="Time to a trained model",
    what=(
        "From the start of the process to a trained model on disk, and to the end of the process. fastai follows its quick start "
        "(`Resize(224)`, batch 64, its own number of workers); Trainer follows transformers' `run_image_classification.py` with its own "
        "defaults (batch 8, lr 5e-5), and once more in bfloat16 and channels_last with a learning rate that suits this data better. "
        "pretune is `pretune finetune DATA` with no setting and an empty cache; its whole process includes the audit, the floors and "
        "the report."
    ),
    contestants=(
        Contestant(
            name=OURS,
            command=lambda bench, turn: bench.pretune(f"seed={turn}"),
            read=pretune_metrics,
            weights="run/model.json",  # the last of the files that make a model
            ours=True,
        ),
        Contestant(
            name=FASTAI,
            command=lambda bench, turn: bench.peer("fastai_images.py", "--mode", "trained", "--seed", str(turn)),
            read=last_json,
            weights="models/model.pth",
        ),
        Contestant(
            name=TRAINER,
            command=lambda bench, turn: bench.peer("hf_images.py", "--seed", str(turn)),
            read=last_json,
            weights="checkpoint-*/model.safetensors",
        ),
        Contestant(
            name=TRAINER_BF16,
            command=lambda bench, turn: bench.peer("hf_images.py", "--seed", str(turn), "--bf16", "--channels-last", "--lr", "3e-4"),
            read=last_json,
            weights="checkpoint-*/model.safetensors",
        ),
    ),
    measures=(TO_WEIGHTS, WALL, ACCURACY, MEMORY),
    rivals=((OURS, FASTAI), (OURS, TRAINER), (OURS, TRAINER_BF16)),
)
