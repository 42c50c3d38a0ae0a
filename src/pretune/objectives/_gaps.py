"""Gaps of a text while a decoder fills them: which token may come next, and the text that comes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

MARK = re.compile(r"<mask>|\[MASK\]")
"""How a person writes a gap."""
_FULL = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
_BETWEEN = re.compile(rf"(?<={_FULL}) (?={_FULL})")
"""Spaces that a list of words has and Chinese has not."""


class Filling:
    """One text's gaps: each begins with a mask, holds one token at least, and ends where the next begins; after the last is the end."""

    def __init__(self, gaps: int, most: int, mask: int, end: int) -> None:
        """Begin.

        Args:
            gaps: how many there are.
            most: tokens in each at most.
            mask: the id that opens a gap.
            end: the id that ends the last one.
        """
        self.count, self.most, self.mask, self.end = gaps, most, mask, end
        self.written: list[list[int]] = []
        self.finished = False

    def allow(self, logits_V: Tensor, never: Sequence[int]) -> None:
        """Set the logits of all that may not come next to minus infinity; `never` are ids that no text holds."""
        closes = self.end if self.finished or len(self.written) == self.count else self.mask
        closing = torch.logaddexp(logits_V[self.mask], logits_V[self.end])  # how many gaps there are the network need not know
        inside = bool(self.written) and not self.finished
        if not inside or len(self.written[-1]) >= self.most:
            logits_V.fill_(-torch.inf)
        logits_V[[*never, self.mask, self.end]] = -torch.inf
        if not inside or self.written[-1]:
            logits_V[closes] = closing

    def take(self, token: int) -> None:
        """Write one token."""
        if token == self.mask:
            self.written.append([])
        elif token == self.end:
            self.finished = True
        else:
            self.written[-1].append(token)


def put_together(pieces: Sequence[str], gaps: Sequence[str]) -> str:
    """Return a text of what stands between its gaps and what was written into them."""
    filled = [_BETWEEN.sub("", gap.strip()) for gap in gaps]
    return "".join(piece + gap for piece, gap in zip(pieces, [*filled, ""], strict=True))


def opened(prompt: str) -> list[str]:
    """Return what stands between the gaps of a prompt; one without any has a gap at its end."""
    pieces = MARK.split(prompt)
    if len(pieces) > 1:
        return pieces
    apart = prompt[-1:].isascii() and not prompt[-1:].isspace() and prompt
    return [f"{prompt} " if apart else prompt, ""]
