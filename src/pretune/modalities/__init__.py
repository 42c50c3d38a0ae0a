"""Images, texts, sounds: what a raw item is and how it becomes tensors."""

from pretune.modalities._base import (
    BaselineFeatures,
    CarriesFiles,
    CutsViews,
    FitsBaselineFeatures,
    FitsLengths,
    FitsRows,
    HasBaselineFeatures,
    Modality,
    ReportsCost,
)

__all__ = [
    "BaselineFeatures",
    "CarriesFiles",
    "CutsViews",
    "FitsBaselineFeatures",
    "FitsLengths",
    "FitsRows",
    "HasBaselineFeatures",
    "Modality",
    "ReportsCost",
]
