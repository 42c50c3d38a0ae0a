"""Shorter ways through a training step that compute the same: passes over maps and saved copies of them left out.

*Frozen norms cost nothing.* A batch norm in eval mode is y = s x + t with s, t per channel, so norm(conv(x, W)) =
conv(x, s W) + t. The kernel is small and the map is large. W and the norm's own scale and shift receive their exact
gradients through s W and t. Pairs are found by watching one forward pass, and each is checked on what it saw there.

*Activations in place save no copy.* torch's in-place relu6 first copies its input for the backward pass, though its
output tells as much; in-place SiLU and Hardswish copy theirs too, where not being in place saves the copying.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pretune.kernels import enabled
from pretune.kernels.clamp import clamp, output_clamp
from pretune.kernels.convolution import norm_as_affine
from pretune.labels import Outputs, numbers

_TOLERANCE = 1e-2
"""Largest relative difference, in norm, between a folded pair and the pair itself; rounding makes 1e-6, on GPUs 1e-3."""
_COPYING = (nn.SiLU, nn.Hardswish, nn.Mish)
"""Activations whose backward pass needs their input: in place they copy it first."""


@dataclass(frozen=True)
class Shortcuts:
    """What can be shortened in one network."""

    pairs: tuple[tuple[_ConvNd, _BatchNorm], ...] = ()
    """Convolutions and the norms that alone take their output."""
    clamps: tuple[nn.Hardtanh, ...] = ()
    """relu6 and its like."""
    copying: tuple[nn.Module, ...] = ()
    """Activations that had better not be in place."""
    widest: int = 0
    """Bytes of the largest tensor that any operation returned: what a micro-batch is sized by."""

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take the shortcuts within the context: forward passes belong inside, backward passes anywhere."""
        with ExitStack() as stack:
            for conv, norm in self.pairs:
                if not norm.training:
                    stack.enter_context(_folded(conv, norm))
            for clamp in self.clamps:
                stack.enter_context(_with(clamp, forward=_quick_clamp(clamp)))
            for activation in self.copying:
                stack.enter_context(_with(activation, inplace=False))
            yield


def find(network: nn.Module, run: Callable[[], Outputs]) -> Shortcuts:
    """Watch one forward pass of `network`, in eval mode and without gradient; nothing is changed.

    Args:
        network: the modules to look at.
        run: does the pass, on one or two examples, and returns its outputs.
    """
    if not enabled():
        return Shortcuts()
    modes = {module: module.training for module in network.modules()}
    clamps = tuple(m for m in modes if type(m) in (nn.ReLU6, nn.Hardtanh) and "forward" not in vars(m))
    copying = tuple(m for m in modes if type(m) in _COPYING and m.inplace)
    if not any(isinstance(module, _ConvNd) for module in modes):
        return Shortcuts((), cast("tuple[nn.Hardtanh, ...]", clamps), copying)
    network.eval()
    watch = _Watch(network)
    try:
        with torch.no_grad():
            with watch.calls(), watch:
                outputs = run()
            pairs = tuple(watch.pairs())
            with Shortcuts(pairs).taken():
                same = _close(numbers(run()), numbers(outputs))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Shortcuts(pairs if same else (), cast("tuple[nn.Hardtanh, ...]", clamps), copying, watch.widest)


@contextmanager
def _with(module: nn.Module, **attributes: Any) -> Generator[None]:
    """Give a module instance other attributes within the context."""
    before = {name: vars(module)[name] for name in attributes if name in vars(module)}
    vars(module).update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del vars(module)[name]
        vars(module).update(before)


# --- norms ---------------------------------------------------------------------------------------


@contextmanager
def _folded(conv: _ConvNd, norm: _BatchNorm) -> Generator[None]:
    """Put s W and t in the place of a convolution's parameters, and only what follows normalising in the norm's."""
    scale, shift = norm_as_affine(cast("nn.BatchNorm2d", norm))
    before = dict(conv._parameters)
    # Into the dictionary itself: a module takes no tensor that is not a leaf as its parameter.
    parameters: Any = conv._parameters
    parameters["bias"] = shift if conv.bias is None else shift + conv.bias * scale
    parameters["weight"] = conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    try:
        with _with(norm, forward=_rest(norm)):
            yield
    finally:
        conv._parameters.update(before)


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
    with _folded(conv, norm):
        return _close(norm(conv(x)), out)


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= _TOLERANCE * other.norm())


# --- activations ---------------------------------------------------------------------------------


def _quick_clamp(module: nn.Hardtanh) -> Callable[[Tensor], Tensor]:
    return lambda x: clamp(x, module.min_val, module.max_val, inplace=module.inplace) if _is_quick(x) else type(module).forward(module, x)


def _is_quick(x: Tensor) -> bool:
    return x.device.type == "cpu" and output_clamp.works(x.dtype)
