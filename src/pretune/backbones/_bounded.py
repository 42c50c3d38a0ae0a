"""A network no larger than its weights file: what a run folder says of its sizes may be a lie that takes all memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from pretune import saved
from pretune.errors import WeightsError

_MORE_TENSORS, _MORE_NUMBERS = 2_000, 200_000_000
"""What a network may have beyond twice its file: heads that are built with it and not saved; VGG's has 124 million parameters."""


@contextmanager
def bounded(path: Path) -> Generator[None]:
    """Within this context, building modules stops once they are far larger than what a safetensors file can fill.

    Raises:
        WeightsError: it was stopped, or the file cannot be read.
    """
    tensors, numbers = saved.sizes_of(path)
    left = [2 * tensors + _MORE_TENSORS, 2 * numbers + _MORE_NUMBERS]

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        left[0] -= 1
        left[1] -= 0 if parameter is None else parameter.numel()
        if min(left) < 0:
            raise WeightsError(f"{path} has {numbers:,} numbers in {tensors:,} tensors, far fewer than the network that is built for them.")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
