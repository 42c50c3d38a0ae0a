"""Networks of text and audio, and detectors, of Hugging Face `transformers`: a folder, or a name on the hub, which is then downloaded."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pretune.backbones import _transformers_audio, _transformers_detectors, _transformers_text
from pretune.backbones._base import Backbone, BackboneSource, Builder
from pretune.backbones._ctc_head import read_ctc_head
from pretune.backbones._fetch import absent, fetch, network_errors
from pretune.backbones._network import require_reachable
from pretune.backbones._packages import folder as weights_folder
from pretune.backbones._states import read_state
from pretune.errors import PretuneError, SettingError, WeightsError, did_you_mean
from pretune.modalities.audio import Audio

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
_UNWANTED = ("*/*",)
_WHOLE = "model.safetensors"
_SHARDS = "model.safetensors.index.json"
_FETCHES = frozenset(("use_pretrained_backbone", "use_timm_backbone"))
"""Entries of a config by which `transformers` fetches a second network."""


@dataclass(frozen=True, kw_only=True)
class Transformers(BackboneSource):
    """`transformers:NAME_OR_FOLDER`: encoders and decoders of text, encoders of audio, detectors."""

    def names(self, pattern: str = "") -> list[str]:
        """Return what is on this machine: in PRETUNE_WEIGHTS and in the hub's cache."""
        own = weights_folder()
        kept = {path.parent.name for path in own.glob(f"*/{_CONFIG}")} if own else set()
        return [name for name in sorted(kept | _cached()) if pattern in name]

    def load(self, name: str, *, offline: bool = False) -> Backbone:
        """Return the backbone with its weights and tokenizer, downloading them if they are not on this machine."""
        where, licence = _find(name, offline)
        config = _config(where)
        with _understood(where):
            if config.get("model_type") in _transformers_detectors.FAMILIES:
                backbone = _transformers_detectors.load(config, _preprocessor(where), where)
            elif config.get("model_type") in _transformers_audio.FAMILIES:
                state = _tensors(where)
                backbone = _transformers_audio.assemble(config, _preprocessor(where), state, str(where))
                backbone.recogniser = read_ctc_head(config, state, where) if config["model_type"] in _transformers_audio.WAVEFORM else None
                _add_tokenizer(backbone, config, where)
            else:
                backbone = _transformers_text.load(config, where)
        assert backbone.report is not None
        backbone.report = replace(backbone.report, licence=licence)
        backbone.builder = Builder(id=f"transformers:{name}", settings=backbone.builder.settings)
        return backbone

    def build(self, name: str, *, config: Mapping[str, Any] | None = None, **settings: Any) -> Backbone:
        """Return the same architecture with randomly initialised weights; `config` is that of a backbone that was loaded once."""
        if config is not None:
            config = _safe(config, name)
        if config is None:
            where, _ = _find(name, offline=True)
            config = _config(where)
            with _understood(where):
                if config.get("model_type") in _transformers_detectors.FAMILIES:
                    backbone = _transformers_detectors.build(config, _preprocessor(where))
                elif config.get("model_type") in _transformers_audio.FAMILIES:
                    backbone = _transformers_audio.assemble(config, _preprocessor(where), None, "")
                    _add_tokenizer(backbone, config, where)
                else:
                    backbone = _transformers_text.from_scratch(config, where)
        elif config.get("model_type") in _transformers_detectors.FAMILIES:
            backbone = _transformers_detectors.build(config, settings.get("preprocessor", {}))
        elif config.get("model_type") in _transformers_audio.FAMILIES:
            backbone = _transformers_audio.assemble(config, settings.get("preprocessor", {}), None, "")
        else:
            backbone = _transformers_text.build(config, **settings)
        backbone.builder = Builder(id=f"transformers:{name}", settings=backbone.builder.settings)
        return backbone


# --- finding and fetching ------------------------------------------------------------------------


def _find(name: str, offline: bool) -> tuple[Path, str | None]:
    """Return the folder of a model and its licence where it is known."""
    for place in (Path(name).expanduser(), *_own_places(name)):
        if (place / _CONFIG).is_file():
            return place, None
    if Path(name).expanduser().exists():
        raise WeightsError(f"{name} holds no {_CONFIG}: it is no model of transformers. Give the folder that save_pretrained wrote.")
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise SettingError(f"there is no folder {name}. {did_you_mean(name, [str(p) for p in Path(name).expanduser().parent.glob('*')])}")
    kept = _kept(name)
    if kept is not None:
        return kept, None
    if offline:
        raise absent(
            f"transformers:{name}", f"https://huggingface.co/{name}", name.rpartition("/")[2], f"a folder: transformers:FOLDER/{name}"
        )
    return _download(name)


def _own_places(name: str) -> list[Path]:
    own = weights_folder()
    return [own / name, own / name.rpartition("/")[2]] if own else []


