"""Images, texts, sounds: what a raw item is and how it becomes tensors."""

from pretune.modalities._base import Modality

__all__ = ["Modality"]
