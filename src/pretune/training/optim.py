"""Optimizers by name: what torch.optim has, over named parameter groups."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from pretune.config import Within
from pretune.training.rows import SCALE, RowUpdates
from pretune.types import NotUsed, ParamGroup
from pretune.unread import given, prefixed, refuse

Name = Literal["adamw", "sgd", "adam", "nadam", "radam", "adamax", "adagrad", "adadelta", "adafactor", "asgd", "rmsprop", "rprop", "muon"]


_BETAS: tuple[Name, ...] = ("adamw", "adam", "muon", "nadam", "radam", "adamax")
_READ: dict[str, tuple[Name, ...]] = {"momentum": ("sgd", "rmsprop", "muon"), "nesterov": ("sgd",), "beta1": _BETAS, "beta2": _BETAS}
"""Which optimizers have what only some have."""
_WITHOUT_DECAY: tuple[Name, ...] = ("rprop",)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Which optimizer, and what only some of them take; settings an optimizer lacks are refused."""

    name: Name = "adamw"
    """Class of torch.optim, in lower case; muon is AdamW with orthogonal steps for hidden matrices."""
    momentum: Annotated[float | None, Within(0, 1)] = None
    """SGD, RMSprop, Muon: momentum; auto is 0.9 for sgd, 0.95 for muon."""
    nesterov: bool = False
    """SGD: Nesterov momentum."""
    beta1: Annotated[float | None, Within(0, 1)] = None
    """Adam family: decay of the first moment; auto is torch's."""
    beta2: Annotated[float | None, Within(0, 1)] = None
    """Adam family: decay of the second moment; auto is torch's."""

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            from pretune.errors import SettingError

            raise SettingError("optim.nesterov needs optim.momentum above 0.")

    def unread(self) -> dict[str, NotUsed]:
        """Return the settings that this optimizer does not have; `weight_decay` is the recipe's."""
        out = {}
        for key, names in _READ.items():
            if self.name not in names:
                out[key] = NotUsed(f"optim={self.name}", f"choose optim={' or optim='.join(names[:3])}")
        return out

    @property
    def decays(self) -> bool:
        """Whether it takes a weight decay."""
        return self.name not in _WITHOUT_DECAY

    def build(
        self, groups: Sequence[ParamGroup], lr: float, weight_decay: float, embeddings: Sequence[torch.nn.Embedding] = ()
    ) -> torch.optim.Optimizer:
        """Return the optimizer over the groups, fused where torch has it.

        Args:
            groups: parameters that learn.
            lr: peak learning rate, before a group's own scale.
            weight_decay: of the groups that decay.
            embeddings: large tables among them, which AdamW updates by rows.

        Raises:
            SettingError: a setting was given that this optimizer does not have.
        """
        refuse([f"optim.{key}" for key in given(self)], prefixed("optim", self.unread()))
        if self.name == "muon":
            return self._muon(_tables(groups, lr, weight_decay), lr)
        cls = next(c for n, c in vars(torch.optim).items() if n.lower() == self.name and isinstance(c, type))
        takes = inspect.signature(cls).parameters
        options = self._options()
        if "fused" in takes:
            options["fused"] = True
        tables = _tables(groups, lr, weight_decay if self.decays else None)
        made = _eager(cls)
        if not embeddings or self.name != "adamw":
            return made(tables, lr=lr, **options)
        by_rows: Any = type("RowAdamW", (RowUpdates, made), {})
        optimizer = by_rows(tables, lr=lr, **options)
        optimizer.follow(embeddings)
        return optimizer

    def _muon(self, tables: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        from pretune.training.muon import Muon

        betas = (0.9 if self.beta1 is None else self.beta1, 0.95 if self.beta2 is None else self.beta2)
        momentum = 0.95 if self.momentum is None else self.momentum
        return Muon(tables, lr=lr, momentum=momentum, betas=betas, rest=_eager(torch.optim.AdamW))

    def _options(self) -> dict[str, object]:
        options: dict[str, object] = {}
        momentum = 0.9 if self.momentum is None and self.name == "sgd" else self.momentum
        if momentum is not None:
            options["momentum"] = momentum
        if self.nesterov:
            options["nesterov"] = True
        if self.beta1 is not None or self.beta2 is not None:
            options["betas"] = (self.beta1 if self.beta1 is not None else 0.9, self.beta2 if self.beta2 is not None else 0.999)
        return options


def _tables(groups: Sequence[ParamGroup], lr: float, weight_decay: float | None) -> list[dict[str, Any]]:
    """Return the groups as torch.optim takes them; without weight decay where the optimizer has none."""
    tables: list[dict[str, Any]] = []
    for group in groups:
        rate = lr * group.lr_scale
        params, names = [p for _, p in group], [n for n, _ in group]
        tables.append({"params": params, "lr": rate, "initial": rate, "names": names, "hidden": group.hidden})
        if weight_decay is not None:
            tables[-1]["weight_decay"] = weight_decay if group.decay else 0.0
    return tables


def _eager(cls: Any) -> Any:
    """Return the same optimizer without torch.compile's guards, whose first call imports the compiler (1 to 3 seconds)."""
    plain = {name: inspect.unwrap(getattr(cls, name)) for name in ("add_param_group", "zero_grad")}
    return type(cls.__name__, (cls,), {**plain, "step": torch.no_grad()(inspect.unwrap(cls.step))})


def clip(optimizer: torch.optim.Optimizer, most: float) -> None:
    """Let the next step use gradients scaled down to a norm of `most` in all, where it is larger.

    A fused optimizer divides while it reads them, which saves a pass over all gradients.
    """
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for p in params:
        if p.grad.is_sparse:
            p.grad = p.grad.coalesce()
    values = [p.grad.values() if p.grad.is_sparse else p.grad for p in params]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
    excess = (norm / most).clamp(min=1.0)
    if optimizer.defaults.get("fused"):
        setattr(optimizer, SCALE, excess)
    else:
        torch._foreach_mul_(values, 1 / excess)


def named_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    """Return the optimizer's state tensors by parameter name, so that they survive a change of groups."""
    out: dict[str, dict[str, torch.Tensor]] = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            state = optimizer.state.get(parameter)
            if state:
                out[name] = {k: torch.as_tensor(v) for k, v in state.items() if v is not None}
    return out


def load_named_state(optimizer: torch.optim.Optimizer, state: dict[str, dict[str, torch.Tensor]]) -> None:
    """Put back what `named_state` returned, for the parameters the optimizer has now."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in state:
                optimizer.state[parameter] = {k: v.clone() for k, v in state[name].items()}
