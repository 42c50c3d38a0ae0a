"""AdamW by rows is AdamW: idle rows, weight decay, changing rates, clipping, and a resume in the middle."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pretune.training.optim import Optim, clip, load_named_state, named_state
from pretune.training.rows import RowUpdates
from pretune.types import ParamGroup

WORDS, WIDTH, STEPS = 60, 8, 300


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids).mean(1))


def optimizer_of(network: Network, *, rows: bool) -> torch.optim.Optimizer:
    groups = [
        ParamGroup(name="table", params=(("table.weight", network.table.weight),)),
        ParamGroup(name="head", params=tuple(("head." + k, p) for k, p in network.head.named_parameters()), decay=False),
    ]
    return Optim().build(groups, lr=1e-2, weight_decay=0.05, embeddings=[network.table] if rows else [])


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Few words often, most hardly ever, some never."""
    generator = torch.Generator().manual_seed(step)
    ids = (0.9 * WORDS * torch.rand(4, 3, generator=generator) ** 5).long()
    return ids, torch.randint(0, 3, (4,), generator=generator)


def train(network: Network, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    network.train()
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (0.6 + 0.5 * math.cos(math.pi * step / STEPS))
        ids, targets = batch(step)
        loss = F.cross_entropy(network(ids), targets)
        loss.backward()
        clip(optimizer, 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def test_it_takes_the_very_steps_of_adamw():
    dense, sparse = Network(), Network()
    by_rows = optimizer_of(sparse, rows=True)
    expected = train(dense, optimizer_of(dense, rows=False), range(STEPS))
    assert train(sparse, by_rows, range(STEPS)) == pytest.approx(expected, abs=1e-5)
    assert isinstance(by_rows, RowUpdates)
    by_rows.settle()
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sparse.head.weight, dense.head.weight, atol=1e-5, rtol=1e-4)
    moved = (dense.table.weight - Network().table.weight).abs().amax(1)
    assert (moved > 0.01).all(), "rows that were never looked up decay too"


def test_idle_rows_wait_until_they_are_settled_or_looked_up():
    network = Network()
    optimizer = optimizer_of(network, rows=True)
    train(network, optimizer, range(3))
    never = WORDS - 1
    before = Network().table.weight[never]
    assert torch.equal(network.table.weight[never], before)
    network.table(torch.tensor([never]))
    assert not torch.equal(network.table.weight[never], before)


def test_a_resume_repeats_every_bit():
    whole, begun, resumed = Network(), Network(), Network()
    expected = train(whole, optimizer_of(whole, rows=True), range(40))
    first = optimizer_of(begun, rows=True)
    train(begun, first, range(25))
    resumed.load_state_dict(begun.state_dict())
    second = optimizer_of(resumed, rows=True)
    load_named_state(second, named_state(first))
    assert train(resumed, second, range(25, 40)) == expected[25:]
    assert torch.equal(resumed.table.weight, whole.table.weight)


def test_release_leaves_the_table_as_it_was():
    network = Network()
    optimizer = optimizer_of(network, rows=True)
    assert network.table.sparse
    assert isinstance(optimizer, RowUpdates)
    optimizer.release()
    assert not network.table.sparse
    assert not network.table._forward_pre_hooks


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_clipping_is_that_of_torch(name: str):
    ours, theirs = nn.Linear(5, 4), nn.Linear(5, 4)
    theirs.load_state_dict(ours.state_dict())
    settings = Optim(name=name)  # type: ignore[arg-type]
    for network in (ours, theirs):
        group = ParamGroup(name="all", params=tuple(network.named_parameters()))
        optimizer = settings.build([group], lr=0.1, weight_decay=0.0)
        (7 * network(torch.ones(2, 5)).square().sum()).backward()
        if network is ours:
            clip(optimizer, 0.5)
        else:
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
