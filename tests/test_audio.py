"""Clips: decoding by content, windows, spectra against published forms, augmentation, whole runs."""

from __future__ import annotations

import stat
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pretune import config
from pretune.augmentations import BatchAugmentation, preset
from pretune.augmentations.noise import Noise
from pretune.augmentations.specaugment import SpecAugment
from pretune.augmentations.speed import Speed
from pretune.augmentations.time_shift import TimeShift
from pretune.data.dataset import FeatureView
from pretune.errors import BadItem, SettingError
from pretune.labels import Labels, Ragged
from pretune.modalities.audio import Audio, loudest
from pretune.modalities.image import Image
from pretune.modalities.transforms.spectrogram import spectrogram
from pretune.modalities.transforms.spectrum import Bank
from pretune.storage.store import StoreWriter
from pretune.types import Batch, Features
from tests.audio_files import RATE, encoded, loudest_hertz, tone, write_tones

AUDIO = Audio()


def refused(raw: bytes) -> BadItem:
    with pytest.raises(BadItem) as caught:
        AUDIO.decode(raw)
    return caught.value


# --- decoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
        ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
        ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_sound(kind: str, subtype: str | None) -> None:
    sound = tone(220)
    plain = AUDIO.decode(encoded(sound)).array.astype(np.float64)
    done = AUDIO.decode(encoded(sound, kind=kind, subtype=subtype))
    assert done.array.dtype == np.float16
    assert abs(len(done.array) - len(plain)) <= 0.1 * RATE
    n = min(len(plain), len(done.array))
    best = max(np.corrcoef(plain[: n - lag], done.array[lag:n].astype(np.float64))[0, 1] for lag in (0, 1105) if lag < n)  # mp3's delay
    assert best > 0.95
    assert abs(float(done.array.astype(np.float64).mean())) < 1e-3
    assert done.info["sample_rate"] == RATE


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_pitch_and_length(rate: int) -> None:
    done = AUDIO.decode(encoded(tone(440, rate=rate), rate))
    assert loudest_hertz(done.array) == pytest.approx(440, rel=0.01)
    assert len(done.array) == pytest.approx(RATE / 2, abs=2)
    assert (done.info["sample_rate"], done.info["channels"]) == (rate, 1)


def test_channels_are_averaged_unless_they_cancel() -> None:
    sound = tone(440)
    mean = AUDIO.decode(encoded(np.stack([sound, 0.5 * sound], 1)))
    assert mean.array.astype(np.float64) == pytest.approx(0.75 * sound, abs=2e-3)
    assert "repaired" not in mean.info
    for other in (-sound, -0.98 * sound):
        alone = AUDIO.decode(encoded(np.stack([sound, other], 1)))
        assert abs(np.corrcoef(alone.array.astype(np.float64), sound)[0, 1]) > 0.999
        assert "cancel" in str(alone.info["repaired"])
    one_sided = AUDIO.decode(encoded(np.stack([sound] + [0 * sound] * 15, 1)))
    assert float(np.abs(one_sided.array).max()) == pytest.approx(np.abs(sound).max() / 16, rel=0.05)


