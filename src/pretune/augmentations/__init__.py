"""Parts that change what a model sees in training, and presets of them."""

from pretune.augmentations._base import Augmentation, BatchAugmentation, ViewAugmentation
from pretune.augmentations._presets import preset

__all__ = ["Augmentation", "BatchAugmentation", "ViewAugmentation", "preset"]
