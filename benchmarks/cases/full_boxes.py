"""Object detection on a backbone without a detection head: ours against torchvision's FCOS in its reference loop."""

from dataclasses import replace
from functools import partial

from benchmarks.cases._base import CPU, MEMORY, RATE, WALL, Bench, Case, Contestant, Measure, last_json, pretune_metrics

OURS, FCOS = "pretune, strategy=full", "torchvision FCOS, reference loop"
EPOCHS, PEERS_EPOCHS = 14, 6
"""Of ours, and of the peer: after them ours is the better one on raccoon_yolo, and sooner. At equal epochs the peer is better: its
images are not cropped, and it trains on those that ours chooses its weights by."""
AP50 = Measure(name="ap50", title="val AP50", better="none", digits=3)
MAP = Measure(name="map", title="val mAP", better="none", digits=3)


def _pretune(bench: Bench, turn: int) -> list[str]:
    whole = ("strategy=full", "strategy.probe_first=false", "batch_size=8", f"epochs={EPOCHS}", f"seed={turn}")
    return bench.pretune("backbone=package:efficientnet_lite0", *whole)


def _fcos(bench: Bench, turn: int) -> list[str]:
    same = ("--batch-size", "8", "--epochs", str(PEERS_EPOCHS), "--seed", str(turn), "--workers", str(bench.cores))
    return bench.peer("plain", "torchvision_boxes.py", *same)


CASE = Case(
    name="full_boxes",
    title="Object detection on EfficientNet-Lite0",
    same_work=(
        "the whole process, from exec to exit: read images and YOLO labels, train every parameter of EfficientNet-Lite0 and a new head on "
        f"its maps at strides of 8, 16 and 32 at 320 pixels, 8 images a step ({EPOCHS} epochs, the peer {PEERS_EPOCHS}), "
        "evaluate on val, save the model. "
        "Images/s count the training epochs after the first, without evaluation. Ours also audits, sets a part of train aside on which it "
        "chooses the best epoch, measures two baselines, and writes the report."
    ),
    what=(
        "torchvision's FCOS has a feature pyramid and towers of 128 channels, flips, SGD with momentum at the rate 0.01, and "
        "frozen batch-norm statistics. Ours has its defaults. Both figures are faster-coco-eval's."
    ),
    contestants=(
        Contestant(name=OURS, command=_pretune, read=partial(pretune_metrics, names=("ap50", "map"))),
        Contestant(name=FCOS, command=_fcos, read=last_json, environment="plain"),
    ),
    measures=(replace(RATE, title="images/s"), WALL, CPU, AP50, MAP, MEMORY),
    rivals=((OURS, FCOS),),
    modality="boxes",
)
