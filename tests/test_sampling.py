"""How tokens are sampled: by the softmax of the logits over the temperature, cut by top-k and top-p."""

from __future__ import annotations

import pytest
import torch

from pretune.models.sampling import sample_index
from pretune.objectives._sampling import Wanted

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])


def shares(**settings: float) -> torch.Tensor:
    """Return how often each of four tokens is sampled."""
    many = LOGITS.repeat(20_000, 1)
    return sample_index(many, Wanted(**settings), torch.Generator().manual_seed(0)).bincount(minlength=4) / 20_000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_at_their_temperature(temperature: float) -> None:
    torch.testing.assert_close(shares(temperature=temperature), (LOGITS / temperature).softmax(0), atol=0.015, rtol=0)


def test_top_k_and_top_p_renormalise_what_they_keep() -> None:
    kept = LOGITS[:2].softmax(0)
    torch.testing.assert_close(shares(top_k=2)[:2], kept, atol=0.015, rtol=0)
    assert shares(top_k=2)[2:].sum() == 0
    p = LOGITS.softmax(0)
    torch.testing.assert_close(shares(top_p=float(p[0]) + 0.01)[:2], kept, atol=0.015, rtol=0)
    assert shares(top_p=float(p[0]) - 0.01)[0] == 1.0


def test_temperature_zero_takes_the_likeliest_and_a_seed_repeats_its_draws() -> None:
    assert shares(temperature=0.0)[0] == 1.0
    draws = [sample_index(LOGITS.repeat(50, 1), Wanted(), torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
