"""Images, texts, sounds: what a raw item is and how it becomes tensors."""

from pretune.modalities._base import CarriesFiles, FitsFloor, FitsLengths, FitsRows, Modality, ReportsCost

__all__ = ["CarriesFiles", "FitsFloor", "FitsLengths", "FitsRows", "Modality", "ReportsCost"]
