"""How many outputs of a sequence there are a second, and which examples have fewer than their labels need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pretune.errors import DataError
from pretune.modalities.audio import Audio
from pretune.runner.prepare import Prepared
from pretune.runner.reporter import Reporter
from pretune.types import Features, Finding, LedgerEntry

if TYPE_CHECKING:
    from pretune.models import Model

_SHOWN = 5


def settle(data: Prepared, model: Model, reporter: Reporter) -> bool:
    """Put the model's outputs a second into the space, and take examples with too few outputs for their labels out of training.

    Held-out examples stay: that a model cannot write all that is said in a clip is part of its score, and is reported. Return whether
    there are such examples.

    Raises:
        DataError: no training example is left.
    """
    task, modality = data.task, data.modality
    needed = task.needed(data.encoded, data.space) if isinstance(modality, Audio) else None
    if needed is None or not isinstance(modality, Audio):
        return False
    rate = outputs_of(model, modality) / modality.window * modality.sample_rate
    data.space = task.timed(data.space, rate)
    lengths = np.minimum(data.ingested.store.lengths, modality.window)
    there = np.ceil(lengths / modality.sample_rate * rate - 1e-6).astype(np.int64)
    short = {split: positions[there[positions] < needed[positions]] for split, positions in data.splits.items()}
    for split, positions in short.items():
        if len(positions):
            _report(data, split, positions, there, needed, reporter)
    for split in ("train", "select"):
        if split in data.splits:
            data.splits[split] = np.setdiff1d(data.splits[split], short[split])
            data.counts[split] = len(data.splits[split])
    gone = sum(len(short.get(split, ())) for split in ("train", "select"))
    data.counts |= {"used": data.counts["used"] - gone, "dropped": data.counts["dropped"] + gone}
    if not len(data.splits["train"]):
        raise DataError(f"every training clip is too short for its transcript: at {rate:.3g} outputs a second none has enough.")
    return any(map(len, short.values()))


@torch.inference_mode()
def outputs_of(model: Model, modality: Audio) -> int:
    """Return the outputs of one whole window."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    silence = Features(tensor=torch.zeros(1, modality.window, device=device), layout="raw")
    positions = model.before_head(silence).tensor.shape[1]
    count = int(model.head.real(torch.ones(1, positions, dtype=torch.bool)).sum())
    model.train(was)
    return count


def _report(data: Prepared, split: str, positions: np.ndarray, there: np.ndarray, needed: np.ndarray, reporter: Reporter) -> None:
    """Name the clips whose transcripts are too long for them, in the ledger where they are dropped."""
    learned = split in ("train", "select")
    for at in positions if learned else ():
        detail = (
            f"has {there[at]} outputs for a transcript that needs {needed[at]} at least ({data.task.shown(data.rows[at].target)[:60]!r}): "
            "the clip is too short for its transcript"
        )
        data.ledger.append(LedgerEntry(item=data.rows[at].id, action="dropped", reason="too_short", detail=detail))
    names = ", ".join(data.rows[at].id for at in positions[:_SHOWN]) + (" …" if len(positions) > _SHOWN else "")
    fate = "they are not trained on" if learned else "they count as errors"
    message = (
        f"{len(positions)} {split} clip(s) are too short for their transcripts, which is mostly a wrong transcript or a file that was cut "
        f"off; {fate}: {names}."
    )
    data.findings.append(Finding(kind="too_short", severity="warning", message=message, items=tuple(data.rows[at].id for at in positions)))
    reporter.warn(message)
