"""Clips: everything that libsndfile (and FFmpeg, where installed) decodes, as one channel at one rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pretune import config, registry
from pretune.config import Member, Within
from pretune.errors import BadItem, SettingError
from pretune.formats.files import AUDIO
from pretune.geometry import scaling
from pretune.modalities import _audio_pauses, _mel_statistics
from pretune.modalities._audio_decode import KEPT, decode
from pretune.modalities._base import Modality
from pretune.modalities.transforms import tokenizing
from pretune.modalities.transforms.spectrum import MFCC, Bank, KaldiMel, LogMel, MelImage, SpeakerMel, Waveform
from pretune.types import Decoded, Features, Finding

if TYPE_CHECKING:
    from pretune.augmentations import ViewAugmentation

_FORMAT = 3
"""Version of what `decode` returns; raised whenever stored clips would come out differently."""
_TYPICAL = 10.0
"""Seconds a chosen window lasts at most: clips are mostly recognised in less, and every second is paid for."""
_COVERED = 95
"""Percentile of the clips' lengths that a chosen window holds whole."""
_LONGEST = 30.0
"""Seconds of a clip at most where all of it must be shown and the network has no limit of its own."""
_GRID = 160
"""Samples between two candidates for the loudest window."""

Kind = Literal["waveform", "standardised", "speaker", "log_mel", "mfcc", "kaldi", "picture"]


