"""Frozen norms for nothing: while it trains, a network's frozen batch norms are multiplied into the kernels before them.

A batch norm in eval mode is y = s x + t with s, t per channel, so norm(conv(x, W)) = conv(x, s W) + t. The kernel is
small and the map is large: two passes over every map (one forward, one backward) and one saved copy of it are gone. W and
the norm's own scale and shift receive their exact gradients through s W and t. Any network's pairs are found by watching
one forward pass, and each is checked on what it saw there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pretune.architectures._conv import norm_as_affine

_TOLERANCE = 1e-2
"""Largest relative difference, in norm, between a folded pair and the pair itself; rounding makes 1e-6, on GPUs 1e-3."""

Pairs = tuple[tuple[_ConvNd, _BatchNorm], ...]
"""Convolutions and the norms that alone take their output."""


@dataclass(frozen=True)
class Observed:
    """What one forward pass showed."""

    pairs: Pairs
    widest: int
    """Bytes of the largest tensor that any operation returned."""


def observe(network: nn.Module, run: Callable[[], Tensor]) -> Observed:
    """Watch one forward pass of `network`, in eval mode and without gradient; nothing is changed.

    Args:
        network: the modules to look at.
        run: does the pass, on one or two items, and returns its outputs.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    watch = _Watch(network)
    try:
        with torch.no_grad():
            with watch.calls(), watch:
                outputs = run()
            pairs = tuple(watch.pairs())
            with folded(pairs):
                same = _close(run(), outputs)
            return Observed(pairs if same else (), watch.widest)
    finally:
        for module, mode in modes.items():
            module.training = mode


def frozen_pairs(network: nn.Module, run: Callable[[], Tensor]) -> Pairs:
    """Return the pairs of a network, looking only where a norm is frozen now."""
    frozen = any(isinstance(module, _BatchNorm) and not module.training for module in network.modules())
    return observe(network, run).pairs if frozen else ()


@contextmanager
def folded(pairs: Pairs) -> Generator[None]:
    """Let each pair whose norm is frozen (eval mode) compute as one convolution, within the context.

    Forward passes belong inside, backward passes anywhere.
    """
    changed: list[tuple[_ConvNd, _BatchNorm, dict[str, Any]]] = []
    try:
        for conv, norm in pairs:
            if not norm.training:
                changed.append((conv, norm, dict(conv._parameters)))
                _fold(conv, norm)
        yield
    finally:
        for conv, norm, parameters in changed:
            conv._parameters.update(parameters)
            vars(norm).pop("forward", None)


def _fold(conv: _ConvNd, norm: _BatchNorm) -> None:
    """Put s W and t in the place of a convolution's parameters, and nothing but what follows it in the norm's."""
    scale, shift = norm_as_affine(cast("nn.BatchNorm2d", norm))
    # Into the dictionaries themselves: a module takes no tensor that is not a leaf as its parameter.
    parameters: Any = conv._parameters
    parameters["bias"] = shift if conv.bias is None else shift + conv.bias * scale
    parameters["weight"] = conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    vars(norm)["forward"] = _rest(norm)


def _rest(norm: _BatchNorm) -> Callable[[Tensor], Tensor]:
    """Return what a norm does besides normalising: nothing, or timm's dropout and activation."""
    drop, act = getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())
    return lambda x: act(drop(x))


class _Watch(TorchFunctionMode):
    """Notes who takes whose output, and how large outputs are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.members = set(network.modules())
        self.uses: Counter[int] = Counter()
        self.kept: list[object] = []
        self.convs: dict[int, tuple[_ConvNd, Tensor, Tensor]] = {}
        self.norms: list[tuple[_BatchNorm, Tensor, Tensor]] = []
        self.widest = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if made:
            taken = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            self.uses.update(taken)
            self.kept.append((args, kwargs, out))  # an id means something only while its object lives
            self.widest = max(self.widest, *(leaf.nbytes for leaf in made))
        return out

    @contextmanager
    def calls(self) -> Generator[None]:
        """See the calls of convolutions and norms within the context.

        By a hook on all modules, not on each: some networks look at their layers' own hooks and go another way.
        """
        hook = register_module_forward_hook(self._saw)
        try:
            yield
        finally:
            hook.remove()

    def _saw(self, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        """Note a convolution's or a norm's call, before anything changes its tensors in place."""
        if module not in self.members:
            return
        if isinstance(module, _BatchNorm):
            self.norms.append((module, args[0], out.clone()))
        elif isinstance(module, _ConvNd):
            self.convs[id(out)] = (module, args[0].clone(), out)

    def pairs(self) -> Iterator[tuple[_ConvNd, _BatchNorm]]:
        """Yield the pairs that compute the same when folded."""
        calls = Counter(id(module) for module, *_ in [*self.convs.values(), *self.norms])
        for norm, taken, out in self.norms:
            conv, x, _ = self.convs.get(id(taken), (None, None, None))
            alone = conv is not None and calls[id(conv)] == calls[id(norm)] == 1 and self.uses[id(taken)] == 1
            if conv is not None and x is not None and alone and _is_foldable(conv, norm) and _same(conv, norm, x, out):
                yield conv, norm


def _is_foldable(conv: _ConvNd, norm: _BatchNorm) -> bool:
    whole = isinstance(conv._parameters.get("weight"), nn.Parameter) and "bias" in conv._parameters
    statistics = norm.running_mean is not None and norm.running_var is not None
    return whole and statistics and not conv.transposed and "forward" not in vars(norm)


def _same(conv: _ConvNd, norm: _BatchNorm, x: Tensor, out: Tensor) -> bool:
    """Whether the folded pair returns what the pair did: a convolution may do more with its kernel than convolve."""
    with folded(((conv, norm),)):
        return _close(norm(conv(x)), out)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= _TOLERANCE * other.norm())
