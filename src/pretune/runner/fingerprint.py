"""What a run was begun with, as one hash for each kind of thing: a resumed run refuses what has changed, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from pretune import config
from pretune.backbones import Backbone
from pretune.errors import RequestError
from pretune.runner.prepare import Prepared
from pretune.training.checkpoint import checksum
from pretune.training.run_dir import RunDir
from pretune.types import Row

Fingerprint = dict[str, str]
"""What is compared, in words that a sentence can name -> hash."""


def of_data(data: Prepared, backbone: Backbone) -> Fingerprint:
    """Return what fine-tuning was begun with."""
    return {
        **of_rows(data.rows, data.ingested.hashes, data.splits),
        "the labels": config.digest([[row.target for row in data.rows], data.space.classes]),
        "the network's weights": of_network(backbone),
    }


def of_rows(rows: Sequence[Row], hashes: Sequence[str], splits: Mapping[str, np.ndarray]) -> Fingerprint:
    """Return what is learned from: contents, splits (positions by split) and groups."""
    return {
        "the examples": config.digest(list(hashes)),
        "the splits": config.digest({split: positions.tolist() for split, positions in sorted(splits.items())}),
        "the groups": config.digest([row.group for row in rows]),
    }


def of_network(network: Backbone | nn.Module) -> str:
    """Return a checksum of a network's tensors, before any was trained."""
    stages = network.stages if isinstance(network, Backbone) else network
    return checksum({name: tensor.detach().cpu().contiguous() for name, tensor in stages.state_dict().items()}, "")


def require_same(folder: RunDir, now: Fingerprint) -> None:
    """Refuse to resume a run with other data or weights than it was begun with: the result would be that of neither.

    Raises:
        RequestError: something has changed; the message names it.
    """
    before: Any = folder.read_json("recipe.json").get("data")
    if not isinstance(before, dict):  # of an older version, which knew the contents only
        return
    changed = [name for name, known in now.items() if before.get(name, known) != known]
    if changed:
        raise RequestError(
            f"the data have changed since {folder.path} was started: {', '.join(changed)}. "
            "Put them back as they were, or start again with another out=…"
        )
