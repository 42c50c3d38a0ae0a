"""Images, texts, sounds: what a raw item is and how it becomes tensors."""

from pretune.modalities._base import (
    CarriesFiles,
    CutsViews,
    DescribesItems,
    FitsFloor,
    FitsLengths,
    FitsRows,
    FittedFloor,
    Modality,
    ReportsCost,
)

__all__ = ["CarriesFiles", "CutsViews", "DescribesItems", "FitsFloor", "FitsLengths", "FitsRows", "FittedFloor", "Modality", "ReportsCost"]
