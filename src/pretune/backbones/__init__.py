"""Where pretrained networks come from: one file per source, ids are 'source:name'."""

from pretune.backbones._base import Backbone, BackboneSource, Builder, Classifier, LoadReport, Readout, Scoring, TensorStage, load_matching
from pretune.backbones._bounded import bounded
from pretune.backbones._folder import read, read_modality, save
from pretune.backbones._inference import inference_copy
from pretune.backbones._load import build, default, for_modality, from_scratch, load, resized
from pretune.backbones._packages import PackageFile, PackageWeights
from pretune.backbones._retokenize import retokenized, token_table
from pretune.backbones._trust import modules_in, modules_of, require_trust, trusting

__all__ = [
    "Backbone",
    "BackboneSource",
    "Builder",
    "Classifier",
    "LoadReport",
    "PackageFile",
    "PackageWeights",
    "Readout",
    "Scoring",
    "TensorStage",
    "bounded",
    "build",
    "default",
    "for_modality",
    "from_scratch",
    "inference_copy",
    "load",
    "load_matching",
    "modules_in",
    "modules_of",
    "read",
    "read_modality",
    "require_trust",
    "resized",
    "retokenized",
    "save",
    "token_table",
    "trusting",
]
