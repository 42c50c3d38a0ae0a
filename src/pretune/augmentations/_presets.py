"""Presets: named tuples of augmentation parts, so that nobody has to compose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pretune import registry
from pretune.errors import SettingError, did_you_mean

if TYPE_CHECKING:
    from pretune.augmentations._base import Augmentation

NAMES = ("none", "light", "medium", "strong", "views")

Members = tuple[tuple[str, dict[str, Any]], ...]
"""Names of parts with their settings."""

_IMAGE: dict[str, Members] = {
    "light": (("random_resized_crop", {"scale": (0.35, 1.0)}), ("flip", {})),
    "medium": (("random_resized_crop", {"scale": (0.25, 1.0)}), ("flip", {}), ("rotation", {"degrees": 10.0}), ("colour", {})),
    "strong": (
        ("random_resized_crop", {"scale": (0.08, 1.0)}),
        ("flip", {}),
        ("randaugment", {}),
        ("erasing", {}),
        ("mixup", {"probability": 0.5}),
    ),
    "views": (  # SimCLR's (Chen et al. 2020): what two views share must not be a colour or a place
        ("random_resized_crop", {"scale": (0.2, 1.0)}),
        ("flip", {}),
        ("colour", {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}),
        ("grey", {}),
        ("blur", {}),
    ),
}
_AUDIO: dict[str, Members] = {
    "light": (("time_shift", {}),),
    "medium": (("time_shift", {}), ("gain", {}), ("noise", {})),
    "strong": (("time_shift", {}), ("speed", {}), ("gain", {}), ("noise", {}), ("specaugment", {}), ("mixup", {"probability": 0.5})),
    "views": (("time_shift", {}), ("speed", {}), ("gain", {}), ("noise", {}), ("specaugment", {})),
}
_OTHERS: dict[str, Members] = {"light": ()}
"""Texts and modalities of third parties have no presets: a strategy's suggestion of "light" is nothing there, more is refused."""
_PRESETS: dict[str, dict[str, Members]] = {"image": _IMAGE, "audio": _AUDIO}


def preset(name: str, modality: str, *, mixes: bool = True) -> tuple[Augmentation, ...]:
    """Return the parts of a preset, in the order in which they act.

    Args:
        name: one of `NAMES`.
        modality: which they are for.
        mixes: whether examples may be mixed, as they may not where one has several labels.

    Raises:
        SettingError: no preset has this name, or the modality has no parts for it.
    """
    if name not in NAMES:
        raise SettingError(f"no augmentation preset is called {name!r}. {did_you_mean(name, NAMES)}")
    if name == "none":
        return ()
    presets = _PRESETS.get(modality, _OTHERS)
    if name not in presets:
        raise SettingError(f"there is no augmentation preset {name!r} for {modality}. Set augment=none.")
    found = (registry.load("augmentations", member)(**settings) for member, settings in presets[name])
    return tuple(one for one in found if mixes or not one.mixes)
