"""The two models that a run may predict with, each from its files to raw outputs: the network and the classical baseline."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import backbones, saved
from pretune.backbones import inference_copy
from pretune.deploy import _saved_model
from pretune.deploy._saved_model import SavedModel
from pretune.errors import SettingError, WeightsError
from pretune.evaluation import baseline
from pretune.kernels import processor
from pretune.labels import Outputs
from pretune.modalities import Modality
from pretune.modalities.audio import Audio
from pretune.models import Model
from pretune.models.model import HEAD
from pretune.tasks import Space, WritingTask
from pretune.training.device import Device
from pretune.training.plan import Precision
from pretune.training.step import autocast
from pretune.types import Batch, Row


class Scorer(Protocol):
    """What turns decoded examples into raw outputs, or rendered ones into texts."""

    modality: Modality
    space: Space
    """With this model's thresholds."""

    def view(self, row: Row, array: NDArray[Any]) -> Any:
        """Return what the model takes of an example that was decoded to `array`."""
        ...

    def outputs(self, views: list[Any], rows: Sequence[Row] = ()) -> Outputs:
        """Return raw outputs of B examples; `rows` are the examples themselves."""
        ...

    def write(self, task: WritingTask, rows: Sequence[Row]) -> list[str]:
        """Return what the model writes for each of some rendered rows."""
        ...


def load(run: Path, saved_model: SavedModel, model: str | None, device: torch.device | None, trust: Collection[str]) -> Scorer:
    """Return the model of a run: the one that its figures are of, or the one that the person names.

    Raises:
        WeightsError: its weights are damaged or do not fit.
        SettingError: it has no such model, or its network is built by a module that is not trusted.
    """
    name = model or saved_model.model
    if name not in _saved_model.MODELS:
        raise SettingError(f"predictor must be one of {', '.join(_saved_model.MODELS)}; got {model!r}.")
    if name == "network":
        return NetworkScorer(run, saved_model, device or Device(device=torch.device("cpu")).device, trust)
    if model is not None and not (run / baseline.SETTINGS).exists():
        raise SettingError(
            f"{run} has no baseline: it is saved only where the network is not clearly better, or with predictor=baseline when training. "
            "Leave predictor out."
        )
    return BaselineScorer(run, saved_model) if saved_model.task.own_baseline is None else OwnScorer(run, saved_model)


class NetworkScorer:
    """The backbone and head of a run, computed as they were when it was scored."""

    def __init__(self, run: Path, saved_model: SavedModel, device: torch.device, trust: Collection[str]) -> None:
        self.run, self.device, self.space = run, device, saved_model.space
        with backbones.trusting(trust):
            backbone = backbones.read(run / "backbone")
        self.modality: Modality = backbone.modality
        if isinstance(self.modality, Audio) and self.modality.seconds is None:
            raise saved.damaged(run / "backbone" / "builder.json", "its modality has no seconds, the length of the network's window")
        path = run / _saved_model.MODEL
        with backbones.bounded(saved_model.weights), saved.reading(path):
            saved_model = saved_model
            model = Model(
                backbone,
                saved_model.head,
                saved_model.task.outputs(saved_model.space),
                saved_model.pooling,
                saved_model.task.layout,
                saved_model.width,
            )
        if not 0 <= saved_model.frozen < len(model.names):
            raise saved.damaged(path, f"it counts {saved_model.frozen} frozen stages of {len(model.names)}")
        head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"stages.{HEAD}.")}
        saved.load_exactly(head, saved_model.weights)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self._task, self._learner = saved_model.task, saved_model.task.learner(self.model, _untrained)
        self._learner.start = saved_model.frozen
        self._rest, forward = _here([saved_model.precision, saved_model.forward], self.device)
        self._start = saved_model.frozen
        names = model.names[: self._start]
        self._prefix = inference_copy([model.stages[n] for n in names], forward.bfloat16).to(self.device) if names else None

    def view(self, row: Row, array: NDArray[Any]) -> NDArray[Any]:
        """Return the deterministic view of an example."""
        return np.asarray(self.modality.view(array, None, None))

    @torch.inference_mode()
    def outputs(self, views: list[Any], rows: Sequence[Row] = ()) -> Outputs:
        """Return raw outputs, computed as they were when the run was scored.

        Raises:
            WeightsError: the preprocessing gives what the network cannot take.
        """
        features = self.modality.collate(views)
        try:
            if self._prefix is not None:
                features = self._prefix(features)
                features = replace(features, tensor=features.tensor.float())  # as what learned took them from the cache
            with autocast(self._rest, self.device):
                batch = Batch(
                    inputs=features, labels=self._task.asked(views, rows, self.space, self.modality), index=torch.arange(len(views))
                )
                return self._learner.predict(batch.to(self.device)).float().cpu()
        except (IndexError, RuntimeError) as error:
            first = (str(error).splitlines() or [""])[0][:160]
            raise WeightsError(f"{self.run}: its network cannot compute what its preprocessing gives: {first}") from error

    def write(self, task: WritingTask, rows: Sequence[Row]) -> list[str]:
        """Return what the network writes for each row, in the precision in which the run wrote."""
        with autocast(self._rest, self.device):
            return task.write(self.model, rows, self.modality)


