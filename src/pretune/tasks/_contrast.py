"""What the texts of a batch are to each other, and the loss of their similarities."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.evaluation.retrieval import PASSAGE, QUERY, TEXT
from pretune.labels import Labels
from pretune.models import SupervisedLearner
from pretune.types import Batch, StepOutput

_OUT = -1e4
"""Similarity of what is not compared: finite, so that gradients are."""


class RetrievalLearner(SupervisedLearner):
    """Descends a loss between the embeddings of a batch, which is therefore never split."""

    compares: ClassVar[bool] = True

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of a batch, and beside it that of embeddings that are all alike: what guessing among its texts gives."""
        out = super().forward(batch)
        assert batch.labels is not None
        alike = torch.zeros(batch.size, 1, device=out.loss.device)
        return replace(out, logs={**out.logs, "guessing_loss": float(contrastive_loss(alike, batch.labels, 1.0))})


def relations(labels: Labels) -> tuple[Tensor, Tensor]:
    """Return which texts belong to which, and which do not, (B, B) of bool each; no row of a text that searches nothing.

    Queries search passages and negatives, texts of classes each other. Equal wordings are one text: what is worded like the query, or like
    something that belongs to it, is no negative.
    """
    role_B, text_B, anchor_B, label_B = (
        tensor for name in ("role", "text", "anchor", "label") if isinstance(tensor := labels[name], Tensor)
    )
    worded_alike = text_B[:, None] == text_B
    searches, searched = (role_B == QUERY) | (role_B == TEXT), role_B != QUERY
    of_pairs = (role_B == PASSAGE) & (text_B[:, None] == anchor_B) & (role_B == QUERY)[:, None]
    of_classes = (role_B == TEXT) & (role_B == TEXT)[:, None] & (label_B[:, None] == label_B)
    compared = searches[:, None] & searched & ~worded_alike
    belongs = (of_pairs | of_classes) & compared
    belongs = ((belongs.float() @ worded_alike.float()) > 0) & compared
    return belongs, compared & ~belongs


def contrastive_loss(embedded_BD: Tensor, labels: Labels, temperature: float) -> Tensor:
    """Return the mean over texts of −log softmax of the similarity to what belongs to them, against what does not.

    Multiple negatives ranking (Henderson et al. 2017), InfoNCE (van den Oord et al. 2018). Of several positives each
    stands alone against the negatives (as Khosla et al. 2020 average outside the logarithm), so that they do not push each other away.
    Of pairs, the passages search their queries as well.
    """
    belongs, differs = relations(labels)
    similar_BB = embedded_BD.float() @ embedded_BD.float().T / temperature
    terms = [_of_rows(similar_BB, belongs, differs)]
    role_B = labels["role"]
    if isinstance(role_B, Tensor) and bool((role_B == QUERY).any()):
        terms.append(_of_rows(similar_BB, belongs.T & (role_B == PASSAGE)[:, None], differs.T & (role_B == PASSAGE)[:, None]))
    return torch.stack(terms).mean()


def _of_rows(similar_BB: Tensor, belongs: Tensor, differs: Tensor) -> Tensor:
    against_B = similar_BB.masked_fill(~differs, _OUT).logsumexp(1)
    each_BB = F.softplus(against_B[:, None] - similar_BB)
    count_B = belongs.sum(1)
    counts = (count_B > 0) & differs.any(1)
    of_text_B = (each_BB * belongs).sum(1) / count_B.clamp(min=1)
    return (of_text_B * counts).sum() / counts.sum().clamp(min=1)
