"""From a file's bytes to one channel of samples at the working rate."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pretune.errors import BadItem

if TYPE_CHECKING:
    import soundfile

SHORTEST = 0.01
"""Seconds below which there is nothing to analyse: less than half of an analysis window."""
_BLOCK = 1 << 18
"""Frames decoded at once: the memory of a file of any length and width beyond its mono samples."""
_CANCELS = 0.1
"""Channels whose mean keeps less than this share of the loudest one's amplitude cancel each other."""
_FAINT, _OVER = 1e-4, 8.0
"""Peaks below and above which samples are not meant as parts of full scale, and float16 would lose them."""
_OFFSET = 0.05
_SLACK = 0.1
"""Seconds by which lossy formats' headers may be wrong."""
_FLOAT = frozenset(("FLOAT", "DOUBLE"))
_FFMPEG_SECONDS = 120

Info = dict[str, int | float | str]
Samples = NDArray[np.float32]


def decode(raw: bytes, sample_rate: int) -> tuple[NDArray[np.float16], Info]:
    """Return (T,) samples at `sample_rate`, without their mean, and the facts of the file.

    What a file is called does not matter. A file that ends early plays what is there. Channels are averaged;
    where they cancel each other the loudest one is taken alone; whatever had to be mended is in `repaired`.

    Samples are kept as float16: half of float32's disk and memory, its rounding 70 dB below the sound at every level,
    where 16-bit integers would clip floats beyond full scale and coarsen quiet recordings.

    Raises:
        BadItem: the bytes are no sound, or one without samples, of silence, or of values that are not numbers.
    """
    if not raw:
        raise BadItem("empty", "the file is empty (0 bytes)")
    with _open(raw) as file:
        info: Info = {"format": file.format, "subtype": file.subtype, "sample_rate": file.samplerate, "channels": file.channels}
        samples, repairs = _mono(file, sample_rate)
        silent_range = 0.0 if file.subtype in _FLOAT else 2**-14
    _check(samples, sample_rate, silent_range)
    samples, offset = _centred(samples, repairs)
    peak, rms = float(np.abs(samples).max()), float(np.sqrt(np.mean(np.square(samples), dtype=np.float64)))
    if not _FAINT <= peak <= _OVER:
        samples /= np.float32(peak)
        repairs.append(f"its samples reach {peak:.3g} where 1 is full scale; they were scaled to 1")
    info |= {"seconds": round(len(samples) / sample_rate, 4), "rms": _rounded(rms), "peak": _rounded(peak), "offset": _rounded(offset)}
    if repairs:
        info["repaired"] = "; ".join(repairs)
    return samples.astype(np.float16), info


def _centred(samples: Samples, repairs: list[str]) -> tuple[Samples, float]:
    """Remove the mean, in place, and return it; a recorder's offset says nothing about the sound."""
    offset = float(samples.mean(dtype=np.float64))
    samples -= np.float32(offset)
    if abs(offset) > _OFFSET:
        repairs.append(f"an offset of {offset:.2g} of full scale was removed")
    return samples, offset


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _open(raw: bytes) -> soundfile.SoundFile:
    """Open by content with libsndfile, else whatever FFmpeg makes of it where that is installed."""
    import soundfile

    try:
        return soundfile.SoundFile(io.BytesIO(raw))
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
    except (TypeError, ValueError) as error:  # soundfile's own checks of a nonsensical header
        reason = str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg and (wav := _through_ffmpeg(ffmpeg, raw)):
        return soundfile.SoundFile(io.BytesIO(wav))
    raise BadItem("not_audio", _what_it_is(raw, reason, installed=ffmpeg is not None))


def _what_it_is(raw: bytes, reason: str, *, installed: bool) -> str:
    """Return a sentence on bytes that nothing here can play."""
    if raw[4:8] == b"ftyp" or raw[:4] == b"\x1a\x45\xdf\xa3" or raw[:4] == b"0&\xb2u" or raw[:5] == b"#!AMR":
        cure = "FFmpeg cannot read it" if installed else "only FFmpeg reads it: install ffmpeg, or convert it to WAV, FLAC or MP3"
        return f"is AAC, AMR, WMA or another format that libsndfile does not know; {cure}"
    if b"\0" not in raw[:256] and raw[:256].isascii():
        return "is text, not sound"
    return f"is damaged or not a sound file ({reason})"


