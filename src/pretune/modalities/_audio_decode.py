"""From a file's bytes to one channel of samples at the working rate."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pretune.errors import BadItem
from pretune.modalities._audio_header import Header, look
from pretune.modalities._audio_quiet import quiet

if TYPE_CHECKING:
    import soundfile

SHORTEST = 0.01
"""Seconds below which there is nothing to analyse: less than half of an analysis window."""
KEPT = 1800 * 16_000
"""Samples of a clip that are kept at most, at the working rate: half an hour at 16 kHz. Memory does not grow with a file's length."""
_WHOLE_HOURS = 3
"""Hours of a file that is decoded whole at most: 350 MB at 16 kHz, and three times that while it is read."""
_TYPICAL = 10.0
"""Seconds of the stretch around which more than that is cut away."""
_HOURS = 24
"""A longer file is refused: nobody means it as one example, and a few bytes of a header can promise years."""
_BLOCK = 1 << 18
"""Numbers decoded at once, over all channels, and samples that a block becomes at most."""
_FLAC_BLOCK = 4096
"""Frames of a FLAC decoded at once: where one is damaged, all that were read with it are lost."""
_RATES = (100, 10_000_000)
"""Sample rates outside of which a header is wrong."""
_GRID = 160
"""Samples whose energy is summed where the loudest stretch is looked for."""
_MOST_FRAMES = 1 << 40
"""libsndfile's number of frames means 'not known' from here on."""
_CANCELS = 0.1
"""Channels whose mean keeps less than this share of the loudest one's amplitude cancel each other."""
_FAINT, _OVER = 1e-4, 8.0
"""Peaks below and above which samples are not meant as parts of full scale, and float16 would lose them."""
_OFFSET = 0.05
_SLACK, _LITTLE = 0.1, 0.01
"""Seconds by which the headers of lossy formats, and of others, may be wrong."""
_FLOAT = frozenset(("FLOAT", "DOUBLE"))
_FFMPEG_SECONDS = 120
_FFMPEG_BYTES = 1 << 30
"""Bytes that FFmpeg may give back."""

Info = dict[str, int | float | str]
Samples = NDArray[np.float32]


def decode(raw: bytes, sample_rate: int, seconds: float | None = None, *, whole: bool = False) -> tuple[NDArray[np.float16], Info]:
    """Return (T,) samples at `sample_rate`, without their mean, and the facts of the file.

    What a file is called does not matter. A file that ends early plays what is there. Channels are averaged; where they cancel
    each other the loudest one is taken alone. Of more than `KEPT` samples those around the loudest stretch are kept. Whatever
    had to be mended is in `repaired`.

    Samples are kept as float16: half of float32's disk and memory, its rounding 70 dB below the sound at every level,
    where 16-bit integers would clip floats beyond full scale and coarsen quiet recordings.

    Args:
        raw: the file.
        sample_rate: Hz.
        seconds: of the window that the network takes, where it is known.
        whole: keep all samples, however many.

    Raises:
        BadItem: the bytes are no audio, or one without samples, of silence, of values that are not numbers, or of a rate or
            length that no audio has.
    """
    if not raw:
        raise BadItem("empty", "the file is empty (0 bytes)")
    header = look(raw)
    with quiet() if raw.startswith((b"ID3", b"\xff")) else contextlib.nullcontext():
        clip = _Clip(header, sample_rate, seconds, whole=whole)
        samples, repairs = clip.mono()
    info, silent_range = clip.info, clip.silent_range
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


def _playable(raw: bytes) -> bytes:
    """Return the bytes that libsndfile can open by their content: these, else whatever FFmpeg makes of them where that is installed."""
    import soundfile

    try:
        _open(raw).close()
        return raw
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
    except (TypeError, ValueError) as error:  # soundfile's own checks of a nonsensical header
        reason = str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg and (wav := _through_ffmpeg(ffmpeg, raw)):
        return wav
    raise BadItem("not_audio", _what_it_is(raw, reason, installed=ffmpeg is not None))


