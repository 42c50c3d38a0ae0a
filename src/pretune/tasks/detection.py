"""Objects in images: boxes with classes, by a dense detector on maps of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pretune.architectures.layers.dense import DenseHead, DenseOutputs
from pretune.architectures.layers.detector import DetectionTargets, LibraryDetector
from pretune.backbones import Backbone
from pretune.config import Within
from pretune.errors import SettingError
from pretune.evaluation import boxes as evaluation
from pretune.labels import Labels, Outputs, Ragged
from pretune.models import Model, SupervisedLearner
from pretune.models.dense.loss import dense_loss
from pretune.models.heads import Head
from pretune.models.heads.detector import Detector, DetectorModule, LibraryDetectorModule
from pretune.models.learner import Loss
from pretune.models.pyramid import maps
from pretune.sources.boxes import BOXES, Box, Boxes
from pretune.sources.target_type import TargetType
from pretune.tasks import _box_baselines
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.tasks._boxes import BoxTruth, f1, paired, read_back, rectangle, shown_in, size_of, tiny, to_file, written
from pretune.tasks._marked import Rectangle
from pretune.tasks._stand_ins import seen, seen_kept, sentence, stand_ins
from pretune.tasks._suggestion import Suggestion
from pretune.types import Batch, Layout, Row, StepOutput

if TYPE_CHECKING:
    from pretune.modalities import Modality

_LEAST_SIDE, _LEAST_SHARE = 2.0, 0.25
"""Pixels of a side, and the share of a box, that must be in a training view for the box to be learned; of others nothing is."""


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Finds the objects of an image."""

    primary: ClassVar[str] = "map"
    reads: ClassVar[TargetType] = BOXES
    layout: ClassVar[Layout] = "pyramid"
    modalities: ClassVar[frozenset[str]] = frozenset({"image"})
    selects: ClassVar[bool] = True
    batch: ClassVar[int | None] = 8
    prefers: ClassVar[tuple[str, ...]] = ("nanodet",)
    formats: ClassVar[tuple[str, ...]] = ("coco", "yolo", "images")
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")

    score: Annotated[float, Within(0, 1)] = 0.3
    """Score from which a found box is shown in tables and drawn; figures count all boxes."""

    @property
    def least_score(self) -> float:
        """The score from which a box is shown."""
        return self.score

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Space:
        """Return the classes of the training boxes."""
        seen = {name for row in rows if isinstance(row.target, Boxes) for name in row.target.names}
        return Space(classes=tuple(name for name in classes if name in seen))

    def encode(self, rows: Sequence[Row], space: Space, modality: Modality) -> Labels:
        """Return boxes in pixels of the file, classes by name, which are ignored, and where the file lies in the scored view."""
        index = {name: at for at, name in enumerate(space.classes)}
        boxes, classes, ignored, shown = [], [], [], []
        for row in rows:
            target = row.target
            assert isinstance(target, Boxes)
            boxes.append(torch.tensor([box.corners for box in target.boxes], dtype=torch.float32).reshape(-1, 4))
            classes.append(torch.tensor([index.get(box.name, 0) for box in target.boxes], dtype=torch.long))
            ignored.append(torch.tensor([int(box.ignored or box.name not in index) for box in target.boxes], dtype=torch.long))
            shown.append(torch.from_numpy(shown_in(modality, (target.width, target.height))))
        ragged = {"boxes": Ragged.of(boxes), "classes": Ragged.of(classes), "ignored": Ragged.of(ignored)}
        return Labels({**ragged, "shown": torch.stack(shown)}, located={"boxes": "box"})

    def truth(self, labels: Labels, space: Space) -> list[BoxTruth]:
        """Return each image's boxes in pixels of the file, and where the file lies in the view."""
        parts = [part.split() for name in ("boxes", "classes", "ignored") if isinstance(part := labels[name], Ragged)]
        shown = labels["shown"]
        assert isinstance(shown, torch.Tensor)
        return [
            BoxTruth(boxes=boxes.numpy(), classes=classes.numpy(), ignored=ignored.numpy().astype(bool), shown=matrix.numpy())
            for boxes, classes, ignored, matrix in zip(*parts, shown, strict=True)
        ]

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: Space) -> int:
        """One output a class, at each place."""
        return len(space.classes)

    def loss(self, space: Space, labels: Labels, settings: LossSettings) -> Any:
        """Quality focal loss of scores, GIoU and distribution focal loss of boxes, at the points that suit each box best."""
        return _loss

    def head(self, asked: Head | None) -> Head:
        """Return a detection head: that of the recipe, or, where it names none, one with sizes of its own choice.

        Raises:
            SettingError: another head is named.
        """
        if isinstance(asked, Detector):
            return asked
        if asked is not None:
            raise SettingError("task=detection takes head=detector. Leave head out.")
        return Detector()

    def suggestion(self, backbone: Backbone) -> Suggestion:
        """Return the head alone for a pretrained detector; else the whole network, as a fresh head on few images learns them by heart."""
        if backbone.detector is not None:
            return Suggestion(strategy="linear_probe", why="the network detects already; its head learns your classes")
        why = "a detection head from scratch learns few images by heart unless they are cropped and flipped and the network learns with it"
        return Suggestion(strategy="full", why=why, settings={"probe_first": False})

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return rates and epochs for a detector that was pretrained, or for a fresh head."""
        known = backbone.classifier is not None and backbone.detector is not None
        head = {"lr": 1e-3, "epochs": 12 if known else 30, "weight_decay": 0.05, "least_steps": 0 if known else 500}
        whole = {
            "lr": 2e-4 if known else 5e-4,
            "epochs": 12 if known else 30,
            "weight_decay": 0.05,
            "augment": "light",
            "least_steps": 0 if known else 320,
        }
        return head if strategy == "linear_probe" else whole

    def start(self, model: Model, backbone: Backbone, batches: Iterator[Batch], space: Space) -> str | None:
        """Begin as the pretrained detector, each class as those of its classes that find its training boxes best."""
        pretrained, head, known = backbone.classifier, model.head, backbone.classes
        labelled = ((batch.inputs, batch.labels) for batch in batches if batch.labels is not None)
        if known is None:
            return None
        if isinstance(pretrained, DenseHead) and isinstance(head, DetectorModule):
            shown = ((head.standardised(inputs.tensor), labels) for inputs, labels in labelled)
            sources = stand_ins(seen(pretrained.eval(), shown), space.classes, known)
            head.layers.take(pretrained, sources)
        elif isinstance(pretrained, LibraryDetector) and isinstance(head, LibraryDetectorModule):
            kept = ((maps(inputs.tensor, head.levels), labels) for inputs, labels in labelled)
            sources = stand_ins(seen_kept(pretrained.eval(), kept, len(known)), space.classes, known, most=1)
            head.layers.take(pretrained, sources)
        else:
            return None
        return sentence(space.classes, sources, known)

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains: a detector of another library descends losses of its own."""
        own = isinstance(model.head, LibraryDetectorModule)
        return LibraryDetectionLearner(model, loss) if own else super().learner(model, loss)

    def unlearned(self, model: Model, labels: Labels) -> str:
        """Return that losses of another library have no objects that do not count, where there are such."""
        ignored = labels["ignored"]
        assert isinstance(ignored, Ragged)
        count = int(ignored.values.sum())
        if not count or not isinstance(model.head, LibraryDetectorModule):
            return ""
        return (
            f"{count:,} training boxes do not count (marked as difficult, as crowds or to be ignored). The losses of this detector have no "
            "such objects, so it learns them as background; they are not counted in figures. head=detector on a convolutional backbone "
            "leaves them out of its loss."
        )

    def decode(self, outputs: Outputs, space: Space) -> list[NDArray[Any]]:
        """Return each image's boxes (K, 6): x1, y1, x2, y2 in pixels of the network's input, score, class."""
        assert isinstance(outputs, Ragged)
        return [one.numpy() for one in outputs.split()]

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: list[NDArray[Any]], truth: Sequence[BoxTruth], space: Space) -> Figures:
        """Return mAP, AP50, AP75 and average recall as COCO defines them, and AP of each class."""
        figures = evaluation.average_precision(_in_files(decoded, truth), truth, space.classes)
        shown = np.concatenate([one[one[:, 4] >= self.score, 5] for one in decoded]) if decoded else np.zeros(0)
        for at, row in enumerate(figures["per_class"].values()):
            row["found"] = int((shown == at).sum())
        return {**figures, "tiny_boxes": tiny(truth)}

    def intervals(
        self, decoded: list[NDArray[Any]], truth: Sequence[BoxTruth], space: Space, groups: NDArray[Any] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Return intervals over resampled images."""
        return evaluation.intervals(_in_files(decoded, truth), truth, space.classes, groups)

    def floors(self, train: Examples, held_out: Examples, space: Space, model: Any) -> dict[str, Figures]:
        """Return the mean box of training in every image, and the boxes of the training image that looks most alike."""
        guesses = {
            "mean_box": ("the mean box of the most frequent class in training, in every image", _box_baselines.mean_box(train, held_out)),
            "nearest": ("the boxes of the most similar training image (16 x 16 pixels)", _box_baselines.nearest(train, held_out)),
        }
        return {name: self.floor(what, guess, held_out, space) for name, (what, guess) in guesses.items()}

    # --- what people read --------------------------------------------------------------------

    def describe(
        self, decoded: list[NDArray[Any]], space: Space, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the boxes above the score as `prediction`, and all of them with class, score and corners in pixels of the file."""
        out = []
        for found, row in zip(decoded, rows, strict=True):
            size = size_of(row)
            assert modality is not None
            boxes = to_file(found, shown_in(modality, size), size)
            kept = [_box(one, space) for one in boxes if one[4] >= self.score]
            best = max((float(one[4]) for one in boxes), default=0.0)
            listed = [_described(one, space) for one in boxes]
            out.append({"prediction": written(kept), "confidence": best, "boxes": listed, "width": size[0], "height": size[1]})
        return out

    def shown(self, target: Any) -> Any:
        """Return the boxes that count as `prediction` has them."""
        return written([box for box in target.boxes if not box.ignored]) if isinstance(target, Boxes) else target

    def badness(self, row: Mapping[str, str]) -> float:
        """Return one less the F1 of the boxes at an overlap of one half."""
        return 1 - f1(read_back(row["prediction"]), read_back(row["target"]))

    def rectangles(self, row: Mapping[str, str]) -> list[Rectangle]:
        """Return the true boxes, those that were not found marked, and the found ones, right or wrong."""
        found, true = read_back(row["prediction"]), read_back(row["target"])
        size = (float(row["width"]), float(row["height"]))
        hits = paired(found, true)
        missed = [rectangle(box, size, "" if at in hits.values() else "missing") for at, box in enumerate(true)]
        return [*missed, *(rectangle(box, size, "right" if at in hits else "wrong") for at, box in enumerate(found))]

    def outlined(self, labels: Labels, space: Space, size: tuple[int, int]) -> list[Sequence[Rectangle]]:
        """Return the boxes that a training batch has, in pixels of the network's input."""
        parts = [part.split() for name in ("boxes", "classes") if isinstance(part := labels[name], Ragged)]
        whole = (float(size[1]), float(size[0]))
        out: list[Sequence[Rectangle]] = []
        for boxes, classes in zip(*parts, strict=True):
            seen_N4 = boxes.clamp(0, max(size)).tolist()
            out.append(
                [rectangle(Box(space.classes[name], *box), whole, "right") for box, name in zip(seen_N4, classes.tolist(), strict=True)]
            )
        return out


def _loss(dense: DenseOutputs, labels: Labels) -> torch.Tensor:
    """Return the loss of what is at each point against labels in pixels of the input."""
    return dense_loss(dense, _targets(labels, float((dense.points + dense.strides[:, None] / 2).max())))


def _targets(labels: Labels, size: float) -> list[DetectionTargets]:
    """Return what is to be found in each image of a batch of this height and width; of a box that a crop hides, what is left counts."""
    parts = [part.split() for name in ("boxes", "classes", "ignored") if isinstance(part := labels[name], Ragged)]
    targets = []
    for boxes_N4, classes_N, ignored_N in zip(*parts, strict=True):
        seen_N4 = boxes_N4.clamp(0, size)
        sides_N2 = seen_N4[:, 2:] - seen_N4[:, :2]
        share_N = sides_N2.prod(1) / (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(1).clamp(min=1e-6)
        there_N = (sides_N2.amin(1) >= _LEAST_SIDE) & (share_N >= _LEAST_SHARE)
        counts_N = there_N & (ignored_N == 0)
        targets.append(DetectionTargets(boxes=seen_N4[counts_N], classes=classes_N[counts_N], ignored=seen_N4[~counts_N]))
    return targets


class LibraryDetectionLearner(SupervisedLearner):
    """Descends the losses that a detector of another library computes itself."""

    def forward(self, batch: Batch) -> StepOutput:
        """Return the sum of the losses of a labelled batch, and each of them."""
        head, labels = self.model.head, batch.labels
        assert isinstance(head, LibraryDetectorModule)
        assert labels is not None, "a training batch needs labels"
        losses = head.losses(self.model.before_head(batch.inputs, self.start), _targets(labels, head.layers.size))
        total = torch.stack(list(losses.values())).sum()
        return StepOutput(loss=total, size=batch.size, logs={name: float(one.detach()) for name, one in losses.items()})


def _box(found: NDArray[Any], space: Space) -> Box:
    left, top, right, bottom = (float(value) for value in found[:4])
    return Box(space.classes[int(found[5])], left, top, right, bottom)


def _described(found: NDArray[Any], space: Space) -> dict[str, Any]:
    """Return a found box (6,) as JSON has it."""
    corners = [round(float(value), 1) for value in found[:4]]
    return {"class": space.classes[int(found[5])], "score": round(float(found[4]), 4), "box": corners}


def _in_files(decoded: Sequence[NDArray[Any]], truth: Sequence[BoxTruth]) -> list[NDArray[Any]]:
    return [to_file(found, one.shown) for found, one in zip(decoded, truth, strict=True)]