def test_broken_files_are_named_and_short_data_plays() -> None:
    whole = encoded(tone(220))
    assert refused(b"").reason == "empty"
    assert refused(encoded(np.zeros(0))).reason == "no_samples"
    assert refused(whole[:30]).reason == "not_audio"
    assert refused(b"RIFF" + bytes(200)).reason == "not_audio"
    assert "is text" in str(refused(b"not audio"))
    assert "ffmpeg" in str(refused(b"\0\0\0\x20ftypM4A " + bytes(64))).lower()
    huge = bytearray(whole)
    struct.pack_into("<I", huge, 4, 0xFFFFFFF0)
    struct.pack_into("<I", huge, 40, 0xFFFFFFD0)
    assert len(AUDIO.decode(bytes(huge)).array) == RATE // 2
    assert len(AUDIO.decode(whole[: len(whole) // 2]).array) == pytest.approx(RATE / 4, abs=50)


def test_sounds_without_content_are_named() -> None:
    assert refused(encoded(np.zeros(8000))).reason == "silence"
    assert refused(encoded(np.full(8000, 0.5), subtype="FLOAT")).reason == "silence"
    assert refused(encoded(np.array([0.3]))).reason == "too_short"
    broken = tone(880).astype(np.float32)
    broken[100:110], broken[200] = np.nan, np.inf
    assert refused(encoded(broken, subtype="FLOAT")).reason == "nan"
    assert refused(encoded(broken, 44_100, subtype="FLOAT")).reason == "nan"


def test_offset_and_scale_are_mended_and_said() -> None:
    done = AUDIO.decode(encoded(0.4 * tone(220) + 0.5, subtype="FLOAT"))
    assert abs(float(done.array.astype(np.float64).mean())) < 1e-3
    assert "offset of 0.5" in str(done.info["repaired"])
    for factor in (30_000, 1e-9):  # floats that hold integers, or a physical unit
        scaled = AUDIO.decode(encoded(factor * tone(220), subtype="DOUBLE"))
        assert np.corrcoef(scaled.array.astype(np.float64), tone(220))[0, 1] > 0.9999
        assert float(np.abs(scaled.array).max()) == 1.0
        assert "full scale" in str(scaled.info["repaired"])


def test_ffmpeg_is_asked_for_what_libsndfile_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    wav = tmp_path / "sound.wav"
    wav.write_bytes(encoded(tone(440)))
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\nsys.stdout.buffer.write(open({str(wav)!r}, 'rb').read())\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert loudest_hertz(AUDIO.decode(b"\0\0\0\x20ftypM4A " + bytes(64)).array) == pytest.approx(440, rel=0.01)
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit(1)\n")
    assert "FFmpeg cannot read it" in str(refused(b"\0\0\0\x20ftypM4A " + bytes(64)))


# --- windows -------------------------------------------------------------------------------------


def test_window_is_chosen_from_the_training_clips() -> None:
    lengths = np.array([RATE // 2] * 30 + [120 * RATE])
    chosen, message = AUDIO.windowed(lengths[:-1], lengths)
    assert chosen.seconds == 0.5
    assert "(1 of 31, up to 120 s)" in message
    assert Audio(shortest=1.5).windowed(lengths, lengths)[0].seconds == 1.5
    assert AUDIO.windowed(*2 * [np.array([40 * RATE])])[0].seconds == 10.0
    assert Audio(longest=2.0).windowed(*2 * [np.array([40 * RATE])])[0].seconds == 2.0
    assert Audio(seconds=3.0).windowed(lengths, lengths)[0].seconds == 3.0
    with pytest.raises(SettingError, match="at most 30"):
        Audio(seconds=31.0, longest=30.0)
    assert config.build(Audio, {k: v for k, v in config.to_tree(chosen).items() if k != "name"}) == chosen


def test_long_clips_show_their_loudest_stretch_and_short_ones_are_padded_with_a_mask() -> None:
    audio = Audio(seconds=0.5)
    long = np.concatenate([np.zeros(RATE), tone(440), np.zeros(5 * RATE + 7)]).astype(np.float16)
    assert abs(loudest(long, audio.window) - RATE) <= 160
    batch = audio.collate([audio.view(long, None, None), audio.view(long[RATE : RATE + 800], None, None)])
    assert batch.tensor.shape == (2, RATE // 2)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [RATE // 2, 800]
    assert not batch.tensor[1, 800:].any()
    assert audio.collate([audio.view(long, None, None)]).mask is None


def test_time_shift_draws_windows_and_cuts_nothing_of_short_sounds() -> None:
    audio, shift = Audio(seconds=0.5), TimeShift(share=0.5)
    rng = np.random.default_rng(0)
    long = np.linspace(0, 1, 5 * RATE).astype(np.float16)
    starts = {float(audio.view(long, shift, rng)[0]) for _ in range(20)}
    assert len(starts) > 12
    short = np.ones(2000, np.float16)
    views = [audio.view(short, shift, rng) for _ in range(20)]
    assert all(view.sum() == 2000 and len(view) <= audio.window for view in views)
    assert len({len(view) for view in views}) > 10


# --- spectra -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "low"), [("slaney", 0.0), ("htk", 0.0), ("kaldi", 20.0)])
def test_mel_filters_equal_those_of_transformers(scale: str, low: float) -> None:
    from transformers.audio_utils import mel_filter_bank

    theirs = mel_filter_bank(
        257,
        64,
        low,
        8000.0,
        RATE,
        norm="slaney" if scale == "slaney" else None,
        mel_scale=scale,
        triangularize_in_mel_space=scale == "kaldi",
    )
    ours = Bank(sample_rate=RATE, fft=512, mels=64, low=low, scale=scale).matrix()  # type: ignore[arg-type]
    assert ours.numpy() == pytest.approx(theirs, abs=1e-6)


def test_log_mel_equals_whispers() -> None:
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    sound = tone(440).astype(np.float16)
    theirs = WhisperFeatureExtractor(feature_size=80, chunk_length=2)(
        sound.astype(np.float32), sampling_rate=RATE, return_tensors="pt"
    ).input_features
    ours = Audio(seconds=2.0).normaliser()(Audio(seconds=2.0).collate([sound]))
    assert torch.allclose(ours.tensor.transpose(1, 2), theirs, atol=1e-5)
    assert ours.mask is not None
    assert ours.mask.sum() == 50


def test_kaldi_features_equal_asts() -> None:
    from transformers import ASTFeatureExtractor

    audio = Audio(seconds=1.0, features="kaldi", fft=512, mels=128, mean=-4.2677393, std=4.5689974)
    sound = tone(440, 0.7).astype(np.float16)
    theirs = ASTFeatureExtractor(max_length=98)(sound.astype(np.float32), sampling_rate=RATE, return_tensors="pt").input_values
    ours = audio.normaliser()(audio.collate([sound])).tensor
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_mfcc_is_the_cosine_transform_of_decibels() -> None:
    from scipy.fft import dct

    audio = Audio(seconds=0.5, features="mfcc", mels=40, coefficients=13)
    batch = audio.collate([tone(440).astype(np.float16)])
    mels = Audio(seconds=0.5, mels=40).normaliser()(batch).tensor.numpy() * 40 - 40  # Whisper's scaling undone: decibels
    assert audio.normaliser()(batch).tensor.numpy() == pytest.approx(dct(mels, norm="ortho")[..., :13], abs=2e-2)


def test_spectra_of_a_clip_do_not_depend_on_the_batch_or_the_number_format() -> None:
    audio = Audio(seconds=1.0)
    clips = [tone(440).astype(np.float16), tone(220, 1.0).astype(np.float16)]
    spectrum = audio.normaliser()
    together, alone = spectrum(audio.collate(clips)).tensor[0], spectrum(audio.collate(clips[:1])).tensor[0]
    assert torch.equal(together, alone)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectrum(audio.collate(clips[:1])).tensor[0], alone)


def test_standardised_waveforms_leave_padding_out() -> None:
    audio = Audio(seconds=1.0, features="standardised")
    out = audio.normaliser()(audio.collate([(3 * tone(440) + 0.1).astype(np.float16)]))
    real = out.tensor[0, : RATE // 2]
    assert float(real.mean()) == pytest.approx(0, abs=1e-4)
    assert float(real.std()) == pytest.approx(1, abs=1e-3)
    assert not out.tensor[0, RATE // 2 :].any()


def test_image_networks_see_a_spectrogram() -> None:
    audio = Audio.from_image(Image(size=64, resize=72))
    assert audio is not None
    raw = Audio(seconds=1.0).collate([tone(4000, 1.0).astype(np.float16)])
    picture = audio.normaliser()(raw).tensor
    assert picture.shape == (1, 3, 64, 64)
    assert 8 < int(picture[0, 0].mean(1).argmax()) < 24  # 4 kHz lies in the upper half, low frequencies below
    assert config.component("modalities", config.to_tree(audio), "modality") == audio
    assert Audio.from_image(AUDIO) is None


def test_floor_features_of_a_clip_do_not_depend_on_the_others() -> None:
    clips = [tone(hertz, seconds).astype(np.float16) for hertz, seconds in ((220, 0.3), (880, 2.0), (440, 0.02))]
    together = AUDIO.baseline_features(clips)
    assert together.shape == (3, 80)
    assert np.isfinite(together).all()
    for clip, row in zip(clips, together, strict=True):
        assert AUDIO.baseline_features([clip])[0] == pytest.approx(row, abs=1e-3)
        assert AUDIO.baseline_features([(0.25 * clip).astype(np.float16)])[0] == pytest.approx(row, abs=0.1)


def test_spectrogram_picture() -> None:
    pixels = spectrogram(tone(1000, 1.0).astype(np.float16), RATE, height=80, width=120)
    assert pixels.shape == (80, 120, 3)
    assert pixels.dtype == np.uint8
    brightest = int(pixels.astype(int).sum(2).mean(1).argmax())
    assert 35 < brightest < 60  # 1 kHz: a third up a mel axis to 8 kHz


# --- augmentation and caches ---------------------------------------------------------------------


def batch_of(samples: torch.Tensor, mask: torch.Tensor | None = None) -> Batch:
    return Batch(
        inputs=Features(tensor=samples, layout="raw", mask=mask),
        labels=Labels.of(torch.arange(len(samples)) % 2),
        index=torch.arange(len(samples)),
    )


def test_noise_has_the_distance_that_was_asked_for() -> None:
    clean = torch.sin(torch.arange(16_000) * 0.3).repeat(4, 1)
    noisy = Noise(decibels=(20.0, 20.0), probability=1.0).apply(batch_of(clean), torch.Generator().manual_seed(0), 2)
    noise = noisy.inputs.tensor - clean
    assert (10 * (clean.square().mean(1) / noise.square().mean(1)).log10()).tolist() == pytest.approx([20] * 4, abs=0.3)


def test_speed_plays_the_same_sound_higher_and_shorter_or_lower_and_cut() -> None:
    samples = torch.from_numpy(tone(440, 0.5, 8000)).float()
    sounds = torch.zeros(40, 8000)
    sounds[:, :4000] = samples
    batch = Batch(
        inputs=Features(tensor=sounds, layout="raw", mask=torch.arange(8000).expand(40, -1) < 4000), labels=None, index=torch.arange(40)
    )
    out = Speed(most=1.5).apply(batch, torch.Generator().manual_seed(0), None).inputs
    assert out.mask is not None
    lengths = out.mask.sum(1)
    assert int(lengths.min()) < 3000
    assert int(lengths.max()) > 5000
    assert not out.tensor[~out.mask].any()
    for sound, length in zip(out.tensor[:8], lengths[:8].tolist(), strict=True):
        assert abs(loudest_hertz(sound[:length].numpy(), 8000) * length / 4000 - 440) < 10, "as many waves as before"
    full = replace(batch, inputs=Features(tensor=samples.expand(40, -1), layout="raw"))
    cut = Speed().apply(full, torch.Generator().manual_seed(0), None).inputs
    assert cut.tensor.shape == (40, 4000)
    assert cut.mask is not None


def test_speed_cuts_nothing_off_a_clip_whose_labels_are_of_all_of_it() -> None:
    sounds = torch.zeros(40, 4000)
    sounds[:, 3700:3900] = 1
    batch = Batch(inputs=Features(tensor=sounds, layout="raw"), labels=Labels.of(torch.zeros(40)), index=torch.arange(40))
    words = replace(batch, labels=Labels({"target": Ragged.of([torch.tensor([1, 2])] * 40)}))
    heard = {}
    for name, one in (("class", batch), ("words", words)):
        out = Speed().apply(one, torch.Generator().manual_seed(0), None).inputs.tensor
        heard[name] = (out > 0.5).sum(1)
    assert int(heard["class"].min()) == 0, "its end is cut off"
    assert int(heard["words"].min()) > 150


def test_specaugment_takes_out_stretches_and_bands() -> None:
    clean = torch.randn(8, 16_000, generator=torch.Generator().manual_seed(1))
    quiet = SpecAugment(times=1, time=0.2, bands=0).apply(batch_of(clean), torch.Generator().manual_seed(0), 2).inputs.tensor
    assert all(0 < int((row == 0).sum()) <= 3200 for row in quiet)
    thin = SpecAugment(times=0, bands=1, band=0.3).apply(batch_of(clean), torch.Generator().manual_seed(0), 2).inputs.tensor
    assert (torch.fft.rfft(thin).abs() < 1e-3).sum(1).min() > 5


@pytest.mark.parametrize("name", ["light", "medium", "strong"])
def test_presets_keep_padding_silent_and_repeat(name: str) -> None:
    mask = torch.arange(8000) < torch.tensor([8000, 4000, 160])[:, None]
    clean = torch.randn(3, 8000, generator=torch.Generator().manual_seed(1)) * mask

    def changed() -> Batch:
        batch, generator = batch_of(clean, mask), torch.Generator().manual_seed(5)
        for part in preset(name, "audio"):
            batch = part.apply(batch, generator, 2) if isinstance(part, BatchAugmentation) else batch
        return batch

    out = changed()
    assert out.inputs.mask is not None
    assert not (out.inputs.tensor * ~out.inputs.mask).any()
    assert torch.isfinite(out.inputs.tensor).all()
    assert torch.equal(out.inputs.tensor, changed().inputs.tensor)


def test_cached_sequences_keep_the_silence_that_is_heard(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "features")
    for real in (2, 5):
        writer.append(np.full((5, 3), real, np.float32), {"real": real})
    view = FeatureView(writer.close({"layout": "sequence"}), np.arange(2), "sequence", None)
    inputs = view.batch(np.array([0, 1]), 0).inputs
    assert inputs.attends_padding
    assert inputs.mask is not None
    assert inputs.mask.sum(1).tolist() == [2, 5]
    assert inputs.tensor.shape == (2, 5, 3)


# --- whole runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["scratch:audiocnn,width=4,blocks=2", "scratch:lstm,units=16,layers=1"])
def test_a_run_from_scratch_and_its_predictions(home: Path, backbone: str) -> None:
    import pretune as pt

    write_tones(home / "train", 10)
    (home / "train" / "low" / "bad.wav").write_bytes(b"no sound")
    run = pt.finetune(home / "train", backbone=backbone, epochs=3, precision="float32", augment="strong")
    assert run.metrics["backbone"].startswith("scratch:audio")
    assert run.metrics["counts"]["dropped"] == 1
    rows = run.predict(home / "train" / "low")
    assert sum("error" in row for row in rows) == 1
    assert sum("prediction" in row for row in rows) == 10
