"""WaveNet, VQ-VAE and masked log-mel: what they compute, and whole runs on tones made on the spot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune import api, backbones
from pretune.architectures.layers.memory import remembering
from pretune.architectures.layers.mu_law import CLASSES, from_mu_law, mu_law
from pretune.backbones import Backbone
from pretune.backbones._base import LoadReport
from pretune.data.splits import at_random
from pretune.errors import DataError, Interrupted, SettingError
from pretune.labels import Labels
from pretune.modalities.audio import Audio
from pretune.modalities.transforms.griffin_lim import bins, griffin_lim
from pretune.modalities.transforms.spectrum import Bank, LogMel
from pretune.objectives._codebook import Codebook, straight_through
from pretune.objectives._labels import asked
from pretune.objectives._sampling import Wanted
from pretune.objectives.autoencode import Autoencode
from pretune.objectives.causal import Causal
from pretune.objectives.masked import Masked
from pretune.runner.reporter import Silent
from pretune.training.events import Event, Stepped
from pretune.types import Batch, Features, Row
from tests.audio_files import loudest_hertz, tone, write_tones
from tests.command_line import pretune

WAVENET = "scratch:wavenet,width=8,skip=8,depth=3,cycles=2"
ENCODER = "scratch:audiovqvae,width=16,mels=16,depth=1"
TINY_CNN = "scratch:audiocnn,width=4,blocks=2,mels=16"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def backbone(name: str, seconds: float = 0.1) -> Backbone:
    made = backbones.load(name)
    made.modality = replace(made.modality, seconds=seconds)
    return made


def batch_of(sounds: torch.Tensor, mask: torch.Tensor | None = None, targets: torch.Tensor | None = None) -> Batch:
    return Batch(
        inputs=Features(tensor=sounds, layout="raw", mask=mask),
        labels=None if targets is None else Labels.of(targets),
        index=torch.arange(len(sounds)),
    )


# --- WaveNet -------------------------------------------------------------------------------------


def test_mu_law_has_256_classes_that_are_their_own_middles() -> None:
    classes = torch.arange(CLASSES)
    assert mu_law(from_mu_law(classes)).equal(classes)
    x = torch.linspace(-1, 1, 1001)
    assert (from_mu_law(mu_law(x)) - x).abs().max() < 0.023, "half a step where steps are widest"
    assert mu_law(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_wavenet_looks_back_as_far_as_it_says_and_never_ahead() -> None:
    network = backbone(WAVENET).double().eval()  # the farthest sample counts for little
    reach = 2 * (2**3 - 1) + 1
    x = torch.rand(1, 64) - 0.5
    base = network(Features(tensor=x, layout="raw")).tensor
    moved = x.clone()
    moved[0, 20] = 0.9
    changed = (network(Features(tensor=moved, layout="raw")).tensor - base).abs().amax(-1)[0] > 0
    assert changed.nonzero()[:, 0].tolist() == list(range(20, 20 + reach))


def test_wavenet_remembers_what_it_looks_back_at() -> None:
    network = backbone(WAVENET).eval()
    x = torch.rand(3, 40) - 0.5
    with torch.no_grad(), remembering(network):
        parts = [network(Features(tensor=part, layout="raw")).tensor for part in x.split([1, 1, 5, 20, 13], 1)]
    assert torch.allclose(torch.cat(parts, 1), network(Features(tensor=x, layout="raw")).tensor, atol=1e-6)


def test_the_first_order_floor_counts_pairs_and_padding_is_not_scored() -> None:
    learner: Any = Causal().learner(backbone(WAVENET))
    x = torch.where(torch.arange(800) % 2 == 0, 0.5, -0.5)[None]
    learner.train()
    learner(batch_of(x))
    low, high = int(mu_law(torch.tensor(-0.5))), int(mu_law(torch.tensor(0.5)))
    assert learner.counts[high, low] == 400
    assert learner.counts[low, high] == 399
    learner.eval()
    expected = -(400 * math.log2(401 / (400 + 256)) + 399 * math.log2(400 / (399 + 256)) + math.log2(2 / 257)) / 800
    padded = torch.cat([x, torch.zeros(1, 800)], 1)
    mask = torch.arange(1600)[None] < 800
    with torch.no_grad():
        plain, masked = learner(batch_of(x)), learner(batch_of(padded, mask))
    assert plain.logs["floor_first_order_bits"] == pytest.approx(expected, rel=1e-5)
    assert float(masked.loss) == pytest.approx(float(plain.loss), rel=1e-5)
    assert plain.logs["bits_per_sample"] == pytest.approx(float(plain.loss) / math.log(2), rel=1e-5)


def test_cached_samples_are_those_of_the_whole_network() -> None:
    learner: Any = Causal().learner(backbone(WAVENET))
    learner.classes = ("low", "high")
    torch.nn.init.normal_(learner.conditions.weight)
    made = learner.generate(Wanted(prompt="high", count=2, length=30, temperature=0))[0]
    assert made.label == "high"
    sound = torch.from_numpy(made.audio)[None]
    with torch.no_grad():
        logits = learner.predict(batch_of(torch.cat([torch.zeros(1, 1), sound[:, :-1]], 1), targets=torch.tensor([1])))
    assert int(logits.argmax()) == int(mu_law(sound[0, -1]))


def test_a_class_that_is_not_known_is_refused() -> None:
    assert asked(("a", "b"), Wanted(count=3)) == ["a", "b", "a"]
    with pytest.raises(SettingError, match="Did you mean 'low'"):
        asked(("low", "high"), Wanted(prompt="lo"))
    with pytest.raises(SettingError, match="without labels"):
        asked((), Wanted(prompt="low"))


def test_objectives_refuse_networks_that_do_not_fit() -> None:
    with pytest.raises(SettingError, match="looks back only, such as scratch:wavenet"):
        Causal().learner(backbone(TINY_CNN))
    with pytest.raises(SettingError, match="patches of spectrograms"):
        Masked().learner(backbone(WAVENET))
    with pytest.raises(SettingError, match="as log-mel"):
        Autoencode().learner(backbone(WAVENET))


def test_a_relative_spectrogram_does_not_know_how_loud_a_clip_was_recorded() -> None:
    bank = Bank(sample_rate=8000, fft=256, mels=20)
    sound = torch.zeros(1, 4000)
    sound[0, :3000] = torch.from_numpy(tone(440, 0.375, 8000)).float()
    mask = torch.arange(4000) < 3000
    both = Features(tensor=torch.cat([sound, 0.05 * sound]), layout="raw", mask=mask.expand(2, -1))
    loud, quiet = LogMel(bank, 64, relative=True)(both).tensor
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)
    real = LogMel(bank, 64, relative=True)(both).mask
    assert real is not None
    assert float(loud[real[0]].mean().abs()) < 1e-5, "the mean of what is sound is what is subtracted"
    louder, quieter = LogMel(bank, 64)(both).tensor
    assert float((louder - quieter).abs().mean()) > 0.5
    with pytest.raises(SettingError, match="log_mel"):
        Audio(features="mfcc", relative=True)


@pytest.mark.parametrize("held", [0.1, 0.4])
def test_held_out_sounds_are_whole_groups_where_groups_are_named(held: float) -> None:
    def sampled(rows: list[Row], twins: Sequence[Sequence[int]] = ()) -> dict[str, Any]:
        return at_random(rows, np.arange(len(rows)), twins, fraction=held, seed=0, what="clips")

    rows = [Row(id=str(i), group="abc"[i % 3]) for i in range(30)]
    parts = sampled(rows)
    sides = [{rows[i].group for i in parts[part]} for part in ("train", "held")]
    assert not sides[0] & sides[1]
    assert len(parts["train"]) + len(parts["held"]) == 30
    assert len(parts["held"]) == (10 if held == 0.1 else 20), "as many groups as it takes for the share that was asked for"
    rows += [Row(id=f"alone{i}") for i in range(6)]
    mixed = sampled(rows)
    assert not {rows[i].group for i in mixed["train"]} & {rows[i].group for i in mixed["held"]} - {None}, "some without one change nothing"
    alike = [[0, 35], [1, 2, 3]]
    kept = sampled([Row(id=str(i)) for i in range(36)], alike)
    for same in alike:
        assert len({part for part, places in kept.items() for place in same if place in places}) == 1, "near-duplicates stay together"
    lone = [Row(id=str(i), group="a") for i in range(30)]
    with pytest.raises(DataError, match="stay whole"):
        sampled(lone)


# --- sound from log-mel --------------------------------------------------------------------------


def test_griffin_lim_gives_back_a_sound_with_that_spectrogram() -> None:
    spectrum = LogMel(Bank(sample_rate=8000, fft=256, mels=40), 64)
    sound = torch.from_numpy(tone(440, 0.4, 8000) + 0.5 * tone(1500, 0.4, 8000, seed=1)).float()[None]
    wanted = spectrum(Features(tensor=sound, layout="raw")).tensor
    made = griffin_lim(wanted, spectrum.bank, 64)
    assert abs(loudest_hertz(made[0].numpy(), 8000) - 440) < 35, "bins are 31 Hz apart"
    again = spectrum(Features(tensor=made, layout="raw")).tensor
    loud = wanted > wanted.max() - 1
    assert (again - wanted)[loud].square().mean().sqrt() < 0.1, "4 dB; 1 is 40 dB"
    assert griffin_lim(wanted, spectrum.bank, 64).equal(made)


def test_power_in_bins_explains_the_bands() -> None:
    filters = Bank(sample_rate=8000, fft=256, mels=20).matrix()
    power = torch.rand(1, 5, 129)
    found = bins(power @ filters, filters)
    assert (found >= 0).all()
    assert torch.allclose(found @ filters, power @ filters, rtol=0.02)


# --- codes ---------------------------------------------------------------------------------------


def test_a_codebook_finds_the_clusters_and_wakes_dead_codes() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    codebook = Codebook(8, 2)
    for _ in range(300):
        z = centres[torch.randint(4, (64,))] + 0.1 * torch.randn(64, 2)
        codebook.learn(z, codebook.codes(z))
    assert torch.cdist(centres, codebook.vectors).amin(1).max() < 0.3
    assert codebook.perplexity() > 3.5
    codebook.vectors[0] = 1e6
    codebook.uses[0] = 0
    codebook.learn(centres, codebook.codes(centres))
    assert torch.cdist(codebook.vectors[:1], centres).min() < 1e-4


def test_the_gradient_goes_straight_through() -> None:
    z = torch.randn(3, 2, requires_grad=True)
    out = straight_through(z, torch.ones(3, 2))
    (out * torch.arange(6.0).view(3, 2)).sum().backward()
    assert torch.allclose(out, torch.ones(3, 2))
    assert z.grad.equal(torch.arange(6.0).view(3, 2))


@pytest.mark.parametrize(("name", "sounds"), [(ENCODER, torch.rand(4, 800) - 0.5), ("scratch:vqvae,width=8,size=16", None)])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_each_phase_moves_its_own_half_only(name: str, sounds: torch.Tensor | None, bfloat16: bool) -> None:
    made = backbone(name) if sounds is not None else backbones.load(name)
    raw = sounds if sounds is not None else torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    learner: Any = Autoencode(codes=8).learner(made)
    learner.classes = ("a", "b")
    batch = batch_of(raw, targets=torch.tensor([0, 1, 0, 1]))
    for phase, prefix in (("autoencode", ("backbone", "narrow", "decoder")), ("prior", ("prior",))):
        learner.begin(phase)
        learner.train()
        before = learner.codebook.vectors.clone()
        learner.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = learner(batch).loss
        loss.backward()
        moved = {name for name, p in learner.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert moved
        assert all(name.startswith(prefix) for name in moved)
        assert before.equal(learner.codebook.vectors) == (phase == "prior")
    learner.eval()
    logs = learner(batch).logs
    assert 1 <= logs["codes_in_use"] <= 8
    assert {"error", "floor_mean_error", "floor_unigram"} <= set(logs)


def test_sounds_come_back_from_their_codes() -> None:
    learner: Any = Autoencode(codes=16).learner(backbone(ENCODER)).train()
    learner.begin("autoencode")
    sounds = torch.stack([torch.from_numpy(tone(200.0 + 150 * i, 0.1, 8000, seed=i)).float() for i in range(8)])
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=5e-3)
    with torch.no_grad():
        fresh = learner.eval()(batch_of(sounds)).logs["error"]
    learner.train()
    for _ in range(40):
        optimizer.zero_grad()
        learner(batch_of(sounds)).loss.backward()
        optimizer.step()
    with torch.no_grad():
        logs = learner.eval()(batch_of(sounds)).logs
    assert logs["error"] < 0.6 * fresh


def test_a_collapsed_codebook_is_said() -> None:
    learner: Any = Autoencode(codes=64).learner(backbone(ENCODER))
    metrics = {"codes_in_use": 2.0, "error": 0.1, "loss": 1.0}
    messages = learner.verdict(metrics, {"mean_error": 1.0, "unigram": 2.0})
    assert len(messages) == 1
    assert "effective codebook usage is 2.0 of 64" in messages[0]
    assert not learner.verdict({**metrics, "codes_in_use": 40.0}, {"mean_error": 1.0, "unigram": 2.0})


# --- masked --------------------------------------------------------------------------------------


def test_only_hidden_patches_of_sound_are_scored_and_the_network_never_sees_them() -> None:
    learner: Any = Masked(share=0.5).learner(backbone(TINY_CNN, 0.5)).train()
    sounds = torch.rand(6, 8000) - 0.5
    learner(batch_of(sounds))
    seen = []
    learner.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].tensor))
    torch.manual_seed(3)
    learner(batch_of(sounds))
    spectrum = learner.normaliser(Features(tensor=sounds, layout="raw")).tensor
    hidden = seen[0] != spectrum
    assert 0.35 < hidden.float().mean() < 0.65
    assert torch.allclose(seen[0][hidden], learner.mean.expand_as(spectrum)[hidden])


def test_statistics_of_bands_are_those_of_all_frames_so_far() -> None:
    learner: Any = Masked().learner(backbone(TINY_CNN, 0.5)).train()
    sounds = torch.rand(8, 8000) - 0.5
    for part in sounds.split(4):
        learner(batch_of(part))
    frames = learner.normaliser(Features(tensor=sounds, layout="raw")).tensor.flatten(0, 1)
    assert torch.allclose(learner.mean, frames.mean(0), atol=1e-5)
    assert torch.allclose(learner.square, frames.square().mean(0), atol=1e-5)


# --- whole runs ----------------------------------------------------------------------------------


def test_tones_are_pretrained_on_and_made(home: Path) -> None:
    write_tones(home / "tones", 10)
    settings = ["objective=autoencode", f"backbone={ENCODER}", "objective.codes=16", "epochs=2", "batch_size=8"]
    metrics = json.loads(pretune("pretrain", "tones", *settings, "threads=1", "out=run", "--json").stdout)
    assert metrics["classes"] == ["high", "low"]
    assert {"mean_error", "unigram"} <= set(metrics["floors"])
    assert 1 <= metrics["held"]["codes_in_use"] <= 16
    assert (home / "run" / "pictures" / "samples-00.png").stat().st_size > 1000
    made = pretune("generate", "run", "low", "count=2", "--json")
    files = [home / sample["file"] for sample in json.loads(made.stdout)["samples"]]
    assert [file.name for file in files] == ["low-000.wav", "low-001.wav"]
    assert all(file.stat().st_size > 1000 for file in files)


class Stopping(Silent):
    """Stops like Ctrl-C after so many steps of a phase."""

    def __init__(self, phase: str, step: int) -> None:
        self.phase, self.step = phase, step

    def event(self, event: Event) -> None:
        if isinstance(event, Stepped) and (event.phase, event.step) == (self.phase, self.step):
            raise Interrupted("stopped")


@pytest.mark.parametrize("phase", ["autoencode", "prior"])
def test_stopped_and_resumed_it_is_bit_identical(home: Path, phase: str) -> None:
    write_tones(home / "tones", 8)
    settings = {"objective": {"name": "autoencode", "codes": 8}, "backbone": ENCODER, "epochs": 3, "batch_size": 4, "threads": 1}
    api.pretrain("tones", **settings, out="whole")
    with pytest.raises(Interrupted):
        api.pretrain("tones", **settings, out="cut", reporter=Stopping(phase, 5))
    api.pretrain("tones", **settings, out="cut", resume=True)
    for file in ("weights/last.safetensors", "backbone/weights.safetensors"):
        assert (home / "whole" / file).read_bytes() == (home / "cut" / file).read_bytes()


def test_a_wavenet_and_a_masked_network_are_backbones_afterwards(home: Path) -> None:
    write_tones(home / "tones", 10)
    wavenet = api.pretrain("tones", objective="causal", backbone=WAVENET, epochs=2, threads=1, out="wavenet")
    assert wavenet.metrics["held"]["bits_per_sample"] > 0
    assert wavenet.metrics["floors"]["first_order_bits"] > 0
    samples = api.generate(wavenet.path, count=2, length=50)
    assert [sample.label for sample in samples] == ["high", "low"]
    assert samples[0].audio.shape == (50,)
    assert samples[0].sample_rate == 8000
    masked = api.pretrain("tones", objective="masked", backbone=TINY_CNN, epochs=2, threads=1, out="masked")
    assert masked.metrics["floors"]["visible_mean"] > 0
    done = api.finetune("tones", backbone=f"run:{masked.path}", strategy="linear_probe", epochs=2, threads=1, out="probe")
    assert np.isfinite(done.metrics["primary"]["value"])


def test_a_masked_network_with_weights_begins_at_the_mean_of_what_is_visible() -> None:
    network = backbone(TINY_CNN, 0.5)
    fresh: Any = Masked().learner(network)
    assert float(fresh.from_mean) == 0
    network.report = LoadReport(source="here", matched=1)
    learner: Any = Masked().learner(network).train()
    sounds = torch.stack([torch.from_numpy(tone(200.0 + 150 * i, 0.5, 16000, seed=i)).float() for i in range(6)])
    learner(batch_of(sounds))
    with torch.no_grad():
        out = learner.eval()(batch_of(sounds))
    assert float(out.loss) == pytest.approx(out.logs["floor_visible_mean"], rel=1e-5)
