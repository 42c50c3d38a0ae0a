"""Train low-rank updates of linear and convolution weights (LoRA), through peft."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from pretune.config import Within
from pretune.errors import SettingError
from pretune.strategies._base import PROBE, Defaults, Phase, Strategy, groups
from pretune.types import ParamGroup

if TYPE_CHECKING:
    from pretune.models.model import Model


@dataclass(frozen=True, kw_only=True)
class LoRA(Strategy):
    """Frozen weights plus trained low-rank updates (Hu et al. 2021)."""

    defaults: ClassVar[Defaults] = Defaults(lr=1e-3, epochs=8, weight_decay=0.01, augment="light")
    by_modality: ClassVar[Mapping[str, Defaults]] = {"text": Defaults(lr=1e-3, epochs=4, weight_decay=0.01, augment="none")}
    rank: Annotated[int, Within(1)] = 8
    """Rank of each update."""
    alpha: Annotated[int, Within(1)] = 16
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Within(0, 0.9)] = 0.0
    """Dropout before the update."""
    last: Annotated[int | None, Within(0)] = None
    """Adapt only the last stages, so that features of the earlier ones are computed once; auto adapts all. 0 is for a pretrained decoder
    alone."""

    def phases(self, stages: int) -> tuple[Phase, ...]:
        """A probe, then the adapters with the head."""
        if self.last is not None and self.last > stages:
            raise SettingError(f"strategy.last is {self.last}, but this backbone has {stages} stages.")
        return (PROBE, Phase(name="lora", open=self.last, share=1.0))

    def prepare(self, model: Model) -> None:
        """Put an adapter on every linear layer and ungrouped convolution of the adapted stages.

        Raises:
            SettingError: there is no such layer in them.
        """
        from peft import LoraConfig, inject_adapter_in_model  # heavy: seconds to import

        model.freeze_norms = True
        adapted = 0
        for stage in self._adapted(model):
            targets = [key for key, module in stage.named_modules() if key and _adaptable(module)]
            if targets:
                settings = LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets)
                inject_adapter_in_model(settings, stage)
                adapted += len(targets)
        if not adapted:
            where = "this backbone; use" if self.last is None else f"the last {self.last} stages; raise strategy.last, or use"
            raise SettingError(f"strategy=lora found no linear layer or convolution to adapt in {where} strategy=partial.")

    def _adapted(self, model: Model) -> list[nn.Module]:
        """Return what gets adapters: stages of the backbone, and a head that was pretrained with it."""
        names = model.body[len(model.body) - self.last :] if self.last is not None else model.body
        return [*(model.stages[name] for name in names), *([model.head] if model.head.pretrained else [])]

    def learns(self, stage: nn.Module) -> bool:
        """Return whether there is something to adapt in a stage."""
        return any(_adaptable(module) for key, module in stage.named_modules() if key)

    def finish(self, model: Model) -> None:
        """Merge the updates into the weights: what is saved and served is a plain network."""
        for name in model.body:
            _merge(model.stages[name])
        _merge(model.head)

    def apply(self, model: Model, phase: Phase) -> tuple[ParamGroup, ...]:
        """Let the head learn, of a pretrained one its adapters, and those of stages unless the phase opens nothing."""
        model.requires_grad_(False)
        for key, parameter in model.head.named_parameters():
            parameter.requires_grad_(not model.head.pretrained or "lora_" in key)
        out: list[ParamGroup] = []
        for name in model.body if phase.open != 0 else []:
            for key, parameter in model.stages[name].named_parameters():
                parameter.requires_grad_("lora_" in key)
            out += groups(name, model.stages[name], f"stages.{name}", hidden=True)
        return (*out, *groups("head", model.head, "stages.head"))


def _adaptable(module: nn.Module) -> bool:
    """Return whether an update can be learned beside a layer and merged into it: peft builds it from the layer's own class."""
    if isinstance(module, nn.Linear):  # nn.MultiheadAttention reads the weight of its own kind and never calls the layer
        return type(module).forward is nn.Linear.forward and not isinstance(module, NonDynamicallyQuantizableLinear)
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or module.groups != 1 or set(module.dilation) != {1} or module.padding_mode != "zeros":
        return False
    return _takes_updates(type(module), len(module.kernel_size))


@functools.cache
def _takes_updates(kind: type[nn.Conv1d | nn.Conv2d], dims: int) -> bool:
    """Return whether a kind of convolution is built like torch's own, and gives twice as much with twice the weights.

    Those that normalise their weights do not: what is learned beside them could not be merged.
    """
    none, one, three = (cast("Any", (size,) * dims) for size in (0, 1, 3))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            layer = kind(2, 3, three, one, none, bias=False)  # as peft builds the first factor, and the second
            kind(2, 3, one, one, groups=1, bias=False)
            x = torch.ones(1, 2, *(5,) * dims)
            once = layer(x)
            layer.weight.mul_(2)
            return bool(torch.allclose(layer(x), 2 * once, atol=1e-6))
    except (TypeError, ValueError, RuntimeError):
        return False


def _merge(module: nn.Module) -> None:
    """Replace every adapted layer below `module` by its base layer with the update added."""
    from peft.tuners.lora import LoraLayer

    for name, child in list(module.named_children()):
        if isinstance(child, LoraLayer):
            child.merge()
            setattr(module, name, child.get_base_layer())
        else:
            _merge(child)
