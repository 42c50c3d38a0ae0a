"""Recognised words as subtitles: SubRip (.srt) and WebVTT (.vtt)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pretune.errors import SettingError

ENDINGS = (".srt", ".vtt")
_LETTERS, _SECONDS, _PAUSE = 42, 6.0, 1.0
"""Letters and seconds of a subtitle at most, and the pause between words at which a new one begins, as is usual on screens."""


def content(rows: Sequence[Mapping[str, Any]], ending: str) -> str:
    """Return the subtitles of one audio file.

    Args:
        rows: of `predict`; one of them.
        ending: of the file, '.srt' or '.vtt'.

    Raises:
        SettingError: there are several inputs, it could not be read, or the run recognises no speech.
    """
    if len(rows) != 1:
        raise SettingError(f"subtitles are for one audio file, and there are {len(rows)} inputs. Name one, or write out=words.json.")
    row = rows[0]
    if "error" in row:
        raise SettingError(f"{row['id']}: {row['error']}")
    comma = "," if ending == ".srt" else "."
    blocks = []
    for number, cue in enumerate(_cues(row), 1):
        start, end = (_time(seconds, comma) for seconds in (cue["start"], cue["end"]))
        text = "\n".join(textwrap.wrap(cue["text"], _LETTERS))
        blocks.append(f"{number}\n{start} --> {end}\n{text}\n" if ending == ".srt" else f"{start} --> {end}\n{text}\n")
    return "\n".join(blocks) if ending == ".srt" else "\n".join(["WEBVTT\n", *blocks])


def _cues(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return start, end and text of each subtitle: of words with times as many as fit on a screen, else the pieces of the file.

    Raises:
        SettingError: neither is there.
    """
    words = row.get("words")
    if not isinstance(words, list):
        raise SettingError("this run recognises no speech: subtitles are for runs of task=speech_recognition. Write out=predictions.json.")
    if not all("start" in word for word in words):
        return row["segments"]
    return [{"start": some[0]["start"], "end": some[-1]["end"], "text": " ".join(word["word"] for word in some)} for some in _cut(words)]


def _cut(words: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return words in groups that fit on a screen."""
    groups: list[list[Mapping[str, Any]]] = []
    for word in words:
        if groups:
            group = groups[-1]
            letters = sum(len(one["word"]) + 1 for one in group) + len(word["word"])
            if letters <= _LETTERS and word["end"] - group[0]["start"] <= _SECONDS and word["start"] - group[-1]["end"] <= _PAUSE:
                group.append(word)
                continue
        groups.append([word])
    return groups


def _time(seconds: float, comma: str) -> str:
    """Return a time as 00:01:02,345."""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{comma}{rest % 1000:03d}"
