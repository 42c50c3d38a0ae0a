"""Resemblyzer and CREPE as backbones, and the names their published tensors go by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from pretune.architectures.audiolstm import AudioLSTM
from pretune.architectures.crepe import Crepe
from pretune.backbones._architectures import wrap
from pretune.backbones._base import Backbone, Classifier, load_matching
from pretune.backbones._states import read_state


def read_resemblyzer(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return the speaker encoder's tensors by our names; those of its training loss are left out."""
    state = {name: tensor for name, tensor in read_state(shards[0]).tensors.items() if not name.startswith("similarity_")}
    return {_speaker_name(name): tensor for name, tensor in state.items()}


def _speaker_name(name: str) -> str:
    match = re.fullmatch(r"lstm\.(\w+)_l(\d+)", name)
    return f"stages.layer{int(match[2]) + 1}.lstm.{match[1]}_l0" if match else f"stages.embedding.{name}"


def assemble_resemblyzer(state: dict[str, Tensor] | None, origin: str, **settings: Any) -> Backbone:
    """Return the speaker encoder, with randomly initialised weights where `state` is None."""
    sizes = AudioLSTM(**settings)
    network = sizes.build()
    return wrap(sizes, network, report=None if state is None else load_matching(network, state, source=origin))


def read_crepe(shards: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return CREPE's tensors by our names; its convolutions are one-dimensional, published with a second axis of 1."""
    out = {}
    for name, tensor in read_state(shards[0]).tensors.items():
        name = re.sub(r"^(conv\d)_BN\.", r"stages.\1.norm.", name)
        name = re.sub(r"^(conv\d)\.", r"stages.\1.conv.", name)
        out[name] = tensor.squeeze(-1) if tensor.ndim == 4 else tensor
    return out


def assemble_crepe(state: dict[str, Tensor] | None, origin: str, **settings: Any) -> Backbone:
    """Return CREPE with its pitch classifier, with randomly initialised weights where `state` is None."""
    sizes = Crepe(**settings)
    network = sizes.build()
    report = None if state is None else load_matching(network, state, source=origin)
    return wrap(sizes, network, classifier=Classifier(layer=network.classifier), report=report)
