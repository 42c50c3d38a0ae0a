"""How a decoder writes: the likeliest token each time, beam search, or sampling; keys and values are kept.

Beam search keeps the `beams` likeliest beginnings and ranks whole texts by log-probability over length^length_penalty (Y. Wu et al.,
"Google's Neural Machine Translation System", 2016). It ends as `transformers` does with early_stopping=False: once there are as many
whole texts as beams, and the likeliest beginning, over its present length, is no better than the worst of them. A text that reaches
its limit without an end counts only where none ended. Shapes: B texts, K beams of each, V tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pretune.architectures.layers.memory import remembering, reordered
from pretune.errors import WeightsError
from pretune.models.heads.decoder import DecoderHead
from pretune.models.sampling import Sampled, sample_index
from pretune.types import Features


class Searched(Sampled, Protocol):
    """Settings that decide how a text is looked for."""

    @property
    def beams(self) -> int:
        """Beginnings that are kept at a time; 1 takes or samples one token after the other."""
        ...

    @property
    def length_penalty(self) -> float:
        """Exponent of the length that a log-probability is divided by: above 0 favours longer texts."""
        ...

    @property
    def min_new_tokens(self) -> int:
        """Tokens of a text at least."""
        ...


@torch.inference_mode()
def write(head: DecoderHead, encoded: Features, most: Sequence[int], wanted: Searched, generator: torch.Generator) -> list[list[int]]:
    """Return the ids that are written for each example, without what begins and ends a text.

    Args:
        head: on a model in eval mode.
        encoded: what its encoder made of the B examples.
        most: tokens of each text at most, (B,); fewer where the decoder has no more positions.
        wanted: beams or sampling, and lengths.
        generator: of the samples.

    Raises:
        WeightsError: the network's outputs are not numbers.
    """
    decoder = head.decoder
    room = None if decoder.positions is None else decoder.positions - len(decoder.begin)
    limits = torch.tensor([max(1, one if room is None else min(one, room)) for one in most])
    with remembering(head):
        return (_sampled if wanted.temperature > 0 else _likeliest)(head, encoded, limits, wanted, generator)


def _scores(head: DecoderHead, new_RT: Tensor, encoded: Features, at: int, wanted: Searched) -> Tensor:
    """Return the scores (R, V) of the next token on the CPU, where `at` tokens are written."""
    decoder = head.decoder
    logits_RV = head.logits(decoder(new_RT.to(encoded.tensor.device), encoded)[:, -1]).cpu()
    if logits_RV.isnan().any():
        raise WeightsError("the model's outputs are not numbers (NaN): nothing can be made with these weights. Train it again.")
    barred = [*decoder.barred, *([decoder.end] if at < wanted.min_new_tokens else [])]
    logits_RV[:, barred] = -torch.inf
    return logits_RV


def _sampled(head: DecoderHead, encoded: Features, limits_B: Tensor, wanted: Searched, generator: torch.Generator) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in limits_B]
    alive = torch.arange(len(limits_B))
    new_RT = torch.tensor(head.decoder.begin).expand(len(alive), -1)
    while len(alive):
        at = len(written[int(alive[0])])
        token_R = sample_index(_scores(head, new_RT, encoded, at, wanted), wanted, generator)
        ended = token_R == head.decoder.end
        for place, token in zip(alive[~ended].tolist(), token_R[~ended].tolist(), strict=True):
            written[place].append(token)
        kept = (~ended & (limits_B[alive] > at + 1)).nonzero()[:, 0]
        if len(kept) < len(alive):
            encoded = encoded.take(kept.to(encoded.tensor.device))
            reordered(head, kept.to(encoded.tensor.device))
        alive, new_RT = alive[kept], token_R[kept][:, None]
    return written


def _likeliest(head: DecoderHead, encoded: Features, limits_B: Tensor, wanted: Searched, generator: torch.Generator) -> list[list[int]]:
    device, beams, end = encoded.tensor.device, wanted.beams, head.decoder.end
    written: list[list[int]] = [[] for _ in limits_B]
    alive = torch.arange(len(limits_B))
    encoded = encoded.take(alive.repeat_interleave(beams).to(device))
    score_BK = torch.full((len(alive), beams), -torch.inf)
    score_BK[:, 0] = 0.0  # all beams are the same at first: only one of them counts
    whole_BK = torch.full((len(alive), beams), -torch.inf)  # the scores of the best whole texts, falling
    ids_BKT = torch.zeros(len(alive), beams, 0, dtype=torch.long)
    new_RT = torch.tensor(head.decoder.begin).expand(len(alive) * beams, -1)
    length = 0
    while len(alive):
        log_p = _scores(head, new_RT, encoded, length, wanted).log_softmax(-1).view(len(alive), beams, -1)
        length += 1
        norm = length**wanted.length_penalty
        top_BC, place_BC = (score_BK[:, :, None] + log_p).flatten(1).topk(min(2 * beams, beams * log_p.shape[-1]))
        beam_BC, token_BC = place_BC // log_p.shape[-1], place_BC % log_p.shape[-1]
        ends_BC = token_BC == end
        # A text is whole where its end is among the likeliest continuations.
        new_BK = (top_BC[:, :beams] / norm).masked_fill(~ends_BC[:, :beams], -torch.inf)
        value_B, which_B = new_BK.max(1)
        for row in (value_B > whole_BK[:, 0]).nonzero()[:, 0].tolist():
            written[int(alive[row])] = ids_BKT[row, beam_BC[row, which_B[row]]].tolist()
        whole_BK = torch.cat([whole_BK, new_BK], 1).topk(beams).values
        score_BK, order_BK = top_BC.masked_fill(ends_BC, -torch.inf).topk(beams)
        beam_BK, token_BK = beam_BC.gather(1, order_BK), token_BC.gather(1, order_BK)
        ids_BKT = torch.cat([ids_BKT.gather(1, beam_BK[:, :, None].expand(-1, -1, length - 1)), token_BK[:, :, None]], 2)
        full_B = limits_B[alive] <= length
        for row in (full_B & whole_BK[:, 0].isneginf()).nonzero()[:, 0].tolist():
            written[int(alive[row])] = ids_BKT[row, 0].tolist()
        kept = (~(full_B | (whole_BK[:, -1] >= score_BK[:, 0] / norm))).nonzero()[:, 0]
        rows = (kept[:, None] * beams + beam_BK[kept]).flatten()
        if beams > 1 or len(kept) < len(alive):
            reordered(head, rows.to(device))
            encoded = encoded.take(rows.to(device))
        new_RT = token_BK[kept].flatten()[:, None]
        alive, score_BK, whole_BK, ids_BKT = alive[kept], score_BK[kept], whole_BK[kept], ids_BKT[kept]
    return written
