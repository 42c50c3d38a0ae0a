"""What writes tokens from what an encoder made: a decoder with what begins and ends a text, and with the table that scores tokens.

Shapes: B texts, T positions, D channels, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretune.architectures.layers.transformer_decoder import TransformerDecoder
from pretune.types import Features


class TokenDecoder(nn.Module):
    """Tokens and an encoder's features -> features of each position, whose product with `matrix` scores the next token.

    Required is `forward`, and `matrix`. Within `remembering` it takes what was written since the last call, and what it looks back at is
    batch first, so that `reordered` can follow a search.
    """

    begin: tuple[int, ...]
    """Ids before a text; the last of them predicts its first token."""
    end: int
    """The id that ends a text."""
    barred: tuple[int, ...] = ()
    """Ids that are never written."""
    never_first: tuple[int, ...] = ()
    """Ids that no text begins with."""
    takes_prompts_of_many_lengths: bool = False
    """Whether the first ids may have padding (-1) before the shorter beginnings of texts."""
    positions: int | None = None
    """Positions that it has, those of `begin` among them; None without a limit."""

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return features (B, T, D) from ids (B, T) and what the encoder made, a sequence with its mask."""
        raise TypeError(f"{type(self).__name__} must define forward(ids, encoded) -> features")

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text when they are written."""
        return (self.end,)

    @property
    def matrix(self) -> Tensor:
        """The scores' weights (V, D)."""
        raise TypeError(f"{type(self).__name__} must define matrix")

    @property
    def bias(self) -> Tensor | None:
        """Added to the scores (V,); None where nothing is."""
        return None

    def taught(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return the features (B, T, D) that predict each of the ids (B, T) from those before it (teacher forcing)."""
        begin = torch.tensor(self.begin, device=ids_BT.device).expand(len(ids_BT), -1)
        return self(torch.cat([begin, ids_BT[:, :-1]], 1), encoded)[:, len(self.begin) - 1 :]


class TiedDecoder(TokenDecoder):
    """A transformer decoder over the encoder's own table of tokens, which scores them too: one parameter, the encoder's."""

    def __init__(self, table: nn.Embedding, body: TransformerDecoder, *, end: int, barred: tuple[int, ...] = ()) -> None:
        """Make it.

        Args:
            table: of tokens, (V, D).
            body: the layers, of width D.
            end: the id that ends a text, and that stands before its first token.
            barred: ids that are never written.
        """
        super().__init__()
        self._table = [table]  # in a list, so that it is the backbone's parameter and not this module's too
        self.body = body
        self.begin, self.end, self.barred = (end,), end, barred
        self.positions = body.position.num_embeddings

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        """Return features (B, T, D)."""
        return self.body(self._table[0](ids_BT), encoded.tensor, encoded.mask)

    @property
    def matrix(self) -> Tensor:
        """The table of tokens (V, D)."""
        return self._table[0].weight
