"""Language networks of `transformers` as backbones: tokenizer and weights from one folder.

BERT and its closest relatives become the Bert of our own, without importing `transformers`. The others keep its modules, cut
into stages where the cut gives the very same features, else as one stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.backbones import _bert, _transformers_seq2seq
from pretune.backbones._base import Backbone, Builder, LoadReport, require_finite, require_floats
from pretune.backbones._states import header_fault, read_state
from pretune.errors import WeightsError
from pretune.modalities.text import TOKENIZER_FILE, Text
from pretune.modalities.transforms import tokenizing

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 512
"""Tokens a text is cut to at most unless more is asked for: attention's price grows with the square."""
_NOT_TEXT = ("image_size", "num_mel_bins", "patch_size")
_SEPARATORS = ("[SEP]", "</s>", "<sep>")
SAVED_WITH = ("architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path")
"""Entries of a config.json that describe no network."""
_UNUSED = ("pooler.",)
_OUTPUTS = ("lm_head.weight", "embed_out.weight")
"""Names of the layer by which a decoder scores tokens, where that is not its table of word pieces."""
_ENCODERS = ("t5", "mt5", "umt5")
"""Values of `model_type` whose network has a decoder, whatever the settings say."""


def load(config: Mapping[str, Any], where: Path) -> Backbone:
    """Return the backbone of a folder.

    Raises:
        WeightsError: no tokenizer, missing or misshapen tensors, or a network that is not for text.
    """
    config = _transformers_seq2seq.with_generation(config, where)
    sizes, text = _native(config, where), _text(config, where)
    if sizes is not None:
        weights = next(
            (where / name for name in ("model.safetensors", "pytorch_model.bin") if (where / name).exists()), where / "model.safetensors"
        )
        backbone = _bert.assemble(_bert.read_bert((weights,)), str(weights), **asdict(sizes))
    else:
        from pretune.backbones._transformers_cuts import cut

        network, report = pretrained(where)
        backbone = cut(_encoder_of(network), text)
        backbone.report = report
        if _transformers_seq2seq.is_one(config):
            _transformers_seq2seq.give_decoder(backbone, config, lambda: pretrained(where, _whole_class())[0])
        backbone.scoring = replace(backbone.scoring, layer=partial(_output_layer, where))
    return _finished(backbone, config, where, text)


def from_scratch(config: Mapping[str, Any], where: Path) -> Backbone:
    """Return the architecture of a folder with its tokenizer and randomly initialised weights."""
    tied = {"tie_word_embeddings": True} if config.get("tie_word_embeddings") is False else {}  # there is no other layer to read
    backbone = build({**config, **tied}, **_facts(config, where))
    backbone.modality = _text(config, where)
    return backbone


def build(config: Mapping[str, Any], *, separator: int | None = None, max_tokens: int = _LONGEST) -> Backbone:
    """Return the architecture that a config.json describes, with randomly initialised weights and without a tokenizer."""
    sizes = _bert.sizes_of(config, separator=separator, max_tokens=max_tokens)
    if sizes is not None:
        backbone = _bert.assemble(None, "", **asdict(sizes))
    else:
        from transformers import AutoConfig

        from pretune.backbones._transformers_cuts import cut

        settings = AutoConfig.for_model(**{k: v for k, v in config.items() if k not in SAVED_WITH})
        network = _class_for(settings).from_config(settings, attn_implementation="sdpa", trust_remote_code=False)
        backbone = cut(_encoder_of(network), Text(max_tokens=max_tokens))
        if _transformers_seq2seq.is_one(config):
            _transformers_seq2seq.give_decoder(backbone, config, lambda: _whole_class().from_config(settings, trust_remote_code=False))
    backbone.builder = Builder(id="", settings={"config": dict(config), "separator": separator, "max_tokens": max_tokens})
    return backbone


def _finished(backbone: Backbone, config: Mapping[str, Any], where: Path, text: Text) -> Backbone:
    backbone.modality = text
    backbone.builder = Builder(id="", settings={"config": dict(config), **_facts(config, where)})
    return backbone


def _facts(config: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Return what the network depends on besides its config: the tokenizer's separator and length."""
    text = _text(config, where)
    return {"separator": tokenizing.special_id(text.tokenizer, *_SEPARATORS), "max_tokens": text.max_tokens}


def _native(config: Mapping[str, Any], where: Path) -> Any:
    return _bert.sizes_of(config, **_facts(config, where)) if config.get("model_type") in _bert.FAMILIES else None


# --- preprocessing -------------------------------------------------------------------------------


def _text(config: Mapping[str, Any], where: Path) -> Text:
    """Return the tokenizer of a folder and how long a text may be."""
    content = tokenizer_of(config, where)
    positions = _positions(config)
    stated = [_stated(where / "sentence_bert_config.json", "max_seq_length"), _stated(where / "tokenizer_config.json", "model_max_length")]
    limits = [limit for limit in (*stated, positions, _LONGEST) if limit]
    return Text(tokenizer=content, max_tokens=min(limits), positions=positions)


def tokenizer_of(config: Mapping[str, Any], where: Path) -> str:
    """Return the content of a folder's tokenizer.json, made of what it has where it is not there.

    Raises:
        WeightsError: nothing there is a tokenizer.
    """
    path = where / TOKENIZER_FILE
    return path.read_text(encoding="utf-8") if path.exists() else _converted(config, where)


def _positions(config: Mapping[str, Any]) -> int | None:
    """Return the tokens a network can take, None where there is no limit."""
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if config.get("model_type") in _ENCODERS or most is None:
        return None
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        most -= int(config.get("pad_token_id", 1)) + 1
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    bounded = config.get("model_type") != "modernbert" and window
    return min(int(most), int(window)) if bounded else int(most)


def _stated(path: Path, key: str) -> int | None:
    """Return a length from a settings file, None where it is missing or stands for no limit."""
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8")).get(key)
    return int(value) if isinstance(value, int | float) and 4 <= value < 1e6 else None


def _converted(config: Mapping[str, Any], where: Path) -> str:
    """Return the tokenizer of a folder that has its vocabulary in an older form only."""
    if any(key in config for key in _NOT_TEXT) and not any(where.glob("*vocab*")):
        raise WeightsError(f"{where} is a {config.get('model_type')} network, which does not take text. For images write timm:NAME.")
    from transformers import AutoTokenizer

    try:
        made: Any = AutoTokenizer.from_pretrained(where, local_files_only=True, trust_remote_code=False)
        return made.backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError, ImportError) as error:
        why = _reason(error)
        raise WeightsError(f"{where} has no {TOKENIZER_FILE}, and none could be made of what it has ({why}). Add the file.") from None


