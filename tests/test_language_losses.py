"""What language models are scored on: each next token once, hidden tokens alone, and baselines without a network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretune import backbones
from pretune.backbones import Builder
from pretune.evaluation.ngram import unigram
from pretune.modalities.text import Text
from pretune.objectives._base import Suggested
from pretune.objectives.causal import Causal
from pretune.objectives.masked import Masked
from pretune.types import Batch, Features, Row

ROWS = [Row(id=str(i), text=(" ".join(f"{a}{b}" for a in "abcdef" for b in "uvwxyz"),), split="train") for i in range(3)]


def learner_of(objective: Causal | Masked, network: str) -> Any:
    torch.manual_seed(0)
    made = Text(vocabulary=300, max_tokens=16, verbatim=isinstance(objective, Causal)).fitted_to(ROWS)[0]
    made = made if isinstance(objective, Causal) else made.with_mask()
    settings = {"width": 16, "layers": 1, "heads": 2, "vocabulary": made.size, "dropout": 0.0}
    backbone = backbones.build(Builder(id=network, settings=settings))
    backbone.modality = replace(made, vocabulary=made.size)
    return objective.learner(backbone)


def batch_of(ids: Tensor) -> Batch:
    return Batch(inputs=Features(tensor=ids, layout="raw"), labels=None, index=torch.arange(len(ids)))


def test_each_token_is_predicted_from_those_before_it_in_nats() -> None:
    learner = learner_of(Causal(), "scratch:gpt").eval()
    ids = torch.randint(5, 20, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = learner.backbone(Features(tensor=ids, layout="raw")).tensor
        logits = learner.head.logits(features)
        expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert float(learner(batch_of(ids)).loss) == pytest.approx(float(expected), rel=1e-4)
        last = learner.predict(batch_of(ids))
    torch.testing.assert_close(last, logits[:, -1], atol=1e-4, rtol=1e-4)
    assert Causal().block(learner.backbone.modality) == (17, 16), "blocks share an id, so that each is predicted once"


def test_hidden_tokens_alone_are_scored_and_against_what_they_were() -> None:
    learner = learner_of(Masked(share=0.4), "scratch:transformer").eval()
    ids = torch.randint(6, 20, (3, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.manual_seed(4)
        told = float(learner(batch_of(ids)).loss)
        torch.manual_seed(4)
        framed = learner.framed(ids)
        hidden = learner.hidden(framed)
        shown = learner.shown(framed, hidden)
        features = learner.backbone(Features(tensor=shown, layout="raw")).tensor
        expected = F.cross_entropy(learner.head.logits(features)[hidden], framed[hidden])
    assert told == pytest.approx(float(expected), rel=1e-4)
    assert (shown == framed)[~hidden].all(), "what is not hidden is shown as it is"
    assert 0 < int(hidden.sum()) < hidden.numel()


def test_the_unigram_baseline_is_the_cross_entropy_of_smoothed_counts() -> None:
    train, held = np.array([5, 0, 3, 7]), np.array([1, 2, 0, 4])
    p = (train + 1) / (train + 1).sum()
    assert unigram(train, held) == pytest.approx(-(held * np.log(p)).sum() / 7)
    p = np.array([1, 4, 8]) / 13  # without the first id, on both sides
    assert unigram(train, held, (0,)) == pytest.approx(-(2 * np.log(p[0]) + 4 * np.log(p[2])) / 6)


def test_rates_shrink_with_the_root_of_the_width_of_fresh_networks_only() -> None:
    suggested = Suggested(backbone="", lr=0.01, batch_size=1, epochs=1, width=64)
    fresh = backbones.build(Builder(id="scratch:gpt", settings={"width": 16, "layers": 1, "heads": 2, "vocabulary": 300}))
    assert suggested.rate(fresh) == pytest.approx(0.01 * math.sqrt(64 / 16))
    fresh.builder = Builder(id="transformers:x")
    assert suggested.rate(fresh) == 0.01
    continued = Suggested(backbone="", lr=0.01, batch_size=8, epochs=1, optim="muon", continued_lr=3e-4).for_weights()
    assert (continued.lr, continued.optim, continued.batch_size) == (3e-4, "adamw", 8)


def test_groups_of_a_pretraining_tell_hidden_matrices_from_tables_heads_and_vectors() -> None:
    learner = learner_of(Masked(), "scratch:transformer")
    learner.begin("pretrain")
    groups = {group.name: group for group in learner.groups()}
    named = dict(learner.named_parameters())
    assert sum(len(group.params) for group in groups.values()) == len(named)
    assert groups["hidden"].hidden
    assert all(p.ndim > 1 and not name.startswith("head.") for name, p in groups["hidden"])
    assert not any("words" in name or "embedding" in name for name, _ in groups["hidden"])
    assert all(p.ndim <= 1 for _, p in groups["vectors"])
    assert not groups["vectors"].decay
    learner.pace = 10.0
    scales = {name: group.lr_scale for group in learner.groups() for name, _ in group}
    assert {scale for name, scale in scales.items() if name.startswith("backbone.")} == {1.0}
    assert {scale for name, scale in scales.items() if not name.startswith("backbone.")} == {10.0}
