"""LSTMs under autocast: oneDNN has none in bfloat16 on processors without AVX-512, and PyTorch does not look before it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pretune.kernels._shortcut import Shortcut


def lstm(module: nn.LSTM, inputs: Any, state: tuple[Tensor, Tensor] | None = None) -> Any:
    """Return module(inputs, state): in autocast's dtype where that works on this machine, in float32 elsewhere.

    Args:
        module: the layers.
        inputs: a tensor or a PackedSequence.
        state: hidden and cell state, or None.
    """
    device = module.weight_hh_l0.device.type
    if device != "cpu" or not torch.is_autocast_enabled("cpu") or autocast_lstm.works(torch.get_autocast_dtype("cpu")):
        return module(inputs, state)
    with torch.autocast("cpu", enabled=False):
        return module(inputs.to(torch.float32), state)


def _trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    module, x = nn.LSTM(8, 8, batch_first=True), torch.randn(2, 4, 8, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = module(x)[0]
    expected = module(x)[0]
    yield out, expected
    yield torch.autograd.grad(out.float().sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0]


autocast_lstm = Shortcut(name="LSTM under autocast", trial=_trial)
