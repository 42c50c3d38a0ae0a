"""A backbone as a self-contained folder: how to build it, its weights, its preprocessing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from pretune import config, registry, saved
from pretune.backbones._base import Backbone, Builder, LoadReport, load_matching
from pretune.backbones._bounded import bounded
from pretune.backbones._load import build
from pretune.backbones._trust import require_trust
from pretune.errors import SettingError, WeightsError
from pretune.modalities import Modality

BUILDER, WEIGHTS = "builder.json", "weights.safetensors"


def save(backbone: Backbone, folder: Path) -> None:
    """Write builder.json, weights.safetensors and the preprocessing's own files (a tokenizer); complete or not at all.

    The pretrained head is not part of it.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = backbone.modality.files()
    for name, content in files.items():
        _replace(folder / name, lambda path, text=content: path.write_text(text, encoding="utf-8"))
    _replace(folder / WEIGHTS, lambda path: save_file(_separate(backbone.stages.state_dict()), path))
    preprocessing = {key: value for key, value in config.to_tree(backbone.modality).items() if value not in files.values()}
    record = {
        "id": backbone.builder.id,
        "settings": backbone.builder.settings,
        "modality": {**preprocessing, "name": registry.name_of(backbone.modality)},
        "layout": backbone.layout,
        "width": backbone.width,
        "pooling": backbone.pooling,
        "files": list(files),
    }
    _replace(folder / BUILDER, lambda path: path.write_text(json.dumps(record, indent=1), encoding="utf-8"))


def read(folder: Path) -> Backbone:
    """Return the backbone of a folder that `save` wrote.

    The folder may come from anybody: nothing in it is run, and it is built by a module of the person's own only where the
    person has named that module (`trusting`).

    Raises:
        WeightsError: not such a folder, or a file of it is damaged.
        SettingError: the network is built by a module that is not trusted.
    """
    record = _read_builder(folder)
    path = folder / BUILDER
    builder = Builder(id=_entry(record, "id", str, path), settings=_entry(record, "settings", dict, path))
    if builder.id.startswith("run:"):
        raise WeightsError(f"{path} names another run ({builder.id}). A run folder refers to its own files only.")
    if builder.id.startswith("transformers:") and not isinstance(builder.settings.get("config"), dict):
        raise saved.damaged(path, "it has no config of its network", WeightsError)  # that of a folder elsewhere would be read
    with saved.reading(path, SettingError):
        require_trust(builder.id, path)
    with bounded(folder / WEIGHTS), saved.reading(path, WeightsError):
        backbone = build(builder)
        backbone.modality = _read_modality(folder, record)
        backbone.pooling = _entry(record, "pooling", str, path)
    if (backbone.layout, backbone.width) != (record.get("layout"), record.get("width")):
        raise WeightsError(
            f"{folder}: {builder.id} now builds {backbone.layout} features of width {backbone.width}, but was saved with "
            f"{record.get('layout')} of width {record.get('width')}. Install the library versions of the run (environment.json beside it)."
        )
    backbone.report = _fill(backbone, folder / WEIGHTS)
    backbone.classifier = None
    return backbone


def read_modality(folder: Path) -> Modality:
    """Return the preprocessing of a folder that `save` wrote, without its network.

    Raises:
        WeightsError: not such a folder, or a file of it is damaged.
    """
    record = _read_builder(folder)
    with saved.reading(folder / BUILDER, WeightsError):
        return _read_modality(folder, record)


def _read_builder(folder: Path) -> dict[str, Any]:
    if not (folder / BUILDER).exists():
        raise WeightsError(f"{folder} is not a saved backbone: it has no {BUILDER}. Give a run folder of pretune, or its backbone/ folder.")
    return saved.json_of(folder / BUILDER, dict, WeightsError)


def _entry(record: dict[str, Any], key: str, kind: type, path: Path) -> Any:
    return saved.field(record, key, kind, path, WeightsError)


def _read_modality(folder: Path, record: dict[str, Any]) -> Any:
    """Return the preprocessing with its own files, whose names the modality knows and the folder does not choose."""
    path = folder / BUILDER
    modality = config.component("modalities", _entry(record, "modality", dict, path), "modality")
    names = _entry(record, "files", list, path)
    if not names:
        return modality
    files = {name: saved.text_of(saved.inside(folder, str(name), path), WeightsError) for name in names}
    with saved.reading(folder / str(names[0]), WeightsError):
        return modality.with_files(files)


def _fill(backbone: Backbone, path: Path) -> LoadReport:
    """Load the weights, every tensor of which must be there and be finite."""
    from pretune.backbones._states import read_state

    state = read_state(path)
    return load_matching(backbone.stages, state.tensors, source=state.source)


def _separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors contiguous and without shared memory, as safetensors requires."""
    seen: set[int] = set()
    out = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        out[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return out


def _replace(path: Path, write: Any) -> None:
    """Write beside the file, then put it in place."""
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    write(part)
    part.replace(path)
