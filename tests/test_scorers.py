"""A saved network computes as its run did."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from pretune.deploy._scorers import NetworkScorer
from pretune.tasks import Space, Task
from pretune.training.plan import Precision
from pretune.types import Features


def test_frozen_stages_in_bfloat16_go_before_others_in_float32() -> None:
    """While training, the cache lay between them, which gives float32."""
    layer = nn.Linear(4, 2)
    network: Any = NetworkScorer.__new__(NetworkScorer)
    network.run, network.device, network._rest, network._start = Path("run"), torch.device("cpu"), Precision(bfloat16=False), 1
    network.modality = SimpleNamespace(collate=lambda views: Features(tensor=torch.stack(views), layout="pooled"))
    network._prefix = lambda features: Features(tensor=features.tensor.bfloat16(), layout="pooled")
    network._learner = SimpleNamespace(predict=lambda batch: layer(batch.inputs.tensor))
    network._task, network.space = Task(), Space()
    views = [torch.ones(4), torch.zeros(4)]
    with torch.inference_mode():
        assert torch.equal(network.outputs(views), layer(torch.stack(views)))
