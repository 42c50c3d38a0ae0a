"""The classical baseline as a model of its own: features of an example that need no network, and a linear model on them.

It is fitted for every run, to be compared with. Where the network is not better, it is what the run predicts with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import saved
from pretune.errors import WeightsError
from pretune.evaluation.linear import LinearModel
from pretune.modalities import BaselineFeatures, FitsBaselineFeatures, HasBaselineFeatures, Modality

if TYPE_CHECKING:
    from pretune.evaluation.classical import ClassicalModel
    from pretune.types import Row

FOLDER = "baseline"
"""Of a run folder."""
SETTINGS, WEIGHTS = f"{FOLDER}/model.json", f"{FOLDER}/model.safetensors"
_FORMAT = 1
"""Raised whenever the features of a modality come out differently."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The features that a modality gives of examples without a network."""

    words: str
    """What they are, for people."""
    item: Callable[[Row, NDArray[Any]], Any]
    """Returns what the features of an example are made of: the row's content, or what is stored of it."""
    features: Callable[[list[Any]], Any]
    """Returns features (M, D), dense or sparse, of what `item` returned."""
    floor: BaselineFeatures | None = None
    """What a modality that fits its features took from training examples."""

    @classmethod
    def of_arrays(cls, modality: HasBaselineFeatures) -> Description:
        """Return the features of what is stored of examples."""
        return cls(words=modality.baseline_words, item=lambda row, array: array, features=modality.baseline_features)

    @classmethod
    def of_content(cls, modality: FitsBaselineFeatures, floor: BaselineFeatures) -> Description:
        """Return the features, fitted to training examples, of what rows hold."""
        return cls(words=floor.words, item=lambda row, array: modality.content(row), features=floor.features, floor=floor)

    @classmethod
    def fitted(cls, modality: Modality, rows: Sequence[Row], arrays: Sequence[NDArray[Any]]) -> tuple[Description, Any] | None:
        """Return the description fitted on training examples, and their features (N, D); None where the modality has none.

        Args:
            modality: of the examples.
            rows: N training examples.
            arrays: what is stored of them.
        """
        if isinstance(modality, FitsBaselineFeatures):
            floor, features = modality.fit_baseline_features([modality.content(row) for row in rows])
            return cls.of_content(modality, floor), features
        if not isinstance(modality, HasBaselineFeatures):
            return None
        return cls.of_arrays(modality), modality.baseline_features(list(arrays))


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A description of examples and a linear model on it."""

    description: Description
    model: LinearModel
    what: str
    """What it is, for people."""
    thresholds: tuple[float, ...] = ()
    """Multilabel: probability above which each class is predicted."""

    @classmethod
    def of(cls, description: Description, fitted: ClassicalModel, *, mean: float, deviation: float) -> Baseline:
        """Return the baseline of a fitted classical model, which gives what a network's head gives.

        Args:
            description: of its features.
            fitted: the model.
            mean: of numeric targets, in the user's units; 0 elsewhere.
            deviation: of numeric targets; 1 elsewhere. A head gives (number - mean) / deviation.
        """
        model = fitted.fitted.model
        if fitted.link == "squared":
            weight, bias = model.weight / deviation, (model.bias.astype(float) - mean) / deviation
            model = replace(model, weight=weight.astype(np.float32), bias=bias.astype(np.float32))
        cut = () if fitted.thresholds is None else tuple(fitted.thresholds.tolist())
        return cls(description=description, model=model, what=fitted.what, thresholds=cut)

    def outputs(self, items: list[Any]) -> torch.Tensor:
        """Return raw outputs (M, C), as a network's head gives them, of what `Description.item` returned."""
        return torch.from_numpy(self.model.scores(self.description.features(items)))

    # --- saving ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what `tensors` does not hold, JSON-ready."""
        floor = self.description.floor
        return {
            "format": _FORMAT,
            "what": self.what,
            "features": {"words": self.description.words, **({} if floor is None else floor.settings())},
            "thresholds": list(self.thresholds),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, and what the features were fitted to."""
        floor, model = self.description.floor, self.model
        arrays = {"weight": model.weight, "bias": model.bias, **({} if model.mean is None else {"mean": model.mean})}
        arrays |= {} if floor is None else {f"features.{name}": array for name, array in floor.arrays().items()}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def read(run: Path, modality: Modality, outputs: int) -> Baseline:
    """Return the baseline that a run saved; the folder may come from anybody.

    Args:
        run: its folder.
        modality: of the run.
        outputs: C, of the run's targets.

    Raises:
        DataError: its settings are damaged, or of another version of pretune.
        WeightsError: its weights are damaged or do not fit.
    """
    path, weights = run / SETTINGS, run / WEIGHTS
    record = saved.json_of(path)
    features, thresholds = saved.field(record, "features", dict, path), saved.field(record, "thresholds", list, path)
    words = saved.field(features, "words", str, path)
    found = saved.tensors_of(weights)
    saved.refuse_not_finite(found, weights)
    arrays = {name: tensor.numpy() for name, tensor in found.items()}
    with saved.reading(path):
        description = _description(modality, features, arrays)
        if record.get("format") != _FORMAT or description.words != words:
            raise ValueError(f"it was made by another version of pretune, which described examples by {words}")
        if len(thresholds) not in (0, outputs):
            raise ValueError(f"there must be one threshold for each of the {outputs} classes, or none")
        cut = tuple(float(value) for value in thresholds)
    with saved.reading(weights, WeightsError):
        model = LinearModel(weight=arrays["weight"], bias=arrays["bias"], mean=arrays.get("mean"))
        width = len(model.weight) if description.floor is None else description.floor.width
        if (
            model.weight.shape != (width, outputs)
            or model.bias.shape != (outputs,)
            or (model.mean is not None and model.mean.shape != (width,))
        ):
            raise ValueError(f"its shapes do not fit {width} columns and {outputs} outputs")
    return Baseline(description=description, model=model, what=saved.field(record, "what", str, path), thresholds=cut)


def _description(modality: Modality, features: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Description:
    if isinstance(modality, FitsBaselineFeatures):
        own = {name.removeprefix("features."): array for name, array in arrays.items() if name.startswith("features.")}
        return Description.of_content(modality, modality.load_baseline_features(features, own))
    if not isinstance(modality, HasBaselineFeatures):
        raise ValueError(f"the modality {type(modality).__name__} has no features without a network")
    return Description.of_arrays(modality)
