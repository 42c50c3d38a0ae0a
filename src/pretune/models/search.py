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
from torch import Tensor, nn

from pretune.architectures.layers.memory import remembering, reordered
from pretune.architectures.layers.token_decoder import TokenDecoder
from pretune.errors import WeightsError
from pretune.models.beginnings import Beginnings
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


class Writing(Protocol):
    """A network that scores the next token of what it wrote."""

    @property
    def decoder(self) -> TokenDecoder:
        """What makes features of tokens."""
        ...

    def logits(self, x: Tensor) -> Tensor:
        """Return float32 scores (…, V) of features (…, D)."""
        ...


@torch.inference_mode()
def write(
    head: Writing,
    encoded: Features,
    most: Sequence[int],
    wanted: Searched,
    generator: torch.Generator,
    begins: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Return the ids that are written for each example, without what begins and ends a text.

    Args:
        head: on a model in eval mode.
        encoded: what its encoder made of the B examples.
        most: tokens of each text at most, (B,); fewer where the decoder has no more positions.
        wanted: beams or sampling, and lengths.
        generator: of the samples.
        begins: ids before each text, where the decoder does not have them for all; not for sampling.

    Raises:
        WeightsError: the network's outputs are not numbers.
    """
    decoder = head.decoder
    begins = [decoder.begin] * len(most) if begins is None else begins
    rooms = [one if decoder.positions is None else min(one, decoder.positions - len(own)) for one, own in zip(most, begins, strict=True)]
    limits = torch.tensor([max(1, one) for one in rooms])
    assert isinstance(head, nn.Module)
    with remembering(head):
        return (
            _sampled(head, encoded, limits, wanted, generator)
            if wanted.temperature > 0
            else _Beams(head, wanted, begins, limits).write(encoded)
        )


def _scores(head: Writing, new_RT: Tensor, encoded: Features) -> Tensor:
    """Return the scores (R, V) of the next token on the CPU."""
    decoder = head.decoder
    logits_RV = head.logits(decoder(new_RT.to(encoded.tensor.device), encoded)[:, -1]).cpu()
    if logits_RV.isnan().any():
        raise WeightsError("the model's outputs are not numbers (NaN): nothing can be made with these weights. Train it again.")
    logits_RV[:, list(decoder.barred)] = -torch.inf
    return logits_RV


def _bar(logits_RV: Tensor, decoder: TokenDecoder, own_R: Tensor, least: int) -> Tensor:
    """Return scores of rows that have `own_R` tokens of their own without those that may not come next."""
    for rows, ids in ((own_R < least, decoder.ends), (own_R == 0, decoder.never_first)):
        if ids and rows.any():
            logits_RV[rows.nonzero(), torch.tensor(ids)] = -torch.inf
    return logits_RV


def _sampled(head: Writing, encoded: Features, limits_B: Tensor, wanted: Searched, generator: torch.Generator) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in limits_B]
    alive = torch.arange(len(limits_B))
    ends = torch.tensor(head.decoder.ends, dtype=torch.long)
    new_RT = torch.tensor(head.decoder.begin).expand(len(alive), -1)
    assert isinstance(head, nn.Module)
    while len(alive):
        at = len(written[int(alive[0])])
        scores = _bar(_scores(head, new_RT, encoded), head.decoder, torch.full_like(alive, at), wanted.min_new_tokens)
        token_R = sample_index(scores, wanted, generator)
        ended = torch.isin(token_R, ends)
        for place, token in zip(alive[~ended].tolist(), token_R[~ended].tolist(), strict=True):
            written[place].append(token)
        kept = (~ended & (limits_B[alive] > at + 1)).nonzero()[:, 0]
        if len(kept) < len(alive):
            encoded = encoded.take(kept.to(encoded.tensor.device))
            reordered(head, kept.to(encoded.tensor.device))
        alive, new_RT = alive[kept], token_R[kept][:, None]
    return written


class _Beams:
    """The likeliest texts; each is that which would be written alone. Where a beginning goes on, its own token stands in for a choice."""

    def __init__(self, head: Writing, wanted: Searched, begins: Sequence[Sequence[int]], limits_B: Tensor) -> None:
        self.head, self.wanted, self.limits_B = head, wanted, limits_B
        self.beams, self.ends = wanted.beams, torch.tensor(head.decoder.ends, dtype=torch.long)
        self.begun = Beginnings.of(begins, padded=head.decoder.takes_prompts_of_many_lengths)

    def write(self, encoded: Features) -> list[list[int]]:
        """Return the likeliest text of each example."""
        assert isinstance(self.head, nn.Module)
        device, beams = encoded.tensor.device, self.beams
        written: list[list[int]] = [[] for _ in self.limits_B]
        alive = torch.arange(len(self.limits_B))
        score_BK = torch.zeros(len(alive), 1)  # all beams are the same at first: there is one
        whole_BK = torch.full((len(alive), beams), -torch.inf)  # the scores of the best whole texts, falling
        ids_BKT = torch.zeros(len(alive), 1, 0, dtype=torch.long)
        new_RT, at = self.begun.ids_BT, 0
        while len(alive):
            more_B = self.begun.more_B[alive]
            forced_B = more_B > at
            log_p = self._log_p(new_RT, encoded, alive, at)
            at += 1
            norm_B = (at - more_B).clamp(min=1).float() ** self.wanted.length_penalty
            width, size = log_p.shape[1:]
            top_BC, place_BC = (score_BK[:, :, None] + log_p).flatten(1).topk(min(2 * beams, width * size))
            beam_BC, token_BC = place_BC // size, place_BC % size
            ends_BC = torch.isin(token_BC, self.ends) & ~forced_B[:, None]
            # A text is whole where its end is among the likeliest continuations.
            new_BK = (top_BC[:, :beams] / norm_B[:, None]).masked_fill(~ends_BC[:, :beams], -torch.inf)
            value_B, which_B = new_BK.max(1)
            for row in (value_B > whole_BK[:, 0]).nonzero()[:, 0].tolist():
                written[int(alive[row])] = ids_BKT[row, beam_BC[row, which_B[row]], int(more_B[row]) :].tolist()
            whole_BK = torch.cat([whole_BK, new_BK], 1).topk(beams).values
            score_BK, order_BK = top_BC.masked_fill(ends_BC, -torch.inf).topk(min(beams, top_BC.shape[1]))
            beam_BK, token_BK = beam_BC.gather(1, order_BK), token_BC.gather(1, order_BK)
            ids_BKT = torch.cat([ids_BKT.gather(1, beam_BK[:, :, None].expand(-1, -1, at - 1)), token_BK[:, :, None]], 2)
            full_B = self.limits_B[alive] <= at - more_B
            for row in (full_B & whole_BK[:, 0].isneginf()).nonzero()[:, 0].tolist():
                written[int(alive[row])] = ids_BKT[row, 0, int(more_B[row]) :].tolist()
            kept = (~(full_B | (whole_BK[:, -1] >= score_BK[:, 0] / norm_B))).nonzero()[:, 0]
            rows = (kept[:, None] * width + beam_BK[kept]).flatten()
            if score_BK.shape[1] > 1 or len(kept) < len(alive):
                reordered(self.head, rows.to(device))
                encoded = encoded.take(rows.to(device))
            new_RT = token_BK[kept].flatten()[:, None]
            alive, score_BK, whole_BK, ids_BKT = alive[kept], score_BK[kept], whole_BK[kept], ids_BKT[kept]
        return written

    def _log_p(self, new_RT: Tensor, encoded: Features, alive: Tensor, at: int) -> Tensor:
        """Return the log-probabilities (B, K, V) of the next token; of one that is given, nothing else can be."""
        width, more_B = len(new_RT) // len(alive), self.begun.more_B[alive]
        own_R = (at - more_B).repeat_interleave(width)
        scores = _bar(_scores(self.head, new_RT, encoded), self.head.decoder, own_R, self.wanted.min_new_tokens)
        log_p = scores.log_softmax(-1).view(len(alive), width, -1)
        forced = (more_B > at).nonzero()[:, 0]
        if len(forced):
            log_p[forced] = -torch.inf
            log_p[forced, :, self.begun.given(at)[alive[forced]]] = 0.0
        return log_p