def _through_ffmpeg(ffmpeg: str, raw: bytes) -> bytes | None:
    """Return a WAV of the first sound stream, or None; no shell, no file, no protocol but the pipe."""
    command = [
        ffmpeg,
        "-v",
        "error",
        "-nostdin",
        "-protocol_whitelist",
        "pipe",
        "-i",
        "pipe:0",
        "-map",
        "0:a:0",
        "-f",
        "wav",
        "-c:a",
        "pcm_f32le",
        "pipe:1",
    ]
    try:
        done = subprocess.run(command, input=raw, capture_output=True, timeout=_FFMPEG_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BadItem("not_audio", f"FFmpeg did not finish with it in {_FFMPEG_SECONDS} s") from None
    return done.stdout if done.returncode == 0 and len(done.stdout) > 44 else None


def _mono(file: soundfile.SoundFile, sample_rate: int) -> tuple[Samples, list[str]]:
    """Return the mean of all channels at the working rate, or the loudest where they cancel, and what had to be done."""
    energy = _Energy(file.channels)
    samples = _resampled(energy.means(_blocks(file)), file.samplerate, sample_rate)
    missing = file.frames - energy.frames
    repairs = [f"it is cut off: the header promises {missing / file.samplerate:.2f} s more"] if missing > _SLACK * file.samplerate else []
    if energy.cancels:
        loudest = energy.loudest
        file.seek(0)
        samples = _resampled((block[:, loudest] for block in _blocks(file)), file.samplerate, sample_rate)
        repairs.append(f"its {file.channels} channels cancel each other; channel {loudest + 1} was taken alone")
    return samples, repairs


class _Energy:
    """Sums squares of every channel and of their mean while blocks pass by."""

    def __init__(self, channels: int) -> None:
        self.channels = np.zeros(channels)
        self.mean = 0.0
        self.frames = 0

    def means(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """Yield the mean over the channels of blocks (frames, channels)."""
        for block in blocks:
            self.frames += len(block)
            if len(self.channels) == 1:
                yield block[:, 0]
                continue
            mean = block.mean(axis=1)
            self.channels += np.einsum("tc,tc->c", block, block, dtype=np.float64)
            self.mean += float(np.dot(mean, mean))
            yield mean

    @property
    def loudest(self) -> int:
        """Number of the channel with the most energy."""
        return int(np.argmax(self.channels))

    @property
    def cancels(self) -> bool:
        """Tell whether averaging has all but silenced what one channel alone holds (of up to six alike, none does)."""
        several = np.count_nonzero(self.channels > 0.01 * self.channels.max()) > 1
        return bool(several and self.mean < _CANCELS**2 * self.channels.max())


def _blocks(file: soundfile.SoundFile) -> Iterator[Samples]:
    """Yield blocks (frames, channels) until the data end, whatever length the header says."""
    import soundfile

    done = 0
    while True:
        try:
            block = np.asarray(file.read(_BLOCK, dtype="float32", always_2d=True), np.float32)
        except soundfile.LibsndfileError:
            return  # cut or damaged inside the data: what came before it plays
        if not len(block):
            return
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise BadItem(
                "nan", f"has samples that are NaN or infinite, the first at {(done + int(finite.argmin())) / file.samplerate:.3f} s"
            )
        done += len(block)
        yield block


def _resampled(blocks: Iterator[Samples], rate: int, to: int) -> Samples:
    """Join blocks of samples, resampled (soxr, high quality) where the rates differ."""
    if rate == to:
        parts = list(blocks)
    else:
        import soxr

        stream = soxr.ResampleStream(rate, to, 1, dtype="float32", quality="HQ")
        parts = [stream.resample_chunk(block) for block in blocks]
        parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _check(samples: Samples, sample_rate: int, silent_range: float) -> None:
    if not len(samples):
        raise BadItem("no_samples", "has a header but not one sample")
    if len(samples) < SHORTEST * sample_rate:
        raise BadItem(
            "too_short", f"lasts {1000 * len(samples) / sample_rate:.1f} ms, less than the {1000 * SHORTEST:.0f} ms that can be analysed"
        )
    if float(samples.max()) - float(samples.min()) <= silent_range:
        raise BadItem("silence", f"is silent for all of its {len(samples) / sample_rate:.2f} s")
