"""The trigram baseline: a distribution, that of the definition, and better than frequencies where tokens follow each other."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pretune.deploy._pretraining import _verdict
from pretune.evaluation import ngram
from pretune.evaluation.ngram import unigram
from pretune.objectives.causal import CausalLearner
from pretune.runner.pretrained import unknown_tokens


def by_definition(train: list[int], before: tuple[int, ...], token: int, vocabulary: int) -> float:
    """Return a token's chance by counting in loops."""
    if not before:
        return (train.count(token) + 1) / (len(train) + vocabulary)
    order = len(before)
    follow = Counter(train[i + order] for i in range(len(train) - order) if tuple(train[i : i + order]) == before)
    shorter = by_definition(train, before[1:], token, vocabulary)
    total = sum(follow.values())
    return shorter if not total else (max(follow[token] - 0.75, 0) + 0.75 * len(follow) * shorter) / total


@pytest.mark.parametrize("seed", range(4))
def test_it_is_interpolated_absolute_discounting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, held = rng.integers(0, 5, 60), rng.integers(0, 6, 20)  # 5 was never seen
    wanted = [-math.log(by_definition(train.tolist(), tuple(held[max(0, i - 2) : i].tolist()), int(held[i]), 6)) for i in range(20)]
    assert ngram.trigram(train, held, 6) == pytest.approx(np.mean(wanted))


def test_all_chances_add_up_to_one() -> None:
    train = np.random.default_rng(0).integers(0, 4, 50)
    for before in ((0, 1), (3, 3), (4, 4)):
        chances = []
        for token in range(5):
            whole = ngram.trigram(train, np.array([*before, token]), 5) * 3
            chances.append(math.exp(-(whole - ngram.trigram(train, np.array(before), 5) * 2)))
        assert sum(chances) == pytest.approx(1)


def test_it_knows_what_follows_what_and_frequencies_do_not() -> None:
    cycle = np.tile([0, 1, 0, 2], 200).astype(np.uint16)  # what follows 0 depends on what came before it
    frequencies = unigram(np.bincount(cycle, minlength=3), np.bincount(cycle, minlength=3))
    assert ngram.trigram(cycle, cycle[:100], 3) < 0.1 < 0.5 < frequencies
    noise = np.random.default_rng(0).integers(0, 3, 4000)
    assert ngram.trigram(noise, noise[:1000][::-1], 3) == pytest.approx(math.log(3), abs=0.05)
    assert ngram.trigram(np.array([0]), np.array([0]), 2) == pytest.approx(-math.log(2 / 3))
    assert ngram.trigram(np.array([0, 1]), np.array([], dtype=int), 2) == 0.0


@pytest.mark.parametrize(
    ("loss", "told"),
    [(8.03, "token frequencies alone (6.290)"), (6.2, "token frequencies alone"), (5.5, "trigram model"), (4.0, "")],
)
def test_a_causal_model_above_its_baselines_is_told_so(loss: float, told: str) -> None:
    messages = CausalLearner.verdict(None, {"loss": loss}, {"unigram": 6.29, "trigram": 5.2})  # type: ignore[arg-type]
    assert (told in messages[0]) if told else messages == []
    assert len(messages) <= 1
    assert CausalLearner.verdict(None, {"loss": 1.0}, {}) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "diagnosis", "outcome"), [(8.03, ["x"], "worse"), (5.3, [], "worse"), (5.1, [], "better"), (5.1, ["x"], "uncertain")]
)
def test_the_report_of_pretraining_has_a_verdict(loss: float, diagnosis: list[str], outcome: str) -> None:
    told = _verdict({"held": {"loss": loss}, "floors": {"unigram": 6.29, "trigram": 5.2}, "diagnosis": diagnosis}, "loss")
    assert told is not None
    assert told["outcome"] == outcome
    assert _verdict({"held": {"loss": loss}, "floors": {}}, "loss") is None


@pytest.mark.parametrize(("share", "messages"), [(0.66, True), (0.05, False)])
def test_pretraining_knows_of_tokens_that_its_tokenizer_does_not(share: float, messages: bool) -> None:
    material: Any = SimpleNamespace(unknown=share)
    assert bool(unknown_tokens(material)) == messages
    assert not messages or "66 % of the held-out tokens are unknown to the tokenizer" in unknown_tokens(material)[0]