def _open(raw: bytes) -> soundfile.SoundFile:
    return _stream()(_Bytes(raw))


class _Bytes(io.BytesIO):
    """Bytes in which a damaged header may lead anywhere: an exception inside libsndfile's callbacks would be printed, not raised."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, or stay where it cannot be."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


@functools.cache
def _stream() -> type[soundfile.SoundFile]:
    """Return a audio file that is read from its beginning to its end: soundfile seeks after each block, which damaged files refuse."""
    import soundfile

    class Stream(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Stream


def _what_it_is(raw: bytes, reason: str, *, installed: bool) -> str:
    """Return a sentence on bytes that nothing here can play."""
    if raw[4:8] == b"ftyp" or raw[:4] == b"\x1a\x45\xdf\xa3" or raw[:4] == b"0&\xb2u" or raw[:5] == b"#!AMR":
        cure = "FFmpeg cannot read it" if installed else "only FFmpeg reads it: install ffmpeg, or convert it to WAV, FLAC or MP3"
        return f"is AAC, AMR, WMA or another format that libsndfile does not know; {cure}"
    if b"\0" not in raw[:256] and raw[:256].isascii():
        return "is text, not sound"
    return f"is damaged or not a sound file ({reason})"


def _through_ffmpeg(ffmpeg: str, raw: bytes) -> bytes | None:
    """Return a WAV of the first audio stream, or None; no shell, no file, no protocol but the pipe."""
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
        "-fs",
        str(_FFMPEG_BYTES),
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


class _Clip:
    """A file on its way to one channel at the working rate; opened again for every pass."""

    def __init__(self, header: Header, sample_rate: int, seconds: float | None, *, whole: bool) -> None:
        self.header, self.to = header, sample_rate
        self.hours = _WHOLE_HOURS if whole else _HOURS
        self.kept = self.hours * 3600 * sample_rate if whole else max(KEPT, round((seconds or 0) * sample_rate))
        self.window = round((seconds or _TYPICAL) * sample_rate)
        self.raw = _playable(header.raw)
        with _open(self.raw) as file:
            self.rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
            self.flac = file.format == "FLAC"
            self.silent_range = 0.0 if file.subtype in _FLOAT else 2**-14
            self.info: Info = {"format": file.format, "subtype": file.subtype, "sample_rate": self.rate, "channels": self.channels}
        if not _RATES[0] <= self.rate <= _RATES[1]:
            raise BadItem("bad_rate", f"says that it was recorded at {self.rate:,} Hz, which is no sample rate of audio")

    def mono(self) -> tuple[Samples, list[str]]:
        """Return the mean of all channels at the working rate, or the loudest where they cancel, and what had to be done."""
        energy = _Energy(self.channels)
        samples, total, begin = self._resampled(energy.means)
        repairs = [*self.header.notes, *self._missing(energy.frames)]
        if energy.cancels:
            loudest = energy.loudest
            samples, total, begin = self._resampled(lambda blocks: (block[:, loudest] for block in blocks))
            repairs.append(f"its {self.channels} channels cancel each other; channel {loudest + 1} was taken alone")
        if total > len(samples):
            kept = f"the {len(samples) / self.to:,.0f} s around its loudest part were kept"
            repairs.append(f"it lasts {total / self.to:,.0f} s, of which {kept}")
            self.info["begin"] = begin / self.to
        return samples, repairs

    def _missing(self, played: int) -> list[str]:
        """Return a sentence on what the header promises and is not there."""
        if self.header.share < 1:
            missing = played * (1 / self.header.share - 1) / self.rate
            return [f"it is cut off: the header promises {missing:.2f} s more"] if missing > _LITTLE else []
        missing = (self.frames - played) / self.rate
        if not self.header.knows_frames or self.frames >= _MOST_FRAMES or missing <= (_LITTLE if self.flac else _SLACK):
            return []
        return [f"it is cut off or damaged: the header promises {missing:.2f} s more"]

    def _resampled(self, mix: Callable[[Iterator[Samples]], Iterator[Samples]]) -> tuple[Samples, int, int]:
        """Return the samples that are kept, how many there are, and how many come before; a long file is read twice, never held whole."""
        parts: list[Samples] = []
        grid = _Grid()
        total = 0
        for part in self._pieces(mix):
            total += len(part)
            if total > self.hours * 3600 * self.to:
                raise BadItem("too_long", f"lasts more than {self.hours} hours. Cut it into the pieces that are meant")
            grid.add(part)
            if total <= self.kept:
                parts.append(part)
            else:
                parts.clear()
        if total <= self.kept:
            return (np.concatenate(parts) if parts else np.zeros(0, np.float32)), total, 0
        begin = min(max(0, grid.loudest(self.window) + self.window // 2 - self.kept // 2), total - self.kept)
        out, place = np.empty(self.kept, np.float32), -begin
        for part in self._pieces(mix):
            start, stop = max(0, place), min(self.kept, place + len(part))
            if start < stop:
                out[start:stop] = part[start - place : stop - place]
            place += len(part)
            if place >= self.kept:
                break
        return out, total, begin

    def _pieces(self, mix: Callable[[Iterator[Samples]], Iterator[Samples]]) -> Iterator[Samples]:
        """Yield blocks of the mixed channels, resampled (soxr, high quality) where the rates differ."""
        wide = max(1, min(_BLOCK // self.channels, _BLOCK * self.rate // self.to))
        with _open(self.raw) as file:
            blocks = mix(_blocks(file, min(wide, _FLAC_BLOCK) if self.flac else wide))
            if self.rate == self.to:
                yield from blocks
                return
            import soxr

            stream = soxr.ResampleStream(self.rate, self.to, 1, dtype="float32", quality="HQ")
            for block in blocks:
                yield stream.resample_chunk(block)
            yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


class _Grid:
    """Energies of stretches of `_GRID` samples, while blocks pass by."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []
        self._rest = np.zeros(0, np.float32)

    def add(self, block: Samples) -> None:
        """Take the next samples."""
        joined = np.concatenate([self._rest, block])
        whole = len(joined) // _GRID * _GRID
        cells = joined[:whole].reshape(-1, _GRID)
        self._sums.append(np.einsum("gt,gt->g", cells, cells, dtype=np.float64))
        self._rest = joined[whole:]

    def loudest(self, window: int) -> int:
        """Return the first sample of the stretch of `window` samples with the most energy."""
        total = np.concatenate([[0.0], np.cumsum(np.concatenate(self._sums))])
        wide = min(len(total) - 1, max(1, window // _GRID))
        return int(np.argmax(total[wide:] - total[: len(total) - wide])) * _GRID


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
        """Return whether averaging has all but silenced what one channel alone holds (of up to six alike, none does)."""
        several = np.count_nonzero(self.channels > 0.01 * self.channels.max()) > 1
        return bool(several and self.mean < _CANCELS**2 * self.channels.max())


def _blocks(file: soundfile.SoundFile, frames: int) -> Iterator[Samples]:
    """Yield blocks (up to `frames`, channels) until the data end, whatever length the header says."""
    import soundfile

    done = 0
    while True:
        try:
            block = np.asarray(file.read(frames, dtype="float32", always_2d=True), np.float32)
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


def _check(samples: Samples, sample_rate: int, silent_range: float) -> None:
    if not len(samples):
        raise BadItem("no_samples", "has a header but not one sample")
    if len(samples) < SHORTEST * sample_rate:
        raise BadItem(
            "too_short", f"lasts {1000 * len(samples) / sample_rate:.1f} ms, less than the {1000 * SHORTEST:.0f} ms that can be analysed"
        )
    if float(samples.max()) - float(samples.min()) <= silent_range:
        raise BadItem("silence", f"is silent for all of its {len(samples) / sample_rate:.2f} s")
