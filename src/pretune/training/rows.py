"""AdamW that touches only those rows of a large table that a batch touches; mathematically it stays AdamW.

A batch of texts looks up some hundred rows of an embedding of tens of thousands, but AdamW moves every row at every
step: without a gradient its moments shrink, what is left of its momentum carries it on, and weight decay pulls at it.
For an idle row these steps can be added up: starting from moments m and v after step a, the steps a+1 … b come to

    p ← p · W − m · Σ_i w_i / (u_i √v + ε),     w_i = lr_i β1^(i-a) / (1 - β1^i) · Π_{j>i} (1 - lr_j λ),
    W = Π (1 - lr_i λ),                          u_i = √(β2^(i-a) / (1 - β2^i))

so a row is brought up to date when it is looked up next, or when all weights are wanted (`settle`). The sum
depends on the row through √v alone; it is taken as m · S / (U √v + ε) with S = Σ w_i and U = S / Σ (w_i / u_i), which is exact
where ε or √v is negligible beside the other and of second order in the spread of u_i (per cents) between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

FEWEST = 1 << 21
"""Elements from which a table is updated by rows."""
SCALE = "grad_scale"
"""Attribute of an optimizer whose value torch's fused steps divide gradients by."""
_NEGLIGIBLE = 1e-20
"""What is left of a momentum after which an idle row stands still, but for weight decay."""
_CHUNK = 4096
"""Rows that `settle` brings up to date at once."""


class RowUpdates(torch.optim.AdamW):
    """Makes AdamW update followed embedding tables by rows, and everything else as ever.

    State of a table, besides AdamW's own: `last` (V,), the step each row stands at, and `path` (3, steps + 1), for every
    step a row may stand at the sums S, Σ w/u and the product W up to now.
    """

    _followed: Sequence[tuple[nn.Embedding, RemovableHandle]] = ()

    def follow(self, tables: Sequence[nn.Embedding]) -> None:
        """Let tables yield sparse gradients, and bring their rows up to date before training looks them up."""
        self._followed = [(table, table.register_forward_pre_hook(self._before)) for table in tables]
        for table in tables:
            table.sparse = True

    def release(self) -> None:
        """Let the tables be what they were."""
        for table, hook in self._followed:
            table.sparse = False
            hook.remove()

    def _before(self, table: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(table, nn.Embedding)
        if table.training and table.weight in self.state:
            self._catch_up(table.weight, inputs[0].unique())

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        tables = [(group, p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None and p.grad.is_sparse]
        for _, p, _ in tables:
            p.grad = None
        loss = super().step(closure)
        for group, p, gradient in tables:
            assert gradient is not None
            self._step_rows(group, p, gradient.coalesce())
        return loss

    @torch.no_grad()
    def settle(self) -> None:
        """Bring every row up to date: before weights are read by anything but a training step."""
        for group in self.param_groups:
            for p in group["params"]:
                if "last" in self.state.get(p, {}):
                    for rows in torch.arange(len(p), device=p.device).split(_CHUNK):
                        self._catch_up(p, rows)

    # --- rows --------------------------------------------------------------------------------

    def _step_rows(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        state, (rows,), g = self._state(p), gradient.indices(), gradient.values()
        scale = getattr(self, SCALE, None)
        g = g if scale is None else g / scale
        self._catch_up(p, rows)
        state["step"] += 1
        step, lr, (beta1, beta2) = int(state["step"]), group["lr"], group["betas"]
        m = state["exp_avg"][rows].lerp_(g, 1 - beta1)
        v = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        denominator = (v.sqrt() / math.sqrt(1 - beta2**step)).add_(group["eps"])
        moved = p[rows].mul_(1 - lr * group["weight_decay"]).addcdiv_(m, denominator, value=-lr / (1 - beta1**step))
        p.index_copy_(0, rows, moved)
        state["exp_avg"].index_copy_(0, rows, m)
        state["exp_avg_sq"].index_copy_(0, rows, v)
        state["last"][rows] = step
        _extend(state, group, step)

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["last"] = torch.zeros(len(p), dtype=torch.long, device=p.device)
            state["path"] = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
        return state

    @torch.no_grad()
    def _catch_up(self, p: Tensor, rows: Tensor) -> None:
        """Take the idle steps of these (distinct) rows."""
        state, group = self.state[p], next(g for g in self.param_groups if any(q is p for q in g["params"]))
        step = int(state["step"])
        behind = state["last"][rows]
        idle = behind < step
        if not idle.any():
            return
        rows, behind = rows[idle], behind[idle]
        beta1, beta2 = group["betas"]
        total, weighted, product = (row[behind.cpu()].to(p)[:, None] for row in state["path"])
        m, v = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        share = total / weighted.clamp(min=torch.finfo(p.dtype).tiny)
        moved = p[rows].mul_(product).addcdiv_(m * total, (v.sqrt() * share).add_(group["eps"]), value=-1)
        p.index_copy_(0, rows, moved)
        gap = (step - behind)[:, None].to(p.dtype)
        state["exp_avg"].index_copy_(0, rows, m.mul_(beta1**gap))
        state["exp_avg_sq"].index_copy_(0, rows, v.mul_(beta2**gap))
        state["last"][rows] = step


def _extend(state: dict[str, Tensor], group: dict[str, Any], step: int) -> None:
    """Add this step to the sums of all starting steps, and begin those of a row that stands at it."""
    path, lr, (beta1, beta2) = state["path"], group["lr"], group["betas"]
    path *= 1 - lr * group["weight_decay"]
    window = min(step, math.ceil(math.log(_NEGLIGIBLE) / math.log(max(beta1, 1e-9))))
    gaps = torch.arange(window, 0, -1, dtype=torch.float64)
    weight = lr / (1 - beta1**step) * beta1**gaps
    path[0, step - window :] += weight
    path[1, step - window :] += weight / ((beta2**gaps) / (1 - beta2**step)).sqrt()
    state["path"] = torch.cat([path, torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)], 1)


def large_tables(module: nn.Module) -> list[nn.Embedding]:
    """Return the trainable embeddings of a module that are worth updating by rows: not those `tied` to an output, which moves every row."""
    return [
        m
        for m in module.modules()
        if isinstance(m, nn.Embedding)
        and m.weight.requires_grad
        and m.weight.numel() >= FEWEST
        and m.max_norm is None
        and not m.scale_grad_by_freq
        and not getattr(m, "tied", False)
    ]
