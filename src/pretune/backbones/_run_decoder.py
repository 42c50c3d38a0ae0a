"""The decoder that a run learned beside its backbone: of denoising, or of a task that writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from pretune import saved
from pretune.architectures.layers.token_decoder import TiedDecoder, TokenDecoder
from pretune.architectures.layers.transformer_decoder import TransformerDecoder
from pretune.backbones._base import Backbone, load_matching
from pretune.backbones._retokenize import token_table
from pretune.backbones._states import read_state
from pretune.errors import WeightsError
from pretune.modalities.text import Text

_MODEL = "model.json"
_OF_TASK, _OF_OBJECTIVE = "stages.head.decoder.", "decoder."
_BODY = "body."


def give_decoder(backbone: Backbone, run: Path) -> None:
    """Let the backbone of a run have the decoder that lies beside it, read when something writes with it; nothing where there is none."""
    path = run / _MODEL
    if not path.exists() or not isinstance(backbone.modality, Text):
        return
    record = saved.json_of(path, dict, WeightsError)
    writes = _named(record, "head") == "decoder"
    if not writes and _named(record, "objective") != "denoising":
        return
    weights = saved.inside(run, saved.field(record, "weights", str, path, WeightsError), path)
    library = backbone.late_decoder

    def build() -> TokenDecoder:
        state = read_state(weights)
        prefix = _OF_TASK if writes else _OF_OBJECTIVE
        tensors = {name.removeprefix(prefix): tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}
        if library is not None:
            made = library()
            load_matching(made, tensors, source=state.source)
            return made
        tied = _of_our_own(backbone, {name.removeprefix(_BODY): tensor for name, tensor in tensors.items()}, state.source)
        return tied

    backbone.late_decoder = build


def _named(record: dict[str, Any], key: str) -> str:
    found = record.get(key)
    return str(found.get("name", "")) if isinstance(found, dict) else ""


def _of_our_own(backbone: Backbone, tensors: dict[str, Tensor], source: str) -> TiedDecoder:
    """Return a transformer decoder of the sizes that its tensors have.

    Raises:
        WeightsError: they are no decoder, or it is not over this network's table.
    """
    text, table = backbone.modality, token_table(backbone)
    assert isinstance(text, Text)
    layers = {name.split(".")[1] for name in tensors if name.startswith("layers.")}
    position = tensors.get("position.weight")
    if position is None or position.ndim != 2 or not layers or text.separator is None:
        raise WeightsError(f"{source} holds no decoder of the run's network. Give a whole run folder.")
    dropout = float(backbone.builder.settings.get("dropout", 0.1))
    body = TransformerDecoder(table.embedding_dim, backbone.width, len(layers), len(position), dropout)
    load_matching(body, tensors, source=source)
    tied: Any = table
    tied.tied = True  # every row gets a gradient at every step
    return TiedDecoder(table, body, end=text.separator, barred=tuple(one for one in text.special if one != text.separator))
