"""A backbone as a self-contained folder: how to build it, its weights, its preprocessing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from pretune import config, registry
from pretune.backbones._base import Backbone, Builder, load_matching
from pretune.backbones._load import build
from pretune.errors import WeightsError
from pretune.modalities import CarriesFiles

BUILDER, WEIGHTS = "builder.json", "weights.safetensors"


def save(backbone: Backbone, folder: Path) -> None:
    """Write builder.json, weights.safetensors and the preprocessing's own files (a tokenizer); complete or not at all.

    The pretrained head is not part of it.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = _files(backbone.modality)
    for name, content in files.items():
        _replace(folder / name, lambda path, text=content: path.write_text(text, encoding="utf-8"))
    _replace(folder / WEIGHTS, lambda path: save_file(_separate(backbone.stages.state_dict()), path))
    preprocessing = {key: value for key, value in config.to_tree(backbone.modality).items() if value not in files.values()}
    told = {
        "id": backbone.builder.id,
        "settings": backbone.builder.settings,
        "modality": {**preprocessing, "name": registry.name_of(backbone.modality)},
        "layout": backbone.layout,
        "width": backbone.width,
        "pooling": backbone.pooling,
        "files": list(files),
    }
    _replace(folder / BUILDER, lambda path: path.write_text(json.dumps(told, indent=1), encoding="utf-8"))


def read(folder: Path) -> Backbone:
    """Return the backbone of a folder that `save` wrote.

    Raises:
        WeightsError: not such a folder, or its weights are cut off or do not fit.
    """
    from pretune.backbones._states import read_state

    told = _read_builder(folder)
    backbone = build(Builder(id=told["id"], settings=told["settings"]))
    backbone.modality = _read_modality(folder, told)
    backbone.pooling = told["pooling"]
    if (backbone.layout, backbone.width) != (told["layout"], told["width"]):
        raise WeightsError(
            f"{folder}: {told['id']} now builds {backbone.layout} features of width {backbone.width}, but was saved with "
            f"{told['layout']} of width {told['width']}. Install the library versions of the run (environment.json beside it)."
        )
    state = read_state(folder / WEIGHTS)
    backbone.report = load_matching(backbone.stages, state.tensors, source=state.source)
    backbone.classifier = None
    return backbone


def _read_builder(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / BUILDER).read_text(encoding="utf-8"))
    except OSError:
        raise WeightsError(
            f"{folder} is not a saved backbone: it has no {BUILDER}. Give a run folder of pretune, or its backbone/ folder."
        ) from None
    except ValueError as error:
        raise WeightsError(f"{folder / BUILDER} is damaged ({error}). Take another run.") from None


def _read_modality(folder: Path, told: dict[str, Any]) -> Any:
    modality = config.component("modalities", told["modality"], "modality")
    if not told["files"]:
        return modality
    return modality.with_files({name: (folder / name).read_text(encoding="utf-8") for name in told["files"]})


def _files(modality: Any) -> dict[str, str]:
    return modality.files() if isinstance(modality, CarriesFiles) else {}


def _separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors contiguous and without shared memory, as safetensors wants them."""
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