@dataclass(frozen=True, kw_only=True)
class Audio(Modality):
    """Preprocessing of clips, as a set of weights carries it.

    A file is decoded once: channels averaged, resampled, its mean removed. The network sees a window of it: of longer
    clips the loudest stretch (in training, where asked for, a random one), shorter ones are followed by silence.
    """

    extensions: ClassVar[frozenset[str]] = AUDIO
    unit: ClassVar[str] = "clip"
    baseline_words: ClassVar[str] = "mean and deviation of log-mel bands"

    sample_rate: Annotated[int, Within(1000, 192_000)] = 16_000
    """Samples a second."""
    seconds: Annotated[float | None, Within(0.02, 3600)] = None
    """Length of the window; auto holds 95 of 100 training clips whole."""
    shortest: Annotated[float, Within(0, 3600)] = 0.5
    """Seconds that an automatic window lasts at least."""
    longest: Annotated[float | None, Within(0, 3600, above=True)] = None
    """Seconds that the network can take; auto where it has no limit."""
    features: Kind = "log_mel"
    """waveform; standardised (each clip to mean 0 and deviation 1); speaker (Resemblyzer's mel power); log_mel (Whisper's); mfcc;
    kaldi (AST's filter banks); picture (for an image network)."""
    fft: Annotated[int, Within(16, 65_536)] = 400
    """Samples of a transform."""
    hop: Annotated[int, Within(1, 65_536)] = 160
    """Samples between frames."""
    mels: Annotated[int, Within(1, 4096)] = 80
    """Mel bands."""
    relative: bool = False
    """log_mel: each clip's mean is subtracted, so that a quiet recording looks like a loud one."""
    coefficients: Annotated[int, Within(1, 4096)] = 40
    """Cepstral coefficients kept of mfcc."""
    mean: float = 0.0
    """Subtracted from kaldi."""
    std: Annotated[float, Within(0, above=True)] = 0.5
    """kaldi is divided by twice this."""
    tokenizer: str = field(default="", repr=False)
    """Content of the tokenizer.json of a network that writes what is said; empty for all others."""
    picture: Annotated[Modality | None, Member("modalities")] = None
    """Preprocessing of the image network that looks at the spectrogram."""

    def __post_init__(self) -> None:
        if self.seconds is not None and self.longest is not None and self.seconds > self.longest:
            raise SettingError(f"seconds must be at most {self.longest:g}, which is what this backbone can take; got {self.seconds:g}.")
        if self.relative and self.features != "log_mel":
            raise SettingError(f"audio.relative is for features=log_mel; got features={self.features}.")
        if self.features == "mfcc" and self.coefficients > self.mels:
            raise SettingError(f"audio.coefficients must be at most audio.mels = {self.mels}; got {self.coefficients}.")

    @classmethod
    def from_image(cls, image: Modality) -> Audio | None:
        """Return the preprocessing that shows spectrograms to an image network, None for any other network."""
        return cls(features="picture", fft=1024, mels=128, picture=image) if registry.name_of(image) == "image" else None

    def files(self) -> dict[str, str]:
        """Return the files that travel with saved weights, name -> content; `with_files` reads them back."""
        return {tokenizing.FILE: self.tokenizer} if self.tokenizer else {}

    def with_files(self, files: dict[str, str]) -> Audio:
        """Return the same preprocessing with the content of its files.

        Raises:
            WeightsError: it is no tokenizer.
        """
        tokenizing.load(files[tokenizing.FILE])
        return replace(self, tokenizer=files[tokenizing.FILE])

    def working(self) -> dict[str, Any]:
        """Return what stored clips depend on: part of the store's cache key."""
        import soundfile
        import soxr

        versions = {"libsndfile": soundfile.__libsndfile_version__, "soxr": soxr.__version__}
        kept = max(KEPT, round((self.seconds or 0) * self.sample_rate))
        return {"modality": "audio", "format": _FORMAT, "sample_rate": self.sample_rate, "kept": kept, **versions}

    def decode(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Return float16 (T,) at the working rate, with format, sample_rate, channels, seconds, rms and peak of the file, and its `begin`.

        Raises:
            BadItem: the bytes are no audio, or one of silence, without samples or with NaN in it.
        """
        return self._decoded(raw, whole=False)

    def decode_whole(self, raw: bytes | tuple[str, ...]) -> Decoded:
        """Return what `decode` does, of hours if need be."""
        return self._decoded(raw, whole=True)

    def _decoded(self, raw: bytes | tuple[str, ...], *, whole: bool) -> Decoded:
        if not isinstance(raw, bytes):
            raise BadItem("not_audio", "is text, not a sound file")
        samples, info = decode(raw, self.sample_rate, self.seconds, whole=whole)
        return Decoded(array=samples, info=info)

    # --- the window --------------------------------------------------------------------------

    @property
    def most(self) -> int:
        """Samples of the longest clip that can be shown whole."""
        return round((self.seconds or self.longest or _LONGEST) * self.sample_rate)

    def windowed(self, training: NDArray[np.int64], lengths: NDArray[np.int64], *, whole: bool = False) -> tuple[Audio, str]:
        """Return the same preprocessing with its window, and a sentence on it.

        Args:
            training: samples of the training clips, which it is chosen by.
            lengths: (N,) samples of all clips.
            whole: choose a window that holds the longest clip; those longer than `most` must be gone.
        """
        seconds = self.seconds
        if seconds is None and whole:
            seconds = min(max(np.ceil(lengths.max() / self.sample_rate * 10) / 10, self.shortest), self.most / self.sample_rate)
        elif seconds is None:
            covering = float(np.percentile(training, _COVERED, method="lower")) / self.sample_rate
            seconds = max(min(np.ceil(covering * 10) / 10, _TYPICAL), self.shortest)
            seconds = min(seconds, self.longest or seconds)
        cut = int(np.count_nonzero(lengths > round(seconds * self.sample_rate)))
        message = f"window of {seconds:g} s"
        if cut:
            longest = lengths.max() / self.sample_rate
            message += f"; longer clips ({cut:,} of {len(lengths):,}, up to {longest:.4g} s) are cropped to their loudest window"
            message += "; set seconds= for a longer window"
        return replace(self, seconds=float(seconds)), message

    @property
    def window(self) -> int:
        """Samples of the window."""
        if self.seconds is None:
            raise ValueError("the window is not chosen yet: call windowed(lengths)")
        return round(self.seconds * self.sample_rate)

    def pieces(self, array: NDArray[np.float16]) -> list[tuple[int, int]]:
        """Return begin and end of pieces that fit into the window, cut where it is quietest; digital silence is in none of them."""
        return _audio_pauses.pieces(array, self.window, self.sample_rate)

    def view(self, array: NDArray[np.float16], crop: ViewAugmentation | None, rng: np.random.Generator | None) -> NDArray[np.float16]:
        """Return at most a window of samples: where `crop` draws it, else all or the loudest stretch."""
        start, length = self._window(array, crop, rng)
        part = array[max(0, start) : start + length]
        return part if start >= 0 else np.concatenate([np.zeros(-start, array.dtype), part])

    def geometry(
        self, array: NDArray[np.float16], info: Mapping[str, Any], crop: ViewAugmentation | None, rng: np.random.Generator | None
    ) -> NDArray[np.float64]:
        """Return the map (1, 2) from seconds of the file to samples of what `view` returns with the same arguments."""
        return scaling([self.sample_rate], [-(float(info.get("begin") or 0) * self.sample_rate + self._window(array, crop, rng)[0])])

    def _window(self, array: NDArray[np.float16], crop: ViewAugmentation | None, rng: np.random.Generator | None) -> tuple[int, int]:
        """Return the first sample and the samples of a view; a negative first is silence before."""
        window = self.window
        if crop is not None and rng is not None:
            return crop.window((len(array), window), rng)
        return (0, len(array)) if len(array) <= window else (loudest(array, window), window)

    def collate(self, views: list[NDArray[np.float16]]) -> Features:
        """Put views into raw float32 (B, window), silence after the short ones, with a mask where there is any."""
        samples = np.zeros((len(views), self.window), np.float32)
        lengths = np.fromiter(map(len, views), np.int64, len(views))
        for row, view in zip(samples, views, strict=True):
            row[: len(view)] = view
        mask = None if (lengths == self.window).all() else torch.from_numpy(np.arange(self.window) < lengths[:, None])
        return Features(tensor=torch.from_numpy(samples), layout="raw", mask=mask)

    # --- what the network takes --------------------------------------------------------------

    def normaliser(self) -> nn.Module:
        """Return the module that turns raw samples into what the network takes."""
        if self.features in ("waveform", "standardised"):
            return Waveform(standardise=self.features == "standardised")
        bank = Bank(sample_rate=self.sample_rate, fft=self.fft, mels=self.mels)
        if self.features == "speaker":
            return SpeakerMel(bank, self.hop)
        if self.features == "mfcc":
            return MFCC(bank, self.hop, self.coefficients)
        if self.features == "kaldi":
            return KaldiMel(replace(bank, low=20.0, scale="kaldi"), self.hop, self.mean, self.std)
        spectrum = LogMel(bank, self.hop, relative=self.relative)
        if self.picture is None:
            return spectrum
        return MelImage(spectrum, int(config.to_tree(self.picture)["size"]), self.picture.normaliser())

    def baseline_features(self, arrays: list[NDArray[np.float16]]) -> NDArray[np.float32]:
        """Return mean and deviation of log-mel bands, (N, 80), for a linear model."""
        return _mel_statistics.describe(arrays, self.sample_rate)

    def findings(self, infos: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return what resampling cost: content above half the working rate that the network cannot hear."""
        higher = sum(int(info["sample_rate"]) > self.sample_rate for info in infos)
        if not higher:
            return []
        rate = self.sample_rate
        message = f"{higher:,} of {len(infos):,} clips are recorded at more than {rate} Hz; this backbone hears them up to {rate // 2} Hz."
        return [Finding(kind="sample_rate", severity="note", message=message)]


def loudest(array: NDArray[np.floating[Any]], window: int) -> int:
    """Return the first sample of the stretch of `window` samples with the most energy, on a grid of 10 ms."""
    blocks = len(array) // _GRID
    grid = array[: blocks * _GRID].astype(np.float32).reshape(blocks, _GRID)
    total = np.concatenate([[0.0], np.cumsum(np.einsum("bt,bt->b", grid, grid, dtype=np.float64))])
    wide = min(blocks, -(-window // _GRID))
    return min(int(np.argmax(total[wide:] - total[: len(total) - wide])) * _GRID, len(array) - window)
