"""What a task is: everything that depends on what is predicted, from a label column to what a report shows.

A task owns both ends. Before the network: the type of its targets, the space it fits on the training examples, their encoding as
`Labels`. After it: the head's layout and outputs, the loss, predictions, metrics with intervals and baselines, what a person reads.
Nothing else knows a task's name, so a task of another package is one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pretune import registry
from pretune.errors import DataError
from pretune.evaluation import metrics
from pretune.evaluation.intervals import of_sums
from pretune.evaluation.links import LinkName
from pretune.evaluation.sums import Sums
from pretune.registry import Component
from pretune.sources.target_type import ONE_CLASS, TargetType
from pretune.tasks._marked import Line, Rectangle
from pretune.tasks._own_baseline import OwnBaseline
from pretune.tasks._space import Space
from pretune.tasks._suggestion import Suggestion
from pretune.types import Finding, Layout, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretune.backbones import Backbone
    from pretune.data.together import Together
    from pretune.evaluation.classical import ClassicalModel
    from pretune.labels import Labels, Outputs
    from pretune.modalities import Modality
    from pretune.models import Model, SupervisedLearner
    from pretune.models.heads import Head, HeadModule
    from pretune.models.learner import Loss
    from pretune.sources.table import Table
    from pretune.types import Batch

Figures = dict[str, Any]
"""Metrics by name: numbers, None where a metric does not exist, `per_class` tables, a `confusion` matrix."""


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Settings of a task's loss."""

    label_smoothing: float = 0.0
    class_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Some labelled examples, as baselines take them."""

    rows: Sequence[Row]
    truth: Any
    """What `Task.truth` returns for them."""
    nearest: Callable[[Examples], Sequence[int]] | None = None
    """Returns for each of some others the place of the most similar one among these; None without classical features."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Task(Component):
    """One kind of prediction; members are frozen keyword-only dataclasses named like their file.

    Required are `primary`, `fit`, `encode`, `outputs`, `loss`, `decode`, `metrics`, `describe`; the other methods have defaults.
    """

    primary: ClassVar[str]
    """Name of the metric that leads reports and selects checkpoints; names that end in _error, _loss or _distance are minimised."""
    reads: ClassVar[TargetType] = ONE_CLASS
    """How labels are read, and what data are split by."""
    space: ClassVar[type[Space]] = Space
    """What `fit` returns."""
    layout: ClassVar[Layout] = "pooled"
    """The features that the head takes: pooled (one vector an example), sequence (one each position), map (one each place) or pyramid
    (maps of several sizes)."""
    modalities: ClassVar[frozenset[str]] = frozenset()
    """The modalities that it is for; empty for all."""
    unread: ClassVar[tuple[str, ...]] = ()
    """The fields of `LossSettings` that its loss does not read; who sets them is refused."""
    suggests: ClassVar[Suggestion] = Suggestion(strategy="linear_probe", why="one pass over the data, and hard to beat with few labels")
    """The strategy by default where weights are pretrained."""
    whole: ClassVar[bool] = False
    """Whether labels are about all of an example, so that nothing of it may be cut off: of a clip, every word that is said. Examples that
    are longer than the network's window are not trained on, and are predicted in pieces, which `merged` joins."""
    linear: ClassVar[LinkName | None] = None
    """The loss of the linear model whose scores are this task's outputs: a linear head can then be solved. None where there is none.
    A task that redefines outputs, loss or decoding of another has none, unless it says so."""
    baseline: ClassVar[LinkName | None] = None
    """The loss of the linear model on classical features that a score is compared with; `floors` measures it. Where it is `linear` too, a
    run whose network is no better predicts with it."""
    own_baseline: ClassVar[type[OwnBaseline] | None] = None
    """A model of the task's own without a network, in place of `baseline`: where it is better on examples that choose, it is the run's."""
    numbers: ClassVar[bool] = False
    """Whether a prediction is a number, which a report plots beside the true one."""
    selects: ClassVar[bool] = False
    """Whether some training examples are always set aside to choose the best weights by, those at the start among them."""
    compares: ClassVar[bool] = False
    """Whether examples are scored against each other: samples of them are whole groups."""
    batch: ClassVar[int | None] = None
    """Examples of a training step by default; None leaves it to the runner."""
    backbone: ClassVar[str | None] = None
    """The network by default, as `backbone=` names it; None takes the best package that is installed."""
    prefers: ClassVar[tuple[str, ...]] = ()
    """Names of package backbones that suit it best, where they are installed; else the modality's default is taken."""
    formats: ClassVar[tuple[str, ...]] = ()
    """Formats other than tables that predictions can be written in."""
    measures_start: ClassVar[bool] = False
    """Whether a pretrained network predicts before it is trained: its figures are then measured too, and stand beside the score."""
    untuned: ClassVar[str] = ""
    """What holds where there are no such examples: 'thresholds stay at 0.5'."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "linear" not in vars(cls) and vars(cls).keys() & {"outputs", "loss", "decode", "encode", "layout"}:
            cls.linear = None

    @property
    def higher_is_better(self) -> bool:
        """Whether the leading metric is maximised."""
        return not metrics.is_error(self.primary)

    @property
    def monitored(self) -> str:
        """Name of the metric of a network's outputs that checkpoints are selected by: the leading one where that is one of outputs."""
        return self.primary

    @property
    def least_score(self) -> float:
        """The score from which a prediction of several parts shows one of them."""
        return 0.0

    @property
    def tunes(self) -> bool:
        """Whether `tuned` chooses something after training, on examples that are not the score's."""
        return False

    @property
    def target_type(self) -> TargetType:
        """How labels are read, under this task's name."""
        return replace(self.reads, task=registry.name_of(self))

    def suited(self, target: TargetType) -> Task:
        """Return the task with what the data decide of it, where a setting leaves that open; saved with the run."""
        return self

    def on(self, backbone: Backbone) -> Task:
        """Return the task as this network learns it, where networks of several kinds can; SettingError where this one cannot."""
        return self

    # --- targets -----------------------------------------------------------------------------

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Any:
        """Put the rows of a table into the form in which the network reads them, and return the preprocessing with what that took.

        Args:
            table: its rows, ledger and messages may change.
            modality: the preprocessing of the weights.
            held_out: share of the examples that is to be held out, where examples are parts of one whole and the data have no splits.
            answered: whether rows have targets; False for what is to be predicted, which keeps its rows.
        """
        return modality

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Space:
        """Return the space of the training rows.

        Args:
            rows: of the training split.
            classes: all class names of the data, in natural order; empty for numbers.
        """
        raise TypeError(f"{type(self).__name__} must define fit(rows, classes) -> Space")

    def encode(self, rows: Sequence[Row], space: Any, modality: Modality) -> Labels:
        """Return the rows' labels, aligned by class *name*; a name that the space does not have counts for nothing.

        Args:
            rows: labelled rows.
            space: what `fit` returned.
            modality: the preprocessing, for labels that belong to positions of its sequences.
        """
        raise TypeError(f"{type(self).__name__} must define encode(rows, space, modality) -> Labels")

    def truth(self, labels: Labels, space: Any) -> Any:
        """Return labels as metrics take them."""
        return labels.only.numpy()

    def findings(self, rows: Sequence[Row], space: Any) -> list[Finding]:
        """Return what the labels of rows of all splits show: what cannot be learned, what puts the score in doubt."""
        return []

    def needed(self, labels: Labels, space: Any) -> NDArray[Any] | None:
        """Return how many outputs of a sequence each example needs for its labels, (N,); None where any number does."""
        return None

    def timed(self, space: Any, rate: float) -> Space:
        """Return the space with the number of outputs that there are a second; called where `needed` returns something."""
        return space

    def pieces(self, row: Row, modality: Modality) -> list[Row]:
        """Return an example in pieces that the network can be shown whole, in order; the row itself where it is not cut."""
        return [row]

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: Any) -> int:
        """Return how many outputs the head has, for each example or for each position."""
        raise TypeError(f"{type(self).__name__} must define outputs(space) -> int")

    def loss(self, space: Any, labels: Labels, settings: LossSettings) -> Loss:
        """Return the loss (outputs, batch targets) -> scalar, given the labels of all training examples."""
        raise TypeError(f"{type(self).__name__} must define loss(space, labels, settings) -> Loss")

    def head(self, asked: Head | None) -> Head:
        """Return the head that is built, given that of the recipe: None where it names none.

        Raises:
            SettingError: the task cannot have it.
        """
        return asked or registry.load("heads", "linear")()

    def head_for(self, asked: Head | None, backbone: Backbone, space: Any) -> tuple[Head, str]:
        """Return the head that is built on a network, given as to `head`, and a sentence on a pretrained one that is not used, or ''.

        Raises:
            SettingError: the task, or the network, cannot have it.
        """
        return self.head(asked), ""

    def measures(self, head: HeadModule) -> bool:
        """Return whether a pretrained network predicts with this head before it is trained."""
        return self.measures_start

    def suggestion(self, backbone: Backbone) -> Suggestion:
        """Return the strategy by default for pretrained weights."""
        return self.suggests

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return the defaults of a strategy that are others for this task: optim, lr, epochs, weight_decay, augment, least_steps."""
        return {}

    def start(self, model: Model, backbone: Backbone, batches: Iterator[Batch], space: Any) -> str | None:
        """Let the head begin with what the pretrained network knows of the targets; return a sentence on it or '', None where it is new.

        Args:
            model: its head is changed.
            backbone: with the classifier that it was pretrained with.
            batches: training examples as the head takes them, with labels; computed as they are asked for.
            space: what `fit` returned.
        """
        return None

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains."""
        from pretune.models import SupervisedLearner

        return SupervisedLearner(model, loss)

    def unlearned(self, model: Model, labels: Labels) -> str:
        """Return a sentence on what of the training labels this network takes otherwise than they say; '' where nothing is."""
        return ""

    def asked(self, views: Sequence[Any], rows: Sequence[Row] = (), space: Any = None, modality: Any = None) -> Labels | None:
        """Return what the learner's `predict` needs of examples besides their `views`: of their rows, with targets where they have some."""
        return None

    def together(self, labels: Labels) -> Together | None:
        """Return which training examples come in one batch, given their labels; None where each stands for itself."""
        return None

    def decode(self, outputs: Outputs, space: Any) -> Any:
        """Return what metrics read of raw outputs: probabilities (N, C), numbers (N,), one array an example."""
        raise TypeError(f"{type(self).__name__} must define decode(outputs, space)")

    def merged(self, decoded: Any, spans: Sequence[Sequence[tuple[int, int]]], space: Any, modality: Any) -> Any:
        """Return what is predicted of whole examples, given what was `decoded` of all their pieces in order; called where `whole`.

        `spans` are begin and end of the pieces of each example, in positions of its decoded array.
        """
        raise TypeError(
            f"{type(self).__name__} must define merged(decoded, spans, space, modality), as its labels are about whole examples"
        )

    def scale(self, space: Any) -> tuple[float, float]:
        """Return centre and spread by which numbers are standardised for the network."""
        return 0.0, 1.0

    def thresholds(self, space: Any) -> tuple[float, ...]:
        """Return the probability from which each class is predicted; () where a task has no such."""
        return ()

    def thresholded(self, space: Any, thresholds: tuple[float, ...]) -> Space:
        """Return the space with other thresholds, those of another model; the same where a task has none."""
        return space

    def tuned(self, decoded: Any, truth: Any, space: Any) -> tuple[Space, str]:
        """Return the space with what is chosen on these examples, and a sentence on it; called where `tunes`."""
        raise TypeError(f"{type(self).__name__} must define tuned(decoded, truth, space) -> (Space, str)")

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: Any, truth: Any, space: Any) -> Figures:
        """Return all metrics of labelled examples, the leading one among them."""
        raise TypeError(f"{type(self).__name__} must define metrics(decoded, truth, space)")

    def sums(self, decoded: Any, truth: Any, space: Any) -> Sequence[Sums]:
        """Return sums over each example that metrics are functions of: what intervals are made of."""
        return ()

    def intervals(self, decoded: Any, truth: Any, space: Any, groups: NDArray[Any] | None = None) -> dict[str, tuple[float, float]]:
        """Return 95 % confidence intervals by metric; examples of one group are resampled together."""
        return of_sums(self.sums(decoded, truth, space), groups)

    def floors(self, train: Examples, held_out: Examples, space: Any, model: tuple[ClassicalModel, Any] | None) -> dict[str, Figures]:
        """Return baselines by name, each {"what": sentence, metric: value …} on the held-out examples.

        Args:
            train: what baselines are fitted on.
            held_out: the score's examples.
            space: what `fit` returned.
            model: the linear model that `baseline` names, fitted on classical features of the training examples, and its probabilities
                or numbers for the held-out ones; None where the modality has no such features.
        """
        return {}

    def floor(self, what: str, decoded: Any, held_out: Examples, space: Any) -> Figures:
        """Return one baseline: what it is, and its metrics."""
        return {"what": what, **metrics.scalars(self.metrics(decoded, held_out.truth, space))}

    # --- what people read --------------------------------------------------------------------

    def describe(self, decoded: Any, space: Any, rows: Sequence[Row] = (), modality: Modality | None = None) -> list[dict[str, Any]]:
        """Return, for each example, the fields of its row in JSON: `prediction`, and where there are such `confidence`, `probabilities`.

        Args:
            decoded: of N examples.
            space: what `fit` returned.
            rows: the N examples themselves, for predictions that belong to parts of them.
            modality: the preprocessing.
        """
        raise TypeError(f"{type(self).__name__} must define describe(decoded, space, rows, modality)")

    def rejoined(self, row: Row, modality: Modality, pieces: Sequence[Row], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return what `describe` says of several `pieces` as the prediction of the whole row."""
        raise TypeError(f"{type(self).__name__} must define rejoined(row, modality, pieces, answers), as it cuts rows into pieces")

    def shown(self, target: Any) -> Any:
        """Return a row's target as its column in predictions.csv holds it, in the form of `prediction`."""
        return "|".join(target) if isinstance(target, tuple) else target

    def badness(self, row: Mapping[str, str]) -> float:
        """Return how wrong a row of predictions.csv is, 0 where it is right: what the worst mistakes are sorted by."""
        if row["prediction"] == row["target"]:
            return 0.0
        return max(float(row.get("confidence") or 0.0), 1e-9)

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return how the report shows a prediction beside its target, line by line; empty where the two names say all.

        Args:
            row: of predictions.csv.
            text: of the example, where the run kept it.
        """
        return ()

    def rectangles(self, row: Mapping[str, str]) -> Sequence[Rectangle]:
        """Return the boxes that the report draws into the image of an example, given its row of predictions.csv."""
        return ()

    def outlined(self, labels: Labels, space: Any, size: tuple[int, int]) -> list[Sequence[Rectangle]]:
        """Return the boxes that are drawn into each image of a training batch of this height and width."""
        return [()] * labels.size

    def captions(self, labels: Labels, space: Any) -> list[str]:
        """Return what stands under each example of a training batch; labels may be mixed."""
        return [""] * labels.size


def infer(target: TargetType | None) -> Task:
    """Return the task that takes a table's targets.

    Raises:
        DataError: the data have no labels.
    """
    if target is None:
        raise DataError(
            "the data have no labels, so there is nothing to fine-tune for. Give class folders or a manifest with a label column."
        )
    return registry.load("tasks", target.task)()


def named(name: str) -> Task:
    """Return the task of this name, as it is without settings; a plain one where no such task is installed here."""
    return registry.load("tasks", name)() if name in registry.names("tasks") else Task()
