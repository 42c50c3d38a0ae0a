"""Which outputs of a pretrained CTC head write the characters of a run: by name, never by position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_RARE = 5.0
"""How far below the mean the bias of a character begins that the pretrained head does not know: it is not written before it is learned."""


def sources_of(symbols: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Return, for each character, the output of a head that writes it: the same one, else the only one that differs in case alone."""
    exact = {name: place for place, name in enumerate(known) if name}
    folded: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(known):
        if name:
            folded[name.casefold()].append(place)
    found: list[int | None] = []
    for symbol in symbols:
        alike = folded[symbol.casefold()]
        found.append(exact[symbol] if symbol in exact else alike[0] if len(alike) == 1 else None)
    return found


@torch.no_grad()
def take(layer: nn.Module, pretrained: nn.Linear, sources: Sequence[int | None]) -> None:
    """Put the rows of a pretrained layer into another, `sources[i]` into row i; those without a source write nothing yet."""
    assert isinstance(layer, nn.Linear)
    kept: Tensor = pretrained.bias.mean() - _RARE
    for row, source in enumerate(sources):
        layer.weight[row] = 0.0 if source is None else pretrained.weight[source]
        layer.bias[row] = kept if source is None else pretrained.bias[source]
