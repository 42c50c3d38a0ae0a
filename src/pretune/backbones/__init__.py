"""Where pretrained networks come from: one file per source, ids are 'source:name'."""

from pretune.backbones._base import Backbone, BackboneSource, Builder, LoadReport, TensorStage, load_matching

__all__ = ["Backbone", "BackboneSource", "Builder", "LoadReport", "TensorStage", "load_matching"]
