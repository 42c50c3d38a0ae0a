"""What a pretraining run learns from and is measured on, however its data were read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pretune.backbones import Backbone
from pretune.data.dataset import View
from pretune.runner.fingerprint import Fingerprint
from pretune.runner.prepare import report_ledger
from pretune.runner.reporter import Reporter
from pretune.types import LedgerEntry


@dataclass(kw_only=True)
class PretrainingData:
    """Views of a corpus or of unlabelled examples, for a network that can read them."""

    backbone: Backbone
    fingerprint: Fingerprint
    """All examples, their splits, and the network before training."""
    train: View
    validation: View
    ledger: list[LedgerEntry]
    counts: dict[str, Any]
    """Blocks and tokens, or examples, of each split."""
    floors: dict[str, float] = field(default_factory=dict)
    """Losses that need no network, in the units of the objective's."""
    per_character: float | None = None
    """Where texts are predicted: tokens a character of the validation set, which turns nats per token into nats per character."""
    unknown: float = 0.0
    """Share of the validation set's tokens that the tokenizer does not know."""
    classes: tuple[str, ...] = ()
    """Names of the labels that the views carry."""


def report(reporter: Reporter, messages: Sequence[str], ledger: list[LedgerEntry], warnings: Collection[str] = ()) -> None:
    """Report what was found in the data, warn of some of it, and name what was dropped."""
    for line in messages:
        (reporter.warn if line in warnings else reporter.say)(line)
    report_ledger(ledger, reporter)
