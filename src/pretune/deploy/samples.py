"""What a pretrained model makes, for the report: texts, or one sheet of pictures, sounds as spectrograms.

Texts are written to samples.json; a sheet into the run's `pictures/` folder as samples.png, with a samples.json that says
what it shows; texts whose gaps were filled to filled.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretune.deploy._sheets import Pixels, sheet
from pretune.deploy.generator import read_learner
from pretune.modalities.audio import Audio
from pretune.modalities.text import Text
from pretune.modalities.transforms.spectrogram import spectrogram
from pretune.objectives import Objective, Sample, Wanted
from pretune.training.run_dir import RunDir

COUNT = 12
"""Samples of a sheet; models that know classes make them class by class."""
TEXTS = 2
"""Texts that are shown."""
_ROW = 6
_TOKENS = 200
"""Tokens of a text."""
_SAMPLES = 1_000
"""Samples of a sound at most where each is computed on its own."""


def write(run: Path, objective: Objective) -> None:
    """Let the model of a finished run make a few, where its objective makes any."""
    learner: Any = read_learner(run, objective)
    if not hasattr(learner, "generate") or hasattr(learner, "reconstructions"):  # what fills in is shown on held-out items
        return
    modality = learner.backbone.modality
    if isinstance(modality, Text):
        texts = [sample.text for sample in learner.generate(Wanted(count=TEXTS, length=_TOKENS, temperature=0.8))]
        RunDir(run).write_json("samples.json", texts)
        return
    one_by_one = isinstance(modality, Audio) and modality.features == "waveform"
    made = learner.generate(Wanted(count=COUNT, length=_SAMPLES if one_by_one else None))
    tiles = [(_shown(sample), sample.label or "") for sample in made]
    captions = [caption for _, caption in tiles]
    rows = [("", tiles[k : k + _ROW]) for k in range(0, len(tiles), _ROW)]
    _write_sheet(run, rows, "made by the model: " + " · ".join(captions), captions)


def write_reconstructions(run: Path, shown: list[tuple[str, list[Any]]]) -> None:
    """Write what an objective that fills in made of held-out pictures or texts, where it did."""
    if shown and isinstance(shown[0][1][0], str):
        items = zip(*(texts for _, texts in shown), strict=True)
        RunDir(run).write_json("filled.json", [dict(zip([heading for heading, _ in shown], item, strict=True)) for item in items])
    elif shown:
        rows = [(heading, [(pixels, "") for pixels in row]) for heading, row in shown]
        headings = [heading for heading, _ in shown]
        _write_sheet(run, rows, "from above: " + "; ".join(headings), headings)


def _write_sheet(run: Path, rows: list[tuple[str, list[tuple[Pixels, str]]]], note: str, captions: list[str]) -> None:
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    sheet(rows).save(folder / "samples.png")
    entry = {"picture": "samples.png", "note": note, "captions": captions}
    (folder / "samples.json").write_text(json.dumps([entry], indent=1), encoding="utf-8")


def _shown(sample: Sample) -> Pixels:
    """Return what a person sees of a sample."""
    if sample.picture is not None:
        return sample.picture
    assert sample.sound is not None
    return spectrogram(sample.sound, sample.sample_rate)
