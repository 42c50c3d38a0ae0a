"""Images, text, audio: what a raw example is and how it becomes tensors."""

from pretune.modalities._base import BaselineFeatures, Modality

__all__ = ["BaselineFeatures", "Modality"]