class OwnScorer:
    """The own baseline of a run's task; the network's weights are not read."""

    def __init__(self, run: Path, saved_model: SavedModel) -> None:
        self.modality: Modality = backbones.read_modality(run / "backbone")
        self.space, kind = saved_model.space, saved_model.task.own_baseline
        assert kind is not None
        path, weights = run / baseline.SETTINGS, run / baseline.WEIGHTS
        settings = saved.field(saved.json_of(path), "own", dict, path)
        found = saved.tensors_of(weights)
        saved.refuse_not_finite(found, weights)
        with saved.reading(path):
            self.own = kind.read(settings, {name: tensor.numpy() for name, tensor in found.items()}, self.space, self.modality)

    def view(self, row: Row, array: NDArray[Any]) -> Any:
        """Return the example itself."""
        return row

    def outputs(self, views: list[Any], rows: Sequence[Row] = ()) -> Outputs:
        """Return raw outputs, which a model without a network has none of."""
        raise TypeError("a task's own baseline has no raw outputs")

    def write(self, task: WritingTask, rows: Sequence[Row]) -> list[str]:
        """Return what it writes for each row."""
        return list(self.own.predict(rows))


class BaselineScorer:
    """The classical baseline of a run; the network's weights are not read."""

    def __init__(self, run: Path, saved_model: SavedModel) -> None:
        self.modality: Modality = backbones.read_modality(run / "backbone")
        self.baseline = baseline.read_baseline(run, self.modality, saved_model.task.outputs(saved_model.space))
        self.space = saved_model.task.thresholded(saved_model.space, self.baseline.thresholds)

    def view(self, row: Row, array: NDArray[Any]) -> Any:
        """Return what the features of an example are made of."""
        return self.baseline.description.item(row, array)

    def outputs(self, views: list[Any], rows: Sequence[Row] = ()) -> Outputs:
        """Return raw outputs (B, C)."""
        return self.baseline.outputs(views)

    def write(self, task: WritingTask, rows: Sequence[Row]) -> list[str]:
        """Return texts, which a linear model does not write."""
        raise TypeError("a linear model writes no texts")


def _untrained(outputs: torch.Tensor, targets: Any) -> torch.Tensor:
    raise TypeError("a saved run is not trained")


def _here(precisions: list[Precision], device: torch.device) -> list[Precision]:
    """Return a run's precisions as this machine can compute them: float32 where bfloat16 is emulated, tens of times slower."""
    if not any(precision.bfloat16 for precision in precisions) or processor.has_native_bfloat16(device):
        return precisions
    logging.getLogger("pretune").warning(
        "This run was computed in bfloat16, which this processor only emulates. Predicting in float32; probabilities may differ slightly."
    )
    return [replace(precision, bfloat16=False) for precision in precisions]
