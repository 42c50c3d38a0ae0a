"""Galleries of small images with captions: files in a run's `pictures/` folder, and a JSON file that lists them row by row.

Captions are text of the page, not pixels, so that they follow its colours, its width and its fonts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SIDE = 160
"""The longer side of a tile, in pixels."""
SECONDS, _WHOLE_SECONDS = 5.0, 60.0
"""Seconds of audio that are kept, and of clips with transcripts."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of a gallery."""

    pixels: Pixels
    """(H, W, 3)."""
    caption: str = ""
    axes: tuple[float, float] | None = None
    """Seconds and kHz that a spectrogram shows."""
    audio: tuple[NDArray[Any], int] | None = None
    """Samples (T,) that can be played, and their rate in Hz."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A row of a gallery."""

    tiles: Sequence[Tile]
    heading: str = ""


def write(folder: Path, name: str, strips: Sequence[Strip], note: str, *, ending: str = "jpg") -> None:
    """Write the tiles as `name-00.jpg` … and `name.json`.

    Args:
        folder: exists.
        name: of the gallery.
        strips: its rows.
        note: what it shows.
        ending: jpg, or png for images that blur.
    """
    count, rows = 0, []
    for strip in strips:
        listed = []
        for tile in strip.tiles:
            file = f"{name}-{count:02d}.{ending}"
            thumbnail(tile.pixels, SIDE).save(folder / file, quality=86)
            entry: dict[str, Any] = {"picture": file, "caption": tile.caption, "axes": tile.axes}
            if tile.audio is not None:
                entry["audio"] = f"{name}-{count:02d}.flac"
                entry["seconds"] = write_audio(folder / entry["audio"], *tile.audio)
            listed.append(entry)
            count += 1
        rows.append({"heading": strip.heading, "tiles": listed})
    write_json(folder / f"{name}.json", [{"note": note, "rows": rows}])


def write_audio(path: Path, samples: NDArray[Any], sample_rate: int, *, whole: bool = False) -> float:
    """Write the first seconds as FLAC, no louder than full scale, and return how many seconds.

    Args:
        path: of the file.
        samples: (T,), full scale is 1.
        sample_rate: Hz.
        whole: write a minute, where that is how much there is: a transcript is of all that is said.
    """
    import soundfile

    kept = samples[: round((_WHOLE_SECONDS if whole else SECONDS) * sample_rate)].astype(np.float32)
    soundfile.write(path, kept / max(1.0, float(np.abs(kept).max(initial=0.0))), sample_rate, format="FLAC", subtype="PCM_16")
    return len(kept) / sample_rate


def write_json(path: Path, value: Any) -> None:
    """Write JSON in ASCII: names that are no UTF-8 stay what they are."""
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1), encoding="utf-8")


def thumbnail(pixels: Pixels, side: int) -> Image.Image:
    """Return an image (H, W, 3) whose longer side is `side`; small ones are enlarged without smoothing."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