# --- networks of transformers --------------------------------------------------------------------


def _class_for(settings: Any) -> Any:
    """Return the class that builds the encoder alone where there is a decoder beside it, and there is such a class."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES as NAMES

    both = getattr(settings, "is_encoder_decoder", False) or settings.model_type in _ENCODERS
    return AutoModelForTextEncoding if both and settings.model_type in NAMES else AutoModel


def _encoder_of(network: Any) -> Any:
    """Return the encoder of a network that holds a decoder too; another as it is."""
    return network.get_encoder() if getattr(network.config, "is_encoder_decoder", False) and hasattr(network, "decoder") else network


def _whole_class() -> Any:
    """Return the class that builds an encoder-decoder with the scores of its tokens."""
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM


def _reason(error: Exception) -> str:
    """Return what the library says is wrong, but not its advice to run code that comes with the weights."""
    if "trust_remote_code" in str(error):
        return "it is Python code that comes with the weights, which is never run"
    return " ".join(str(error).split())[:200]


def pretrained(where: Path, kind: Any = None, *, settings: Any = None, attention: str = "sdpa") -> tuple[Any, LoadReport]:
    """Load a network with `transformers`' own loader, refusing what it would only warn of.

    Args:
        where: its folder.
        kind: the library's class that loads it; None for that of an encoder or decoder alone.
        settings: its configuration; None for that of the folder.
        attention: the library's implementation of attention.
    """
    import torch
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would warn of is refused or told below
    try:
        settings = settings or AutoConfig.from_pretrained(where, local_files_only=True, trust_remote_code=False)
        network, loading_info = (kind or _class_for(settings)).from_pretrained(
            where,
            config=settings,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation=attention,
            dtype=torch.float32,
        )
    except Exception as error:  # noqa: BLE001 - whatever a damaged folder leads that library to
        damaged = (f"{path.name}: {why}" for path in sorted(where.glob("*.safetensors")) if (why := header_fault(path)))
        why = next(damaged, "") or _reason(error)
        raise WeightsError(f"{where} could not be loaded: {why}. Is it a whole folder of a model?") from None
    computed = {f"{name}.weight" for name, module in network.named_modules() if "Sinusoidal" in type(module).__name__}
    missing = tuple(name for name in loading_info["missing_keys"] if not name.startswith(_UNUSED) and name not in computed)
    wrong = tuple(str(item) for item in loading_info.get("mismatched_keys", ()))
    if missing or wrong:
        shown = ", ".join([*missing, *wrong][:6])
        raise WeightsError(
            f"{where} does not fit its own config.json: {len(missing)} tensors missing, {len(wrong)} of another shape ({shown})."
        )
    own = network.state_dict()
    require_floats(own, _of_files(where, f"{network.base_model_prefix}."), str(where))
    require_finite(network, own, str(where))
    return network, LoadReport(source=str(where), matched=len(own), unexpected=tuple(_unplaced(loading_info["unexpected_keys"], network)))


def _output_layer(where: Path) -> Tensor:
    """Return the weight (V, D) by which a folder's network scores tokens.

    Raises:
        WeightsError: its files hold none.
    """
    from safetensors import safe_open

    for path in sorted(where.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in _OUTPUTS:
                if name in file.keys():  # noqa: SIM118 - it is no dictionary
                    return file.get_tensor(name).float()
    for path in sorted(where.glob("pytorch_model*.bin")):
        tensors = read_state(path).tensors
        for name in _OUTPUTS:
            if name in tensors:
                return tensors[name].float()
    raise WeightsError(f"{where} has no output layer ({' or '.join(_OUTPUTS)}), so its network cannot write.")


def _of_files(where: Path, prefix: str) -> dict[str, Any]:
    """Return what a folder's files hold by the network's names: only the types are looked at, which the library would change."""
    from safetensors import safe_open

    out: dict[str, Any] = {}
    for path in sorted(where.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                empty = file.get_slice(name)
                out[name.removeprefix(prefix)] = empty[:0] if empty.get_shape() else file.get_tensor(name)
    if not out:
        for path in sorted(where.glob("pytorch_model*.bin")):
            out |= {name.removeprefix(prefix): tensor for name, tensor in read_state(path).tensors.items()}
    return out


def _unplaced(names: Any, network: Any) -> list[str]:
    """Return tensors of the file without a place, heads and the decoder not counted."""
    prefix = f"{network.base_model_prefix}."
    return sorted(name for name in names if name.startswith(prefix) and not name.removeprefix(prefix).startswith((*_UNUSED, "decoder.")))