def _kept(name: str) -> Path | None:
    """Return the snapshot of a hub name in the local cache, None where it is not there whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return path if (path / _CONFIG).is_file() and any((path / file).exists() for file in (_WHOLE, _SHARDS, "pytorch_model.bin")) else None


def _cached() -> set[str]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return {repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model"}
    except CacheNotFound:
        return set()


def _download(name: str) -> tuple[Path, str | None]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError

    address = f"{ENDPOINT}/{name}"
    require_reachable(f"transformers:{name}", address, "give a folder that save_pretrained wrote: transformers:FOLDER")
    try:
        info = HfApi().model_info(name, files_metadata=True)
    except (HfHubHTTPError, OSError, ValueError, *network_errors()) as error:
        why = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"transformers:{name} could not be found at {address}: {type(error).__name__}: {why}. "
            "Check its spelling, or give a folder that save_pretrained wrote: transformers:FOLDER."
        ) from None
    files = [file for file in info.siblings or [] if "/" not in file.rfilename and Path(file.rfilename).match(_WANTED[-1])]
    wanted = [*_WANTED, *([] if files else ["pytorch_model*.bin"])]
    size = sum(file.size or 0 for file in info.siblings or [] if any(Path(file.rfilename).match(p) for p in wanted))
    licence = str((info.card_data or {}).get("license") or "not stated")
    get = lambda: Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=list(_UNWANTED)))  # noqa: E731
    return fetch(f"transformers:{name}", address, f"{size / 1e6:.0f} MB", licence, get), licence


# --- reading -------------------------------------------------------------------------------------


def _config(where: Path) -> dict[str, Any]:
    """Return the settings of a folder's network, by which nothing is fetched and no code of the folder is run."""
    return _safe(_read_json(where / _CONFIG), where)


def _safe(config: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """Return such settings; those of a detector name a backbone whose weights its own files have.

    Raises:
        WeightsError: the network needs code of others, or a second network.
    """
    if config.get("model_type") in _transformers_detectors.FAMILIES:
        _refuse_code(_transformers_detectors.without_mention(config), where)
        return _transformers_detectors.without_second(config)
    _refuse_code(config, where)
    return dict(config)


def _refuse_code(config: Mapping[str, Any], where: Path | str) -> None:
    """Refuse a network that exists only as Python files beside its weights, or that would fetch another one.

    Raises:
        WeightsError: says what the folder would run.
    """
    kind, code = config.get("model_type"), config.get("auto_map")
    if code and not _is_known(kind):
        named = ", ".join(sorted(map(str, code.values()))) if isinstance(code, Mapping) else str(code)
        raise WeightsError(
            f"transformers:{where}: the network {kind!r} is Python code that comes with the weights ({named}). Such code is never run. "
            "Take a network that transformers itself has, or write it as a module of your own: backbone=file:WEIGHTS@my_module:make_model."
        )
    for key, value in _entries(config):
        if key in _FETCHES and value:
            raise WeightsError(
                f"transformers:{where}: its config asks for another network to be downloaded ({key}). Name that one yourself."
            )
        if "attn_implementation" in key and "/" in str(value):
            raise WeightsError(f"transformers:{where}: its config asks for {value}, code of the hub, which is never fetched or run.")
    if any(key == "auto_map" for part in config.values() for key, _ in _entries(part)):
        raise WeightsError(
            f"transformers:{where}: a part of the network is Python code that comes with the weights. Such code is never run."
        )


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries of all tables in a config."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield str(key), value
            yield from _entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _entries(value)


@contextmanager
def _understood(where: Path) -> Generator[None]:
    """Turn what a folder's wrong or missing settings lead to into one sentence."""
    try:
        yield
    except PretuneError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{where} describes no network that can be built here ({type(error).__name__}: {why}). Is {_CONFIG} whole, and written by a "
            "version of transformers that is installed?"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read ({error}). Fetch the model again.") from None
    if not isinstance(record, dict):
        raise WeightsError(f"{path} holds no settings by name. Fetch the model again.")
    return record


def _preprocessor(where: Path) -> dict[str, Any]:
    """Return the settings of a network's preprocessing; empty where there are none."""
    return _read_json(where / _PREPROCESSOR) if (where / _PREPROCESSOR).exists() else {}


def _add_tokenizer(backbone: Backbone, config: Mapping[str, Any], where: Path) -> None:
    """Give the preprocessing of a network that writes what is said its tokenizer; without one it has no decoder."""
    if backbone.late_decoder is None:
        return
    try:
        content = _transformers_text.tokenizer_of(config, where)
    except WeightsError:
        backbone.late_decoder = None
        return
    assert isinstance(backbone.modality, Audio)
    backbone.modality = replace(backbone.modality, tokenizer=content)


def _is_known(kind: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(kind, str) and kind in CONFIG_MAPPING


def _tensors(where: Path) -> dict[str, Tensor]:
    """Return all tensors of a model's folder, in one file or in several."""
    if (where / _SHARDS).exists():
        shards = sorted(set(_read_json(where / _SHARDS)["weight_map"].values()))
        if strange := [shard for shard in shards if Path(shard).name != shard]:
            raise WeightsError(f"{where / _SHARDS} names a file outside its folder ({strange[0]}). Fetch the model again.")
        return {name: tensor for shard in shards for name, tensor in read_state(where / shard).tensors.items()}
    return read_state(where / (_WHOLE if (where / _WHOLE).exists() else "pytorch_model.bin")).tensors
