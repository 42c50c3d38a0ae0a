"""The learner of direct preference optimisation, and the reference that it compares the network with.

Shapes: B pairs of answers, T positions, D channels, M real positions, N positions that are predicted.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretune.labels import Labels, Ragged
from pretune.models import Model, SupervisedLearner
from pretune.models.heads.vocabulary import VocabularyHead
from pretune.models.learner import Loss
from pretune.tasks._language import NONE
from pretune.types import Batch, Features, StepOutput


class PreferenceLearner(SupervisedLearner):
    """Descends -log sigmoid(beta * margin), the margin by which the network prefers the chosen answer more than the reference does.

    R. Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", 2023, equation 7.
    """

    def __init__(self, model: Model, loss: Loss, beta: float) -> None:
        super().__init__(model, loss)
        self.beta = beta
        self._reference = reference_of(model)

    def forward(self, batch: Batch) -> StepOutput:
        """Return the mean loss of a batch's pairs, the share of them that is ranked as people did, and the mean margin of rewards."""
        policy_B2 = self._likelihoods(self.model, batch)
        assert self._reference is not None, "a finished network is not trained: its reference is gone"
        with torch.no_grad(), self._reference.shown() as network:
            reference_B2 = self._likelihoods(network, batch)
        margins_B = reward_margins(torch.cat([policy_B2, reference_B2], 1), self.beta)
        logs = {"reward_accuracy": float(ranked(margins_B).mean()), "reward_margin": float(margins_B.detach().mean())}
        return StepOutput(loss=-F.logsigmoid(margins_B).mean(), size=batch.size, logs=logs)

    def predict(self, batch: Batch) -> Tensor:
        """Return the log-likelihoods of the chosen and the rejected answer, (B, 2), and where the reference is known its own, (B, 4)."""
        policy_B2 = self._likelihoods(self.model, batch)
        if self._reference is None:
            return policy_B2
        with self._reference.shown() as network:
            return torch.cat([policy_B2, self._likelihoods(network, batch)], 1)

    def _likelihoods(self, model: Model, batch: Batch) -> Tensor:
        """Return the log-likelihoods (B, 2) of both answers of each pair."""
        labels = batch.labels
        assert labels is not None, "a batch needs the answers"
        chosen_B = _likelihood(model, batch.inputs, self.start, _ragged(labels, "next"))
        ids = _ragged(labels, "rejected")
        mask_BT = torch.arange(int(ids.lengths.max()), device=ids.lengths.device) < ids.lengths[:, None]
        inputs = Features(tensor=ids.padded(0), layout="raw", mask=mask_BT)
        return torch.stack([chosen_B, _likelihood(model, inputs, 0, _ragged(labels, "rejected_next"))], 1)


def _likelihood(model: Model, inputs: Features, start: int, following: Ragged) -> Tensor:
    """Return the sum (B,) of the log-probabilities of the tokens of each text that are predicted."""
    head = model.head
    assert isinstance(head, VocabularyHead)
    x_BTD = model.before_head(inputs, start).tensor
    x_MD = x_BTD.flatten(0, 1) if inputs.mask is None else x_BTD[inputs.mask]
    asked = following.values != NONE
    nats_N = head.nats(x_MD[asked], following.values[asked])
    owner_M = torch.arange(len(following), device=x_MD.device).repeat_interleave(following.lengths)
    return -nats_N.new_zeros(len(following)).index_add(0, owner_M[asked], nats_N)


def _ragged(labels: Labels, name: str) -> Ragged:
    found = labels[name]
    assert isinstance(found, Ragged)
    return found


def reward_margins(likelihoods_N4: Tensor, beta: float) -> Tensor:
    """Return how much higher the reward of the chosen answer is than that of the rejected one, (N,).

    A reward is beta times the log of how much likelier an answer is than under the reference.

    Args:
        likelihoods_N4: log-likelihoods of the chosen and the rejected answer under the network, then under the reference.
        beta: how strongly the network is held to the reference.
    """
    chosen, rejected, chosen_before, rejected_before = likelihoods_N4.unbind(1)
    return beta * ((chosen - chosen_before) - (rejected - rejected_before))


def ranked(margins_N: Tensor) -> Tensor:
    """Return 1 for each pair whose chosen answer is ahead, 0 where it is behind, and one half for a tie, (N,)."""
    return (margins_N.detach().sign() + 1) / 2


# --- the reference -------------------------------------------------------------------------------


class Reference(ABC):
    """The network as it was before training."""

    @abstractmethod
    def shown(self) -> Any:
        """Return a context in which there is the reference, a Model in evaluation mode."""


def reference_of(model: Model) -> Reference | None:
    """Return the reference of a network that is about to be trained; None of a finished one, which nothing is trained of.

    Of a network with adapters it is the same network without them, so it takes no memory; else a copy.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return None
    adapters = _adapters(model)
    return WithoutAdapters(model, adapters) if adapters else FrozenCopy(model)


class FrozenCopy(Reference):
    """A copy of the network."""

    def __init__(self, model: Model) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)

    @contextmanager
    def shown(self) -> Generator[Model]:
        """Give the copy."""
        yield self._model


class WithoutAdapters(Reference):
    """The network with its low-rank updates switched off; where they are merged into its weights, with the weights before that."""

    def __init__(self, model: Model, adapters: list[Any]) -> None:
        self._model, self._adapters = model, adapters
        self._plain: list[Tensor] = []

    @contextmanager
    def shown(self) -> Generator[Model]:
        """Switch adapters and dropout off, and back on again."""
        modes = [(module, module.training) for module in self._model.modules()]
        undo = self._without_merged() if self._adapters[0].merged else self._without_scaled()
        self._model.eval()
        try:
            yield self._model
        finally:
            undo()
            for module, mode in modes:
                module.training = mode

    def _without_scaled(self) -> Any:
        kept = [dict(layer.scaling) for layer in self._adapters]
        for layer in self._adapters:
            layer.scaling.update(dict.fromkeys(layer.scaling, 0.0))

        def undo() -> None:
            for layer, scaling in zip(self._adapters, kept, strict=True):
                layer.scaling.update(scaling)

        return undo

    def _without_merged(self) -> Any:
        weights = [layer.get_base_layer().weight for layer in self._adapters]
        if not self._plain:
            with torch.inference_mode(False), torch.no_grad():
                for layer, weight in zip(self._adapters, weights, strict=True):
                    self._plain.append(weight.detach() - sum(layer.get_delta_weight(name) for name in layer.merged_adapters))
        merged = [weight.data for weight in weights]
        for weight, plain in zip(weights, self._plain, strict=True):
            weight.data = plain

        def undo() -> None:
            for weight, data in zip(weights, merged, strict=True):
                weight.data = data

        return undo


def _adapters(model: nn.Module) -> list[Any]:
    """Return the layers that have a low-rank update beside them."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return []  # without importing the library
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]
