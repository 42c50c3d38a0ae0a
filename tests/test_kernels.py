"""Shortcuts: each equals the plain operation, none is taken where its trial failed, and one switch turns all off."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretune import backbones, kernels
from pretune.architectures.audiolstm import AudioLSTM
from pretune.architectures.lstm import Lstm
from pretune.architectures.transformer import Transformer
from pretune.backbones import inference_copy
from pretune.errors import SettingError
from pretune.kernels import SHORTCUTS, Shortcut, _shortcut, processor
from pretune.kernels.attention import attention, written_out_attention
from pretune.kernels.clamp import output_clamp
from pretune.kernels.convolution import conv2d_act, fused_convolution
from pretune.kernels.depthwise import DepthwiseConv2d
from pretune.kernels.memory import kept_memory
from pretune.kernels.recurrence import autocast_lstm, lstm
from pretune.types import Features


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shortcut, "_results", {})


@pytest.fixture
def all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every trial fails."""

    def broken(shortcut: Shortcut, dtype: torch.dtype) -> bool:
        return False

    monkeypatch.setattr(Shortcut, "_is_right", broken)
    monkeypatch.setattr(_shortcut, "_results", {})


@pytest.mark.parametrize("shortcut", SHORTCUTS, ids=lambda s: s.name)
def test_a_shortcut_that_is_taken_equals_the_plain_operation(shortcut: Shortcut) -> None:
    compared = 0
    for dtype in (torch.float32, torch.bfloat16):
        if dtype == torch.float32 and shortcut is autocast_lstm:
            continue  # autocast has no float32
        if shortcut.works(dtype):
            for short, plain in shortcut.trial(dtype):
                error = (short.detach().float() - plain.detach()).norm() / plain.detach().norm()
                assert error < (0.02 if dtype == torch.bfloat16 else 1e-5)
                compared += 1
    if shortcut in (written_out_attention, output_clamp):  # these are made of public operations: they work everywhere
        assert compared


@pytest.mark.parametrize(
    "failure", [RuntimeError("bf16 path needs the cpu support"), AttributeError("no such operation"), TypeError("other arguments")]
)
def test_a_shortcut_that_raises_is_not_taken(failure: Exception) -> None:
    def trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        raise failure
        yield

    assert Shortcut(name="raises", trial=trial).works(torch.float32) is False


