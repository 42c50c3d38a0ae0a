"""The classical baseline as a model of its own: features of an example that need no network, and a linear model on them.

It is fitted for every run, to be compared with. Where the network is not better, it is what the run predicts with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import saved
from pretune.errors import WeightsError
from pretune.evaluation.linear import LinearModel
from pretune.modalities import BaselineFeatures, Modality

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
    """The classical features of a modality's examples, fitted on training examples."""

    modality: Modality
    floor: BaselineFeatures

    @classmethod
    def fitted(cls, modality: Modality, rows: Sequence[Row], arrays: Sequence[NDArray[Any]]) -> tuple[Description, Any] | None:
        """Return the description fitted on training examples, and their features (N, D); None where the modality has none.

        Args:
            modality: of the examples.
            rows: N training examples.
            arrays: what is stored of them.
        """
        if not modality.baseline_words:
            return None
        floor, features = modality.fit_baseline_features([modality.content(row, array) for row, array in zip(rows, arrays, strict=True)])
        return cls(modality=modality, floor=floor), features

    @property
    def words(self) -> str:
        """What the features are, for people."""
        return self.floor.words

    def item(self, row: Row, array: NDArray[Any]) -> Any:
        """Return what the features of an example are computed of."""
        return self.modality.content(row, array)

    def features(self, items: list[Any]) -> Any:
        """Return features (M, D), dense or sparse, of what `item` returned."""
        return self.floor.features(items)


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
            "features": {"words": floor.words, **floor.settings()},
            "thresholds": list(self.thresholds),
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, and what the features were fitted to."""
        floor, model = self.description.floor, self.model
        arrays = {"weight": model.weight, "bias": model.bias, **({} if model.mean is None else {"mean": model.mean})}
        arrays |= {f"features.{name}": array for name, array in floor.arrays().items()}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def read_baseline(run: Path, modality: Modality, outputs: int) -> Baseline:
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
        width = description.floor.width or len(model.weight)
        if (
            model.weight.shape != (width, outputs)
            or model.bias.shape != (outputs,)
            or (model.mean is not None and model.mean.shape != (width,))
        ):
            raise ValueError(f"its shapes do not fit {width} columns and {outputs} outputs")
    return Baseline(description=description, model=model, what=saved.field(record, "what", str, path), thresholds=cut)


def _description(modality: Modality, features: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Description:
    if not modality.baseline_words:
        raise ValueError(f"the modality {type(modality).__name__} has no features without a network")
    own = {name.removeprefix("features."): array for name, array in arrays.items() if name.startswith("features.")}
    return Description(modality=modality, floor=modality.load_baseline_features(features, own))
