"""The whole job on images as a newcomer would run it: ours, AutoGluon-MultiModal, and fastai's quick start."""

from benchmarks.cases._base import ACCURACY, CPU, LOG_LOSS, MEMORY, WALL, Case, Contestant, last_json, pretune_metrics

OURS, AUTOGLUON, FASTAI = "pretune, default", "AutoGluon-MultiModal, time_limit=120", "fastai, fine_tune(1)"

CASE = Case(
    name="whole_job",
    title="The whole job on images",
    same_work=(
        "the whole process, from exec to exit, of each library's documented first job: class folders of images in, a trained and "
        "evaluated model on disk out, from the same EfficientNet-Lite0 weights; how it trains is each library's own choice. The accuracy "
        "is what they have in common."
    ),
    what=(
        "Ours is `pretune finetune DATA` with no setting and an empty cache. AutoGluon has a time limit of 120 s for training, in which "
        "its own learning rate of 1e-4 learns nothing, so that it has 1e-3; the backbone is named, the rest are its defaults. fastai "
        "follows its quick start (`Resize(224)`, batch 64, its own number of workers, `fine_tune(1)`). The last two fine-tune everything."
    ),
    contestants=(
        Contestant(name=OURS, command=lambda bench, turn: bench.pretune(f"seed={turn}"), read=pretune_metrics),
        Contestant(
            name=AUTOGLUON,
            command=lambda bench, turn: bench.peer("autogluon", "autogluon_images.py", "--seed", str(turn), "--seconds", "120"),
            read=last_json,
            environment="autogluon",
        ),
        Contestant(
            name=FASTAI,
            command=lambda bench, turn: bench.peer("fastai", "fastai_images.py", "--mode", "trained", "--seed", str(turn)),
            read=last_json,
            environment="fastai",
        ),
    ),
    measures=(WALL, CPU, ACCURACY, LOG_LOSS, MEMORY),
    rivals=((OURS, AUTOGLUON), (OURS, FASTAI)),
)
