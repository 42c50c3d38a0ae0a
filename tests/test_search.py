"""Beam search and sampling against plain searches, over a decoder that is a table: what it scores depends on all that was written."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pretune.architectures.layers.memory import Recalling, extended
from pretune.architectures.layers.token_decoder import TokenDecoder
from pretune.models import search
from pretune.models.heads.decoder import DecoderHead
from pretune.types import Features

BEGIN, END, LETTERS = 0, 1, (2, 3, 4)
SIZE = 5
MOST = 4


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings of writing."""

    beams: int = 1
    length_penalty: float = 0.0
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


class History(Recalling):
    """All ids so far (B, T)."""

    def forward(self, ids_BT: Tensor) -> Tensor:
        return ids_BT if self.memory is None else extended(self.memory, "ids", ids_BT, 1)


class TableDecoder(TokenDecoder):
    """Scores tokens by a number that all earlier ones give, and by the example."""

    begin, end, barred = (BEGIN,), END, (BEGIN,)

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.table = 2 * torch.randn(97, SIZE, generator=torch.Generator().manual_seed(4))

    def forward(self, ids_BT: Tensor, encoded: Features) -> Tensor:
        whole = self.history(ids_BT)
        weighted = (whole + 1) * (torch.arange(whole.shape[1]) * 7 + 3)
        key_B1 = 13 * encoded.tensor[:, 0, :1].long()
        return (self.table[(weighted.cumsum(1) + key_B1) % 97] + encoded.tensor)[:, -ids_BT.shape[1] :]

    @property
    def matrix(self) -> Tensor:
        return torch.eye(SIZE)


HEAD = DecoderHead(SIZE, TableDecoder())


def examples(count: int = 8) -> Features:
    """What an encoder made of some examples: the token that is never written is the likeliest of all."""
    tensor = torch.zeros(count, 1, SIZE)
    tensor[:, 0, BEGIN] = 9 + torch.arange(count)
    return Features(tensor=tensor, layout="sequence")


def written(encoded: Features, **settings: float) -> list[tuple[int, ...]]:
    wanted = Wanted(**settings)  # type: ignore[arg-type]
    return [tuple(ids) for ids in search.write(HEAD, encoded, [MOST] * len(encoded.tensor), wanted, torch.Generator().manual_seed(0))]


def nats(encoded: Features, place: int, ids: tuple[int, ...], least: int = 0) -> list[float]:
    """Return the log-probability of each token of a text of one example, computed at once."""
    scores = HEAD.logits(HEAD.taught(torch.tensor([[*ids, END]]), encoded.take(torch.tensor([place]))))[0]
    scores[:, BEGIN] = -torch.inf
    scores[:least, END] = -torch.inf
    return scores.log_softmax(-1)[range(len(ids) + 1), [*ids, END]].tolist()


@pytest.mark.parametrize(("penalty", "least"), [(0.0, 0), (-1.0, 0), (0.0, 2), (-4.0, 3)])
def test_a_search_with_beams_for_all_texts_finds_the_best_of_all(penalty: float, least: int) -> None:
    encoded = examples()
    texts = [ids for length in range(least, MOST) for ids in itertools.product(LETTERS, repeat=length)]
    best = []
    for place in range(len(encoded.tensor)):
        values = {ids: sum(nats(encoded, place, ids, least)) / (len(ids) + 1) ** penalty for ids in texts}
        best.append(max(values, key=lambda ids: values[ids]))
    assert written(encoded, beams=300, length_penalty=penalty, min_new_tokens=least) == best
    assert len({len(ids) for ids in best}) > (least < 3)


def plain(encoded: Features, place: int, beams: int, penalty: float) -> tuple[int, ...]:
    """Return the text of a beam search that keeps lists."""
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    whole: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, MOST + 1):
        found = []
        for score, ids in alive:
            found.append((score + nats(encoded, place, ids)[-1], ids, True))
            found += [(score + nats(encoded, place, (*ids, letter))[-2], (*ids, letter), False) for letter in LETTERS]
        found = sorted(found, reverse=True)[: 2 * beams]
        whole += [(score / length**penalty, ids) for score, ids, ended in found[:beams] if ended]
        alive = [(score, ids) for score, ids, ended in found if not ended][:beams]
        whole = sorted(whole, reverse=True)[:beams]
        if len(whole) == beams and whole[-1][0] >= alive[0][0] / length**penalty:
            break
    return max(whole)[1] if whole else alive[0][1]


@pytest.mark.parametrize(("beams", "penalty"), [(1, 0.0), (2, 0.0), (2, 1.0), (3, 2.0), (4, -1.0)])
def test_few_beams_are_those_of_a_plain_search(beams: int, penalty: float) -> None:
    encoded = examples(24)
    expected = [plain(encoded, place, beams, penalty) for place in range(24)]
    assert written(encoded, beams=beams, length_penalty=penalty) == expected
    assert len(set(expected)) > 2


def test_a_higher_length_penalty_writes_longer_texts() -> None:
    short, long = (written(examples(24), beams=4, length_penalty=penalty) for penalty in (0.0, 3.0))
    assert sum(map(len, long)) > sum(map(len, short))


def test_samples_of_hardly_any_temperature_are_the_likeliest_tokens_though_texts_end_at_different_times() -> None:
    encoded = examples(24)
    likeliest = written(encoded)
    assert written(encoded, temperature=1e-4) == likeliest
    assert len({len(ids) for ids in likeliest}) > 2
