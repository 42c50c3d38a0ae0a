"""What texts that are written together begin with, where these beginnings differ in length.

Shapes: B texts, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pretune.labels import Ragged
from pretune.types import Features

_NONE = -1
"""Stands for padding before a text."""


@dataclass(frozen=True, kw_only=True)
class Beginnings:
    """Ids that a network reads at once, and those that it is given one by one afterwards."""

    ids_BT: Tensor
    """What is read at once: of all as much as the shortest has; or all of it, with -1 before the shorter ones, which is padding."""
    more_B: Tensor
    """How many are given afterwards to each."""
    _more_BT: Tensor

    @classmethod
    def of(cls, begins: Sequence[Sequence[int]], *, padded: bool) -> Self:
        """Return those of some texts.

        Args:
            begins: ids before each text, none empty.
            padded: whether the network takes padding before texts.
        """
        lengths = [len(own) for own in begins]
        first = max(lengths) if padded else min(lengths)
        ids_BT = torch.tensor([[_NONE] * (first - len(own)) + list(own[:first]) for own in begins], dtype=torch.long)
        more = Ragged.of([torch.tensor(own[first:], dtype=torch.long) for own in begins])
        return cls(ids_BT=ids_BT, more_B=more.lengths, _more_BT=more.padded(0))

    def given(self, at: int) -> Tensor:
        """Return what each text is given `at` steps later (B,); any number where nothing is."""
        return self._more_BT[:, at].clone() if at < self._more_BT.shape[1] else torch.zeros_like(self.more_B)


def as_read(ids_BT: Tensor) -> Features:
    """Return ids as a network takes them, with a mask where some are padding."""
    real_BT = ids_BT != _NONE
    return Features(tensor=ids_BT.clamp(min=0), layout="raw", mask=None if real_BT.all() else real_BT)
