"""Beam search over a language model: each prompt is what its text begins with.

Shapes: B texts, T positions, D channels, V word pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretune.architectures.layers.memory import Recalling, extended, takes_padding
from pretune.architectures.layers.token_decoder import TokenDecoder
from pretune.models import Model, search
from pretune.models.beginnings import as_read
from pretune.models.search import Searched
from pretune.types import Features


class LanguageDecoder(TokenDecoder, Recalling):
    """A language model as a search takes a decoder; there is nothing that an encoder made."""

    def __init__(self, model: Model, ends: Sequence[int], never_first: Sequence[int]) -> None:
        """Take a model.

        Args:
            model: a language model.
            ends: ids each of which ends a text; none where only the length does.
            never_first: ids that no text begins with.
        """
        super().__init__()
        self.model, self.begin, self.end, self.never_first = model, (), ends[0] if ends else -1, tuple(never_first)
        self._ends = tuple(ends)
        self._remembers = any(isinstance(module, Recalling) for module in model.modules())
        self.takes_prompts_of_many_lengths = takes_padding(model)

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text."""
        return self._ends

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return features (B, T, D); a network that does not remember computes all positions again."""
        if self.memory is not None and not self._remembers:
            ids_BT = extended(self.memory, "ids", ids_BT, 1)
        return self.model.before_head(as_read(ids_BT)).tensor


class LanguageWriting(nn.Module):
    """A language model as a search takes what scores tokens."""

    def __init__(self, decoder: LanguageDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def logits(self, x: Tensor) -> Tensor:
        """Return float32 scores (…, V) of features (…, D)."""
        return self.decoder.model.head(Features(tensor=x, layout="sequence")).float()


def write(
    model: Model, prompts: Sequence[Sequence[int]], *, most: int, ends: Sequence[int], blank: Sequence[int], wanted: Searched
) -> list[list[int]]:
    """Return the likeliest ids that follow each of B prompts, without what ends a text.

    Args:
        model: a language model.
        prompts: of like length, none empty.
        most: ids of a text at most.
        ends: ids each of which ends a text.
        blank: ids that no text begins with.
        wanted: beams and lengths; there is no sampling.
    """
    device = next(model.parameters()).device
    head = LanguageWriting(LanguageDecoder(model, ends, blank))
    nothing = Features(tensor=torch.zeros(len(prompts), 0, device=device), layout="sequence")
    return search.write(head, nothing, [most] * len(prompts), wanted, torch.Generator(), prompts)