def test_a_shortcut_that_is_wrong_is_not_taken_and_is_tried_once() -> None:
    calls: list[torch.dtype] = []

    def trial(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
        calls.append(dtype)
        yield torch.ones(3), torch.ones(3)
        yield torch.ones(3), torch.tensor([1.0, 1.0, 1.5])

    wrong = Shortcut(name="wrong", trial=trial)
    assert [wrong.works(torch.float32), wrong.works(torch.float32)] == [False, False]
    assert calls == [torch.float32]


def test_not_a_number_is_never_equal() -> None:
    nan = Shortcut(name="nan", trial=lambda dtype: [(torch.tensor([torch.nan]), torch.tensor([torch.nan]))])
    assert nan.works(torch.float32) is False


def test_a_trial_changes_no_random_stream_and_works_anywhere() -> None:
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert written_out_attention.works(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_switch_turns_all_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernels.plain():
        assert not any(shortcut.works(torch.float32) for shortcut in SHORTCUTS)
    assert kernels.enabled()
    monkeypatch.setenv(kernels.SWITCH, "plain")
    assert not any(shortcut.works(torch.float32) for shortcut in SHORTCUTS)
    monkeypatch.setattr("pretune.kernels.memory._glibc", lambda: pytest.fail("memory is not to be kept"))
    with kept_memory():
        monkeypatch.setenv(kernels.SWITCH, "fast")
        with pytest.raises(SettingError, match=r"PRETUNE_KERNELS=fast .* use auto \(the default\) or plain"):
            kernels.enabled()


def _networks() -> list[tuple[nn.Sequential, Features]]:
    """Return networks that take every shortcut, as their stages in a row, with an input."""
    torch.manual_seed(0)
    images = Features(tensor=torch.randn(2, 3, 32, 32), layout="map")
    audio = Features(tensor=torch.randn(2, 7, 40), layout="sequence", mask=torch.arange(7) < torch.tensor([[7], [5]]))
    words = Features(tensor=torch.randint(5, 50, (2, 6)), layout="sequence", mask=torch.arange(6) < torch.tensor([[6], [4]]))
    networks = [
        (backbones.load("scratch:efficientnet_lite"), images),
        (AudioLSTM(mels=40, units=8, layers=2).build(), audio),
        (Lstm(embedding=8, hidden=8, layers=1, vocabulary=50).build(), words),
        (Transformer(width=16, layers=1, heads=2, vocabulary=50).build(), words),
    ]
    return [(nn.Sequential(*network.stages.values()), features) for network, features in networks]


def test_networks_compute_the_same_where_every_trial_fails(request: pytest.FixtureRequest) -> None:
    quick = _outputs()
    request.getfixturevalue("all_fail")
    assert not any(shortcut.works(torch.float32) for shortcut in SHORTCUTS)
    plain = _outputs()
    assert len(quick) == len(plain) > 0
    for one, other in zip(quick, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def _outputs() -> list[Tensor]:
    """Return outputs and gradients of all networks, in float32; and in bfloat16 that they are finite."""
    found = []
    for network, features in _networks():
        network.eval()
        out = network(features).tensor
        out.square().mean().backward()
        found += [out.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]
        found.append(inference_copy(network, bfloat16=False)(features).tensor)
        assert inference_copy(network, bfloat16=True)(features).tensor.isfinite().all()
    return found


@pytest.mark.usefixtures("all_fail")
def test_plain_operations_are_called_where_trials_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(1, 3, 5, 5), torch.randn(4, 3, 3, 3)
    out = conv2d_act(x, weight, None, nn.ReLU6(), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert torch.equal(out, F.relu6(F.conv2d(x, weight, padding=1)))
    conv = DepthwiseConv2d(4, 4, 5, groups=4)
    monkeypatch.setattr("pretune.kernels.depthwise._Depthwise.apply", lambda *_: pytest.fail("the shortcut was taken"))
    conv(torch.randn(1, 4, 8, 8)).sum().backward()
    monkeypatch.setattr("pretune.kernels.attention._Attention.apply", lambda *_: pytest.fail("the shortcut was taken"))
    assert attention(torch.randn(3, 1, 2, 4, 8, requires_grad=True), None, 0.5).shape == (1, 4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert lstm(nn.LSTM(4, 4), torch.randn(2, 1, 4))[0].dtype == torch.float32


def test_dropout_of_plain_attention_drops() -> None:
    parts = torch.randn(3, 1, 2, 32, 8)
    with kernels.plain():
        assert not torch.equal(attention(parts, None, 0.5), attention(parts, None, 0.0))


def test_native_bfloat16_is_what_a_product_says(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for ratio, native in ((0.5, True), (1.9, True), (20.0, False)):
        processor._cpu_has_native_bfloat16.cache_clear()
        monkeypatch.setattr(processor, "_product_seconds", lambda dtype, r=ratio: r if dtype == torch.bfloat16 else 1.0)
        assert processor.has_native_bfloat16(cpu) is native
    processor._cpu_has_native_bfloat16.cache_clear()

    def missing(dtype: torch.dtype) -> float:
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(processor, "_product_seconds", missing)
    assert processor.has_native_bfloat16(cpu) is False
    processor._cpu_has_native_bfloat16.cache_clear()


SCRIPT = """
import torch
from torch import nn
from pretune.architectures.audiolstm import AudioLSTM
from pretune import backbones
from pretune.backbones import inference_copy
from pretune.kernels import processor
from pretune.types import Features

images = Features(tensor=torch.randn(1, 3, 32, 32), layout="map")
audio = Features(tensor=torch.randn(1, 5, 40), layout="sequence")
for network, features in ((backbones.load('scratch:efficientnet_lite'), images), (AudioLSTM(mels=40, units=8, layers=1).build(), audio)):
    for bfloat16 in (False, True):
        assert inference_copy(network.stages.values(), bfloat16)(features).tensor.isfinite().all()
print(processor.has_native_bfloat16(torch.device("cpu")))
"""


def test_processors_without_avx512_run_everything_in_either_dtype() -> None:
    """Let oneDNN and PyTorch see AVX2 only, as most laptops have it."""
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    if platform.machine() == "x86_64":
        assert done.stdout.strip() == "False"


def test_a_dtype_that_onednn_does_not_have_takes_the_plain_convolution() -> None:
    assert fused_convolution.works(torch.float64) is False
    assert fused_convolution.works(torch.float16) is False
