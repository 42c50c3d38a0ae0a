"""Sound files as they lie on disks: cut short, with lengths that lie, far too long, with strange rates; and no chatter about it."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pretune.errors import BadItem
from pretune.modalities import _audio_decode
from pretune.modalities._audio_header import look, mpeg_frame
from pretune.modalities.audio import Audio
from tests.audio_files import encoded, tone

AUDIO = Audio(sample_rate=16_000)
SECONDS = 3.0


def _sound(kind: str, subtype: str | None, rate: int = 44_100) -> bytes:
    return encoded(tone(440, SECONDS, rate), rate, kind, subtype)


def _repaired(raw: bytes) -> tuple[float, str]:
    """Return how long a file plays and what was mended."""
    done = AUDIO.decode(raw)
    return len(done.array) / AUDIO.sample_rate, str(done.info.get("repaired", ""))


KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "FLOAT"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_file_cut_short_plays_what_is_there_and_says_what_is_lost(kind: str, subtype: str | None, share: float) -> None:
    rate = 48_000 if subtype == "OPUS" else 44_100
    raw = _sound(kind, subtype, rate)
    assert _repaired(raw) == (pytest.approx(SECONDS, abs=0.1), "")
    played, message = _repaired(raw[: int(len(raw) * share)])
    assert share * SECONDS - 1.1 < played < SECONDS * share + 0.1
    assert "cut off" in message
    if kind == "OGG":  # it says nowhere how long it is; the header of the page that was cut says some of it
        assert "its last page is missing" in message
        lost = float(message.partition("at least ")[2].partition(" s are lost")[0] or 0)
        assert lost <= SECONDS - played + 0.01
    else:
        lost = float(message.partition("promises ")[2].partition(" s more")[0])
        assert lost == pytest.approx(SECONDS - played, abs=0.2 if subtype == "IMA_ADPCM" else 0.1)  # which has large blocks


def test_a_flac_loses_no_more_than_the_frame_that_is_damaged() -> None:
    raw = _sound("FLAC", "PCM_16")
    for share in (0.3, 0.6, 0.95):
        played, _ = _repaired(raw[: int(len(raw) * share)])
        assert share * SECONDS - 4 * 4096 / 44_100 < played


def _without_length(kind: str, value: int) -> bytes:
    raw = bytearray(_sound(kind, "PCM_16"))
    if kind == "WAV":
        struct.pack_into("<I", raw, 4, 0)
        struct.pack_into("<I", raw, raw.index(b"data") + 4, value)
    elif kind == "RF64":
        struct.pack_into("<Q", raw, raw.index(b"ds64") + 16, value)
    elif kind == "AIFF":
        struct.pack_into(">I", raw, raw.index(b"COMM") + 10, 0)
        struct.pack_into(">I", raw, raw.index(b"SSND") + 4, value)
    elif kind == "AU":
        struct.pack_into(">I", raw, 8, value)
    elif kind == "CAF":
        struct.pack_into(">q", raw, raw.index(b"data") + 4, value)
    return bytes(raw)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("WAV", 0), ("WAV", 0xFFFF_FFFF), ("WAV", 0x7FFF_FFFF), ("WAV", 0xFFFF_FFDB), ("RF64", 0), ("AIFF", 0), ("AIFF", 8),
     ("AU", 0), ("AU", 0xFFFF_FFFF), ("CAF", -1), ("CAF", 0)],
)  # fmt: skip
def test_a_header_without_a_length_is_read_to_the_end(kind: str, value: int) -> None:
    played, message = _repaired(_without_length(kind, value))
    assert played == pytest.approx(SECONDS, abs=0.01)
    assert message == "its header does not say how long it is; it was read to its end"


def test_an_empty_sound_with_further_chunks_is_empty() -> None:
    raw = encoded(np.zeros(0))
    at = raw.index(b"data") + 8
    for rest in (b"", b"LIST" + struct.pack("<I", 4) + b"INFO"):
        with pytest.raises(BadItem, match="not one sample"):
            AUDIO.decode(raw[:at] + rest)


def test_a_flac_without_a_length_is_whole() -> None:
    raw = bytearray(_sound("FLAC", "PCM_16"))
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    assert _repaired(bytes(raw)) == (pytest.approx(SECONDS, abs=0.01), "")


# --- lengths and rates that cannot be --------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 99, 50_000_000])
def test_impossible_rates_are_refused_before_anything_is_resampled(rate: int) -> None:
    raw = bytearray(encoded(tone(440)))
    struct.pack_into("<I", raw, 24, rate)
    with pytest.raises(BadItem, match=rf"recorded at {rate:,} Hz") as caught:
        AUDIO.decode(bytes(raw))
    assert caught.value.reason == "bad_rate"


def _quiet_but_for(place: float, length: float, rate: int) -> NDArray[np.float32]:
    """A long recording with a tone at one place."""
    out = (1e-3 * np.random.default_rng(0).standard_normal(int(length * rate))).astype(np.float32)
    loud = tone(440, 2.0, rate)
    out[int(place * rate) : int(place * rate) + len(loud)] += loud.astype(np.float32)
    return out


@pytest.mark.parametrize("rate", [16_000, 8000])
@pytest.mark.parametrize("place", [0.5, 17.0, 37.5])
def test_of_a_long_file_the_loudest_part_is_kept(place: float, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audio_decode, "KEPT", 16_000 * 10)
    done = Audio(seconds=2.0).decode(encoded(_quiet_but_for(place, 40.0, rate), rate))
    assert len(done.array) == 160_000
    assert "lasts 40 s, of which the 10 s around its loudest part were kept" in str(done.info["repaired"])
    whole = Audio(seconds=2.0)
    monkeypatch.setattr(_audio_decode, "KEPT", 16_000 * 100)
    all_of_it = whole.decode(encoded(_quiet_but_for(place, 40.0, rate), rate))
    assert "repaired" not in all_of_it.info
    kept, full = whole.view(done.array, None, None), whole.view(all_of_it.array, None, None)
    np.testing.assert_allclose(kept.astype(np.float32), full.astype(np.float32), atol=2e-3)
    assert len(Audio(seconds=20.0).decode(encoded(_quiet_but_for(place, 40.0, rate), rate)).array) == 640_000, "a window is always kept"


def test_a_file_that_is_predicted_in_pieces_is_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audio_decode, "KEPT", 16_000 * 10)
    raw = encoded(_quiet_but_for(17.0, 40.0, 16_000), 16_000)
    done = Audio(seconds=2.0).decode_whole(raw)
    assert (len(done.array), "repaired" in done.info) == (640_000, False)
    monkeypatch.setattr(_audio_decode, "_WHOLE_HOURS", 20 / 3600)
    with pytest.raises(BadItem, match="lasts more than"):
        Audio(seconds=2.0).decode_whole(raw)


def test_memory_does_not_grow_with_a_files_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audio_decode, "KEPT", 16_000 * 30)
    sound = np.zeros(16_000 * 600, np.float32)  # ten minutes, of which 30 seconds are kept
    sound[5000:90_000] = tone(440, 85_000 / 16_000)
    raw = encoded(sound, 16_000, "FLAC")
    del sound
    AUDIO.decode(raw)  # libraries are imported
    tracemalloc.start()
    assert len(AUDIO.decode(raw).array) == 480_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6, "38 MB would be all of it"


def test_what_lasts_longer_than_a_day_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audio_decode, "_HOURS", 0.001)
    with pytest.raises(BadItem, match=r"hours\. Cut it into the pieces"):
        AUDIO.decode(encoded(tone(440, 5.0)))


def test_many_channels_take_no_more_memory() -> None:
    raw = encoded(np.tile(tone(440, 1.0)[:, None], (1, 64)).astype(np.float32), subtype="PCM_16")
    AUDIO.decode(raw)
    tracemalloc.start()
    AUDIO.decode(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 4 * _audio_decode._BLOCK


# --- damage inside, and what libraries say of it -----------------------------------------------------------


def _garbled(raw: bytes) -> bytes:
    return raw[: len(raw) // 2] + b"garbage" * 30 + raw[len(raw) // 2 :]


def test_garbage_inside_an_mp3_is_in_the_ledger_and_tags_are_not() -> None:
    raw = _sound("MP3", None)
    tagged = b"ID3\x03\0\0\0\0\0\x10" + bytes(16) + raw + b"TAG" + bytes(125)
    assert _repaired(tagged) == (pytest.approx(SECONDS, abs=0.1), "")
    assert "bytes of it are no MP3 data" in _repaired(_garbled(raw))[1]
    assert "cut off" in _repaired(raw[:-50])[1]


def test_frames_of_every_mpeg_version_are_measured() -> None:
    for rate in (8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000):
        raw = _sound("MP3", None, rate)
        header = look(raw)
        assert header.notes == []
        assert mpeg_frame(raw, mpeg_frame(raw, 0)) > 0
    assert mpeg_frame(b"\xff\xff\xff\xff", 0) == mpeg_frame(b"\xff\xfb", 0) == 0


SCRIPT = """
import os, sys
from pretune.modalities._audio_quiet import quiet
from pretune.modalities.audio import Audio
raw = open(sys.argv[1], "rb").read()
print("before", file=sys.stderr)
Audio().decode(raw)
with quiet():
    os.write(2, b"a library's line\\n")
    print("during", file=sys.stderr)
print("after", file=sys.stderr)
os.write(2, b"a crash is seen\\n")
"""


def test_libraries_write_nothing_to_the_terminal_and_python_still_does(tmp_path: Any) -> None:
    (tmp_path / "a.mp3").write_bytes(_garbled(_sound("MP3", None)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "a.mp3")], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stderr.splitlines() == ["before", "during", "after", "a crash is seen"]
    assert done.stdout == ""


def test_no_bytes_are_too_strange(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    starts = [_sound(kind, subtype, 48_000)[:400] for kind, subtype in KINDS]
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 600_000
    for start in starts:
        for _ in range(12):
            raw = bytearray(start + rng.bytes(200))
            for place in rng.integers(0, 100, 6):
                raw[place] = rng.integers(256)
            with contextlib.suppress(BadItem):
                AUDIO.decode(bytes(raw))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < limit
    assert capfd.readouterr().err == ""
