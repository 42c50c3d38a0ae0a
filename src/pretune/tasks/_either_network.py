"""Tasks that write with whichever network they are given: a language model, or an encoder with a decoder beside it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pretune.config import Within
from pretune.errors import SettingError
from pretune.evaluation.sums import Sums
from pretune.labels import Labels, Outputs
from pretune.models import Model, SupervisedLearner
from pretune.models.heads import Head
from pretune.models.learner import Loss
from pretune.tasks._base import Figures, LossSettings
from pretune.tasks._language_task import LanguageTask
from pretune.tasks._seq2seq import SequenceToSequence
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._writing import WritingTask
from pretune.types import Layout, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone

Network = Literal["language_model", "encoder_decoder"]


class OfWriter:
    """A class variable that is what the task of the network that writes has; of names, what both have while the network is not known."""

    def __set_name__(self, owner: type[EitherNetwork], name: str) -> None:
        self.name = name

    def __get__(self, task: EitherNetwork | None, owner: type[EitherNetwork]) -> Any:
        if task is not None and task.network is not None:
            return getattr(task.writer, self.name)
        first, second = (getattr(kind, self.name) for kind in (owner.by_language_model, owner.by_decoder))
        return tuple(one for one in first if one in second) if isinstance(first, tuple) else first


@dataclass(frozen=True, kw_only=True)
class EitherNetwork(WritingTask):
    """What does not depend on the kind of network is the member's; the rest is that of one of two tasks, which has the same settings.

    Required are `by_language_model` and `by_decoder`, and of the methods of a task those that are about its texts.
    """

    by_language_model: ClassVar[type[LanguageTask]]
    """The task where a language model writes: one network, which reads and writes on."""
    by_decoder: ClassVar[type[SequenceToSequence]]
    """The task where a decoder writes beside an encoder; it has an encoder by default (`backbone`)."""
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    prefers: ClassVar[tuple[str, ...]] = LanguageTask.prefers
    backbone: ClassVar[Any] = OfWriter()
    batch: ClassVar[Any] = OfWriter()
    unread: ClassVar[Any] = OfWriter()
    predict_settings: ClassVar[Any] = OfWriter()
    writes_together: ClassVar[Any] = OfWriter()

    network: Network | None = None
    """What writes: language_model, or encoder_decoder (an encoder with a decoder beside it); auto is what the backbone is."""
    beams: Annotated[int | None, Within(1, 64)] = None
    """Beam search keeps this many of the likeliest beginnings; 1 always takes the likeliest token; auto is what suits the network."""
    length_penalty: Annotated[float | None, Within(-5, 5)] = None
    """Beam search ranks texts by log-probability / length^length_penalty: higher values favour longer texts; auto is 1."""
    min_new_tokens: Annotated[int | None, Within(0)] = None
    """Tokens that are written at least; auto is 0."""
    max_new_tokens: Annotated[int | None, Within(1)] = None
    """Tokens that are written at most; auto depends on the data or the network."""
    temperature: Annotated[float, Within(0)] = 0.0
    """Sampling temperature; 0 takes the likeliest."""
    top_k: Annotated[int | None, Within(1)] = None
    """Sample among this many most likely tokens."""
    top_p: Annotated[float, Within(0, 1, above=True)] = 1.0
    """Nucleus sampling: sample among the most likely tokens that together have this probability (Holtzman et al. 2020)."""

    @property
    def has_decoder(self) -> bool:
        """Whether a decoder beside an encoder writes."""
        return self.network == "encoder_decoder"

    @functools.cached_property
    def writer(self) -> WritingTask:
        """The task of the network that writes, with these settings; what is auto here is as that task has it."""
        kind = self.by_decoder if self.has_decoder else self.by_language_model
        names = [field.name for field in dataclasses.fields(kind)]
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.temperature > 0 and self.beams is None:
            given["beams"] = 1
        return kind(**given)

    def on(self, backbone: Backbone) -> Self:
        """Return the task as this network learns it.

        Raises:
            SettingError: the network is not of the kind that is named.
        """
        found: Network = "language_model" if backbone.causal else "encoder_decoder"
        if self.network not in (None, found):
            is_what = "a language model, which has no encoder" if backbone.causal else "an encoder, and no language model"
            other = f"backbone={self.by_decoder.backbone}" if backbone.causal else "backbone=package:smollm2"
            raise SettingError(f"task.network={self.network}: {backbone.builder.id} is {is_what}. Name another, such as {other}.")
        return replace(self, network=found)

    # --- what the network's kind decides -----------------------------------------------------

    @property
    def monitored(self) -> str:
        """The loss of the references by which checkpoints are selected."""
        return self.writer.primary

    def suggestion(self, backbone: Backbone) -> Suggestion:
        """Return the strategy by default for pretrained weights."""
        return self.writer.suggestion(backbone)

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return the defaults of a strategy that are others for this network."""
        return self.writer.suggested(strategy, backbone)

    def encode(self, rows: Sequence[Row], space: Any, modality: Any) -> Labels:
        """Return the tokens that are learned."""
        return self.writer.encode(rows, space, modality)

    def truth(self, labels: Labels, space: Any) -> Any:
        """Return the tokens that are learned, as metrics take them."""
        return self.writer.truth(labels, space)

    def head(self, asked: Head | None) -> Head:
        """Return the head that scores tokens.

        Raises:
            SettingError: a head is named that this network cannot have.
        """
        return self.writer.head(asked)

    def outputs(self, space: Any) -> int:
        """Return the numbers of each token."""
        return self.writer.outputs(space)

    def loss(self, space: Any, labels: Labels, settings: LossSettings) -> Loss:
        """Return the loss of the tokens that are learned."""
        return self.writer.loss(space, labels, settings)

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return what the training loop trains."""
        return self.writer.learner(model, loss)

    def asked(self, views: Sequence[Any], rows: Sequence[Row] = (), space: Any = None, modality: Any = None) -> Labels | None:
        """Return the tokens by which figures of the network's outputs are computed."""
        return self.writer.asked(views, rows, space, modality)

    def decode(self, outputs: Outputs, space: Any) -> Any:
        """Return the nats of each token, and whether it was the likeliest."""
        return self.writer.decode(outputs, space)

    def metrics(self, decoded: Any, truth: Any, space: Any) -> Figures:
        """Return the metrics of the references' tokens."""
        return self.writer.metrics(decoded, truth, space)

    def sums(self, decoded: Any, truth: Any, space: Any) -> Sequence[Sums]:
        """Return the sums over each example that these metrics are functions of."""
        return self.writer.sums(decoded, truth, space)

    def describe(self, decoded: Any, space: Any, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return what is known of each example without writing."""
        return self.writer.describe(decoded, space, rows, modality)

    def write(self, model: Model, rows: Sequence[Row], modality: Any, *, seed: int = 0) -> list[str]:
        """Return what the network writes for each example."""
        return self.writer.write(model, rows, modality, seed=seed)
