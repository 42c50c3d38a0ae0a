"""Where timm's networks are cut: a few common shapes, each believed only after its stages gave the network's own output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pretune.backbones._cut import Cut, Part, Permute, Stage, after_each, channels_first, row
from pretune.errors import SettingError

_STEMS = (("conv1", "bn1", "act1", "maxpool"), ("conv_stem", "bn1", "act1"), ("stem",), ("patch_embed",))
_BODIES = (("layer1", "layer2", "layer3", "layer4"), ("s1", "s2", "s3", "s4"), ("blocks",), ("stages",), ("layers",))
_ENDS = ("conv_head", "bn2", "act2", "norm_pre", "final_conv", "final_act", "norm")
_HEADS = ("norm", "fc_norm", "head", "head_dist", "head_drop", "attn_pool", "global_pool")


def cut(network: Any, size: int) -> Cut:
    """Return the stages of a timm network; they share its modules. One stage where no known shape fits.

    Args:
        network: with whatever classifier it has, which is taken out of it.
        size: side of an image it takes, in pixels.

    Raises:
        SettingError: its features are not one vector an image.
    """
    network.eval()
    x_BCHW = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    classifier = network.get_classifier()
    with torch.no_grad():
        network.reset_classifier(0)
        wanted_BD = network(x_BCHW)
        if not isinstance(wanted_BD, Tensor) or wanted_BD.ndim != 2:
            raise SettingError(f"{type(network).__name__} of timm gives no single vector a picture, so it cannot be a backbone.")
        whole: list[Stage] = [("network", network, "pooled")]
        stages = next((s for s in _candidates(network) if _equal(s, x_BCHW, wanted_BD)), whole)
        layouts = _layouts(stages, x_BCHW)
    width = wanted_BD.shape[1]
    linear = classifier if isinstance(classifier, nn.Linear) and classifier.in_features == width else None
    return Cut(stages=tuple((name, module, layouts[name]) for name, module, _ in stages), width=width, classifier=linear)


def _candidates(network: Any) -> Iterator[list[Stage]]:
    """Yield what the network's stages may be."""
    if not hasattr(network, "forward_head"):
        return
    if hasattr(network, "blocks") and hasattr(network, "_pos_embed"):
        yield _transformer(network)
    if hasattr(network, "features"):
        yield _features(network)
    for stem in _STEMS:
        for body in _BODIES:
            if hasattr(network, stem[0]) and hasattr(network, body[0]):
                yield _chain(network, stem, body, _ENDS)
                yield _chain(network, stem, body, ())


def _chain(network: Any, stem: tuple[str, ...], body: tuple[str, ...], after: tuple[str, ...]) -> list[Stage]:
    stages: list[Stage] = [("stem", _modules(network, stem), "map")]
    for name in body:
        layer = getattr(network, name)
        if len(body) > 1:
            stages.append((name, layer, "map"))
        else:
            stages += [(f"{name.removesuffix('s')}{i + 1}", child, "map") for i, child in enumerate(layer)]
    ends = tuple(name for name in after if isinstance(getattr(network, name, None), nn.Module))
    used = {*stem, *body, *ends}
    if ends:
        stages.append(("final", _modules(network, ends), "map"))
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return [*_channels_last(stages), ("pool", row(Permute(0, 2, 3, 1), _head(network, used)), "pooled")]
    return [*stages, ("pool", _head(network, used), "pooled")]


def _channels_last(stages: list[Stage]) -> list[Stage]:
    """Return stages that compute on (B, H, W, C) as ones that take and give (B, C, H, W)."""
    (name, stem, layout), *rest = stages
    return [(name, row(stem, Permute(0, 3, 1, 2)), layout), *((name, channels_first(module), layout) for name, module, layout in rest)]


def _features(network: Any) -> list[Stage]:
    transitions = {type(m) for m in network.features if "Transition" in type(m).__name__}
    parts = after_each(network.features, nn.MaxPool2d, *transitions)
    return [*((f"block{i + 1}", part, "map") for i, part in enumerate(parts)), ("pool", _head(network, {"features"}), "pooled")]


def _transformer(network: Any) -> list[Stage]:
    own = (network.named_children(), network.named_parameters(recurse=False), network.named_buffers(recurse=False))
    inside = {name for kind in own for name, _ in kind}
    rope = getattr(network, "rope", None)
    embed = Part(network, _embed, inside - {"blocks", *_HEADS})
    blocks = [block if rope is None else Rotated(block, rope) for block in network.blocks]
    stages: list[Stage] = [("embed", embed, "sequence"), *((f"block{i + 1}", block, "sequence") for i, block in enumerate(blocks))]
    if isinstance(getattr(network, "norm", None), nn.Module):
        stages.append(("norm", network.norm, "sequence"))
    return [*stages, ("pool", Part(network, _pre_logits, set(_HEADS) - {"norm"}), "pooled")]


def _embed(network: Any, x_BCHW: Tensor) -> Tensor:
    x_BTD = network._pos_embed(network.patch_embed(x_BCHW))
    x_BTD = x_BTD[0] if isinstance(x_BTD, tuple) else x_BTD  # the second is the rotation, which does not depend on x
    for name in ("patch_drop", "norm_pre"):
        x_BTD = getattr(network, name)(x_BTD) if isinstance(getattr(network, name, None), nn.Module) else x_BTD
    return x_BTD


def _head(network: Any, used: set[str]) -> Part:
    return Part(network, _pre_logits, {name for name, _ in network.named_children()} - used)


def _pre_logits(network: Any, x: Tensor) -> Tensor:
    return network.forward_head(x, pre_logits=True)


def _modules(network: Any, names: tuple[str, ...]) -> nn.Module:
    there = [getattr(network, name) for name in names if isinstance(getattr(network, name, None), nn.Module)]
    return there[0] if len(there) == 1 else row(*there)


class Rotated(nn.Module):
    """A transformer block that takes rotary positions."""

    rope: Any

    def __init__(self, block: nn.Module, rope: Any) -> None:
        super().__init__()
        self.block, self.rope = block, rope

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        return self.block(x_BTD, rope=self.rope.get_embed())


def _equal(stages: list[Stage], x: Tensor, wanted_BD: Tensor) -> bool:
    """Whether the stages one after the other give what is wanted."""
    try:
        for _, module, _ in stages:
            x = module.eval()(x)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError):
        return False  # this network is not of that shape after all; the next candidate is tried
    scale = float(wanted_BD.abs().max())
    return isinstance(x, Tensor) and x.shape == wanted_BD.shape and torch.allclose(x, wanted_BD, rtol=1e-4, atol=1e-5 * scale)


def _layouts(stages: list[Stage], x: Tensor) -> dict[str, Any]:
    out = {}
    for name, module, _ in stages:
        x = module(x)
        out[name] = {2: "pooled", 3: "sequence", 4: "map"}[x.ndim]
    return out
