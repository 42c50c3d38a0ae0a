"""Decoders of `transformers`' encoder-decoders (T5, BART, Marian, mBART) as what writes beside a backbone, which is their encoder.

The decoder keeps a table of tokens of its own, equal to the encoder's at first. Shapes: B texts, T positions, D channels, V tokens.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretune.architectures.layers.memory import Recalling
from pretune.architectures.layers.token_decoder import TokenDecoder
from pretune.backbones._base import Backbone
from pretune.errors import SettingError, WeightsError
from pretune.modalities.text import Text
from pretune.types import Features

_OF_LANGUAGES = ("mbart", "m2m_100", "nllb-moe", "plbart")
"""Values of `model_type` whose decoder begins with the language that it writes."""
_GENERATION = "generation_config.json"
_BEGINS = ("decoder_start_token_id", "forced_bos_token_id")


def is_one(config: Mapping[str, Any]) -> bool:
    """Return whether a config is that of an encoder-decoder over texts."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as NAMES

    return config.get("model_type") in NAMES and config.get("model_type") != "encoder-decoder"


def with_generation(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Return a config with what `generation_config.json` beside it says of the first tokens: newer versions write it only there."""
    path = where / _GENERATION
    if not is_one(config) or not path.exists():
        return dict(config)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}). Fetch the model again.") from None
    return {**config, **{key: found[key] for key in _BEGINS if isinstance(found, dict) and found.get(key) is not None}}


def give_decoder(backbone: Backbone, config: Mapping[str, Any], network: Callable[[], Any]) -> None:
    """Let the backbone have the decoder, which is read when something writes with it.

    Args:
        backbone: the encoder.
        config: of both.
        network: returns the whole network for conditional generation.
    """

    def build() -> LibraryDecoder:
        assert isinstance(backbone.modality, Text)
        return LibraryDecoder(network(), _begin(config, backbone), backbone.modality)

    backbone.late_decoder = build


def _begin(config: Mapping[str, Any], backbone: Backbone) -> tuple[int, ...]:
    """Return the ids before a text: that which starts a decoder, and the language or what the tokenizer puts before a text.

    Raises:
        SettingError: the network writes several languages, and its files do not say which.
    """
    start, forced, name = config.get(_BEGINS[0]), config.get(_BEGINS[1]), backbone.builder.id
    if start is None:
        start = config.get("bos_token_id") if config.get("bos_token_id") is not None else config.get("pad_token_id")
    if start is None:
        raise SettingError(f"{name}: its config has no decoder_start_token_id, so nothing says how a text begins. Add it to config.json.")
    text = backbone.modality
    assert isinstance(text, Text)
    if text.written_language:
        language = text.special_id(text.written_language)
        return (language,) if int(start) in map(text.special_id, text.languages) else (int(start), language)
    if forced is not None:
        return int(start), int(forced)
    if config.get("model_type") in _OF_LANGUAGES:
        raise SettingError(
            f"{name} writes several languages, and nothing says which. Call the sides of the data by names of languages that its tokenizer "
            f'has (train.en, train.de), or add the id of the language to {_GENERATION}: "forced_bos_token_id": ID.'
        )
    return int(start), *text.framed[0]


class LibraryDecoder(TokenDecoder, Recalling):
    """A decoder of `transformers` with the scores of its tokens."""

    def __init__(self, network: Any, begin: tuple[int, ...], text: Text) -> None:
        """Take the decoder out of a whole network.

        Args:
            network: for conditional generation.
            begin: ids before a text.
            text: the preprocessing, with the tokenizer.

        Raises:
            SettingError: the tokenizer has no token that ends a text.
        """
        super().__init__()
        end = text.separator
        if end is None:
            raise SettingError("the tokenizer of these weights has no token that ends a text, so it cannot learn to write.")
        self.decoder = network.get_decoder()
        scores = network.get_output_embeddings()
        tied = scores.weight is self.decoder.get_input_embeddings().weight
        self.scores = None if tied else scores
        added = getattr(network, "final_logits_bias", None)
        self.added: Tensor | None
        self.register_buffer("added", None if added is None else added[0].clone())
        scaled = bool(getattr(network.config, "scale_decoder_outputs", False))
        self.scale = network.config.d_model**-0.5 if scaled else 1.0
        self.begin, self.end, self.barred = begin, end, tuple(one for one in text.special if one != end)
        self.positions = getattr(network.config, "max_position_embeddings", None)
        self._cache = "cache" if "cache" in inspect.signature(self.decoder.forward).parameters else "past_key_values"

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return features (B, T, D)."""
        mask = None if encoded.mask is None else encoded.mask.long()
        read = {"encoder_hidden_states": encoded.tensor, "encoder_attention_mask": mask}
        out = self.decoder(input_ids=ids_BT, **read, use_cache=self.memory is not None, **{self._cache: self._kept()})
        return out.last_hidden_state * self.scale

    def _kept(self) -> Any:
        """Return the keys and values that are kept; None outside of a memory."""
        if self.memory is None:
            return None
        if "kept" not in self.memory:
            from transformers import DynamicCache, EncoderDecoderCache

            self.memory["kept"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
        return self.memory["kept"]

    @property
    def matrix(self) -> Tensor:
        """The scores' weights (V, D)."""
        return self.decoder.get_input_embeddings().weight if self.scores is None else self.scores.weight

    @property
    def bias(self) -> Tensor | None:
        """Added to the scores (V,)."""
        return self.added
