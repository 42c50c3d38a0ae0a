"""Choosing how steps compute: it measures, says what it found, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from pretune.errors import SettingError, TrainingError
from pretune.kernels import processor
from pretune.labels import Labels
from pretune.models import Learner
from pretune.training import acceleration
from pretune.training.acceleration import choose
from pretune.training.plan import Plan, Precision
from pretune.training.step import Stepper
from pretune.training.timing import Times
from pretune.types import Batch, Features, StepOutput


class Pictures(Learner):
    """A small convnet with dropout and a norm, frozen or not."""

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.dropout = nn.Dropout(0.0 if frozen else 0.5)
        self.frozen = frozen
        self.most = 1_000
        """Items that there is memory for."""

    def train(self, mode: bool = True) -> Pictures:
        super().train(mode)
        if self.frozen:
            self.net[1].eval()
        return self

    def forward(self, batch: Batch) -> StepOutput:
        if batch.size > self.most:
            raise torch.OutOfMemoryError("out of memory")
        loss = (self.dropout(self.predict(batch)).sum(1) - batch.target).square().mean()
        return StepOutput(loss=loss, size=batch.size)

    def predict(self, batch: Batch) -> Tensor:
        return self.net(batch.inputs.tensor.float() / 255)


class Comparing(Pictures):
    """One whose loss would compare the items of a batch."""

    compares: ClassVar[bool] = True


def pictures(size: int = 12, side: int = 16) -> Batch:
    x = torch.randint(256, (size, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batch(inputs=Features(tensor=x, layout="raw"), labels=Labels.of(torch.linspace(0, 1, size)), index=torch.arange(size))


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[bool, bool], float]:
    """Makes up how long a mode takes: (bfloat16, channels last) -> seconds; still runs it."""
    times: dict[tuple[bool, bool], float] = {}

    def fake(steps: dict[Precision, Callable[[int], None]], device: torch.device, **_: Any) -> Times[Precision]:
        for step in steps.values():
            step(8)
        return Times({precision: times[precision.bfloat16, precision.channels_last] / 8 for precision in steps})

    monkeypatch.setattr(acceleration, "race", fake)
    monkeypatch.setattr(processor, "has_native_bfloat16", lambda device: True)
    return times


@pytest.fixture
def no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which layouts are timed too."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


@pytest.mark.usefixtures("no_onednn")
def test_the_fastest_mode_is_chosen_and_said(seconds: dict[tuple[bool, bool], float]) -> None:
    seconds |= {(False, False): 0.4, (False, True): 0.5, (True, True): 0.2}
    chosen = choose(Pictures(frozen=True), pictures())
    assert (chosen.bfloat16, chosen.channels_last) == (True, True)
    assert chosen.reason == "40 examples/s on one core; float32: 20; float32 channels last: 16"


def test_bfloat16_is_not_timed_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_native_bfloat16", lambda device: False)
    monkeypatch.setattr(acceleration, "race", lambda *_, **__: pytest.fail("nothing is to be timed"))
    chosen = choose(Pictures(frozen=True), pictures())
    assert (chosen.bfloat16, chosen.reason) == (False, "this processor has no native bfloat16")
    asked = choose(Pictures(frozen=True), pictures(), bfloat16=True)
    assert (asked.bfloat16, asked.reason) == (
        True,
        "as asked; this processor has no native bfloat16: expect it to be tens of times slower than float32",
    )


@pytest.mark.usefixtures("no_onednn")
def test_bfloat16_must_earn_its_rounding(seconds: dict[tuple[bool, bool], float]) -> None:
    seconds |= {(False, False): 0.5, (False, True): 0.22, (True, True): 0.2}
    assert choose(Pictures(frozen=True), pictures()).bfloat16 is False


def test_a_number_format_that_was_asked_for_is_kept(seconds: dict[tuple[bool, bool], float]) -> None:
    for wanted in (False, True):
        chosen = choose(Pictures(frozen=True), pictures(), bfloat16=wanted)
        assert (chosen.bfloat16, chosen.channels_last, chosen.reason) == (wanted, True, "as asked")


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_choosing_leaves_nothing_behind(frozen: bool, mode: bool) -> None:
    learner = Pictures(frozen=frozen)
    learner.train(mode)
    modes = [module.training for module in learner.modules()]
    state, random = {k: v.clone() for k, v in learner.state_dict().items()}, torch.get_rng_state()
    choose(learner, pictures())
    assert all(torch.equal(v, state[k]) for k, v in learner.state_dict().items())
    assert all(p.grad is None for p in learner.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in learner.modules()] == modes


def test_micro_batches_hold_the_widest_map_below_a_size_and_never_split_a_norms_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "WIDEST", 5 * 8 * 14 * 14 * 4)
    sizes = [choose(Pictures(frozen=True), pictures(), bfloat16=b).micro_batch for b in (False, True)]
    assert sizes == [4, 8]
    assert choose(Pictures(frozen=False), pictures(), bfloat16=False).micro_batch is None
    assert choose(Pictures(frozen=True), pictures(8), bfloat16=True).micro_batch is None


def test_a_micro_batch_is_as_asked_and_refused_where_a_loss_compares_items() -> None:
    assert choose(Pictures(frozen=False), pictures(), bfloat16=False, micro_batch=5).micro_batch == 5
    comparing = Comparing(frozen=True)
    assert choose(comparing, pictures(), bfloat16=True).micro_batch is None
    with pytest.raises(SettingError, match="micro_batch does not apply: this loss compares"):
        choose(comparing, pictures(), micro_batch=5)


def test_where_memory_runs_out_batches_are_halved_unless_their_items_are_compared() -> None:
    def step(learner: Pictures) -> Stepper:
        learner.most = 4
        optimizer = torch.optim.SGD(learner.parameters())
        stepper = Stepper(learner, optimizer, Plan(number=0, phase="full", epochs=1, lr=0.1), torch.device("cpu"))
        stepper(pictures())
        return stepper

    assert step(Pictures(frozen=True)).micro_batch == 3
    with pytest.raises(TrainingError, match="compares the 12 items"):
        step(Comparing(frozen=True))


def test_sequences_have_neither_layout_nor_micro_batch() -> None:
    class Numbers(Learner):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 1)

        def forward(self, batch: Batch) -> StepOutput:
            return StepOutput(loss=self.predict(batch).square().mean(), size=batch.size)

        def predict(self, batch: Batch) -> Tensor:
            return self.net(batch.inputs.tensor)

    chosen = choose(Numbers(), Batch(inputs=Features(tensor=torch.randn(6, 4), layout="pooled"), labels=None, index=torch.arange(6)))
    assert (chosen.channels_last, chosen.micro_batch) == (False, None)


def test_folded_micro_batches_take_the_step_of_the_whole_batch() -> None:
    after = []
    for precision in (Precision(), Precision(channels_last=True, micro_batch=5)):
        learner = Pictures(frozen=True)
        learner.train()
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        stepper = Stepper(learner, optimizer, Plan(number=0, phase="p", epochs=1, lr=0.1, precision=precision), torch.device("cpu"))
        losses = [float(stepper(pictures()).loss) for _ in range(3)]
        after.append((losses, learner.state_dict()))
    assert after[0][0] == pytest.approx(after[1][0], rel=1e-5)
    for name, tensor in after[0][1].items():
        torch.testing.assert_close(after[1][1][name], tensor, msg=name)
