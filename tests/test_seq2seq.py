"""An encoder with a decoder that writes: the loss with teacher forcing, the search, and tasks that write texts from inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pretune import backbones
from pretune.errors import SettingError, WeightsError
from pretune.labels import Ragged
from pretune.modalities.text import Text
from pretune.models import Model, search
from pretune.models.heads.decoder import Decoder, DecoderHead
from pretune.models.token_loss import linear_cross_entropy
from pretune.sources.table import Table
from pretune.sources.target_texts import TargetText, TargetTexts
from pretune.tasks import Examples, LossSettings
from pretune.tasks._seq2seq import SequenceToSequence, TextSpace
from pretune.tasks._teaching import head_of
from pretune.types import Batch, Row

WORDS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
SIZES = "units=piece,vocabulary=330,width=32,layers=1,heads=2,dropout=0.0,max_tokens=24"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(24)]
    return [Row(id=str(i), text=(text,), target=TargetText(text.upper()), split="train") for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def network(rows: list[Row]) -> tuple[Model, Any]:
    """A model with large random weights, whose likeliest texts differ from one another, and its preprocessing."""
    torch.manual_seed(0)
    backbone = backbones.load(f"scratch:transformer,{SIZES}")
    table = Table(rows=list(rows), modality="text", target_type=None, root=Path(), layout="")
    backbone.modality = SequenceToSequence().render(table, backbone.modality)
    model = Model(backbone, Decoder(), 2, None, "sequence").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model, backbone.modality


def batch_of(rows: list[Row], modality: Any) -> Batch:
    views = [modality.decode(row.text).array for row in rows]
    labels = SequenceToSequence().encode(rows, SequenceToSequence().space(), modality)
    return Batch(inputs=modality.collate(views), labels=labels, index=torch.arange(len(rows)))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    beams: int = 1
    length_penalty: float = 1.0
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


@torch.no_grad()
def log_probability(model: Model, batch: Batch, ids: list[int]) -> float:
    """Return the log-probability of ids for an example, without a memory; ids that are never written are left out."""
    head = head_of(model)
    logits = head.logits(head.taught(torch.tensor([ids]), model.before_head(batch.inputs)))[0]
    logits[:, list(head.decoder.barred)] = -torch.inf
    return float(logits.log_softmax(-1)[range(len(ids)), ids].sum())


def written(model: Model, batch: Batch, most: int, **wanted: Any) -> list[list[int]]:
    encoded = model.before_head(batch.inputs)
    return search.write(head_of(model), encoded, [most] * batch.size, Wanted(**wanted), torch.Generator().manual_seed(0))


# --- the loss ------------------------------------------------------------------------------------


def test_label_smoothing_is_pytorch_s_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight, targets = torch.randn(7, 5), torch.randn(11, 5), torch.randint(0, 11, (7,))
    expected_x, expected_w = x.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = F.cross_entropy(expected_x @ expected_w.T, targets, label_smoothing=0.2)
    expected.backward()
    for chunk in (1 << 22, 22):
        monkeypatch.setattr("pretune.models.token_loss.CHUNK", chunk)
        mine_x, mine_w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = linear_cross_entropy(mine_x, mine_w, targets, smoothing=0.2)
        loss.backward()
        torch.testing.assert_close((loss, mine_x.grad, mine_w.grad), (expected, expected_x.grad, expected_w.grad))


def test_the_setting_label_smoothing_reaches_the_loss(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    task = SequenceToSequence()
    batch = batch_of(rows[:4], modality)
    losses = []
    for smoothing in (0.0, 0.3):
        loss = task.loss(task.space(), batch.labels, LossSettings(label_smoothing=smoothing))
        losses.append(float(task.learner(model, loss)(batch).loss.detach()))
    own = task.learner(model, lambda outputs, targets: F.cross_entropy(outputs, targets, label_smoothing=0.3))
    assert losses[0] != losses[1]
    assert float(own(batch).loss.detach()) == pytest.approx(losses[1], rel=1e-5)


def test_neither_padding_nor_neighbours_change_what_is_predicted(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    task = SequenceToSequence()
    learner = task.learner(model, task.loss(task.space(), batch_of(rows, modality).labels, LossSettings()))
    with torch.no_grad():
        outputs = learner.predict(batch_of(rows, modality))
        assert isinstance(outputs, Ragged)
        together = outputs.split()
        alone = [learner.predict(batch_of([row], modality)).values for row in rows]
    assert len({len(one) for one in alone}) > 1
    torch.testing.assert_close(list(together), alone, rtol=1e-4, atol=1e-4)


# --- the search ----------------------------------------------------------------------------------


def test_the_likeliest_token_each_time_is_that_of_teacher_forcing(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    batch = batch_of(rows[:8], modality)
    head = head_of(model)
    for place, ids in enumerate(written(model, batch, 9)):
        one = batch_of([rows[place]], modality)
        asked = torch.tensor([[*ids, head.decoder.end]])
        logits = head.logits(head.taught(asked, model.before_head(one.inputs)))[0].detach()
        logits[:, list(head.decoder.barred)] = -torch.inf
        assert logits.argmax(-1)[: len(ids)].tolist() == ids
        assert len(ids) == 9 or int(logits[-1].argmax()) == head.decoder.end


def test_beams_find_the_likeliest_text_of_all(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    head = head_of(model)
    for row in rows[:2]:
        batch = batch_of([row], modality)
        allowed = [i for i in range(modality.size) if i not in head.decoder.barred and i != head.decoder.end]
        pairs = [[], *([i] for i in allowed)]
        found = {tuple(ids): log_probability(model, batch, [*ids, head.decoder.end]) / (len(ids) + 1) for ids in pairs}
        best = max(found, key=lambda ids: found[ids])
        (ids,) = written(model, batch, 2, beams=64, length_penalty=1.0)
        longer = log_probability(model, batch, [*ids, head.decoder.end]) / (len(ids) + 1)
        assert longer >= found[best] - 1e-4


def test_beams_write_what_is_at_least_as_likely_and_the_same_in_company(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    end = head_of(model).decoder.end
    batch = batch_of(rows[:6], modality)
    greedy, beams = written(model, batch, 12), written(model, batch, 12, beams=4, length_penalty=0.0)
    assert greedy != beams
    for place, (first, second) in enumerate(zip(greedy, beams, strict=True)):
        alone = batch_of([rows[place]], modality)
        assert written(model, alone, 12, beams=4, length_penalty=0.0) == [second]
        if len(first) < 12 and len(second) < 12:
            assert log_probability(model, alone, [*second, end]) >= log_probability(model, alone, [*first, end]) - 1e-4


@pytest.mark.parametrize("settings", [{}, {"beams": 3}, {"temperature": 1.0}])
def test_lengths_are_kept(network: tuple[Model, Any], rows: list[Row], settings: dict[str, Any]) -> None:
    model, modality = network
    head, batch = head_of(model), batch_of(rows[:8], modality)
    lengths = [len(ids) for ids in written(model, batch, 7, min_new_tokens=5, **settings)]
    assert min(lengths) >= 5
    assert max(lengths) <= 7
    assert {len(ids) for ids in written(model, batch, 5, min_new_tokens=5, **settings)} == {5}
    beyond = written(model, batch, 10_000, min_new_tokens=9_000, **settings)
    assert {len(ids) for ids in beyond} == {head.decoder.positions - 1}


def test_samples_follow_their_seed_and_never_hold_what_is_no_text(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    batch = batch_of(rows[:8], modality)
    first, second = (written(model, batch, 12, temperature=1.5) for _ in range(2))
    assert first == second
    assert first != written(model, batch, 12)
    assert not {id_ for ids in first for id_ in ids} & set(modality.special)


def test_a_text_may_end_as_soon_as_it_has_the_tokens_it_needs(network: tuple[Model, Any], rows: list[Row]) -> None:
    model, modality = network
    head, batch = head_of(model), batch_of(rows[:1], modality)
    barred = head.decoder.barred
    head.decoder.barred = tuple(i for i in range(len(head.decoder.matrix)) if i not in (head.decoder.end, 5))
    try:
        ends = {most: len(written(model, batch, 20, min_new_tokens=most, beams=2, length_penalty=-5.0)[0]) for most in (0, 3)}
    finally:
        head.decoder.barred = barred
    assert ends == {0: 0, 3: 3}, "a negative exponent prefers the shortest text that is allowed"


def test_outputs_that_are_no_numbers_are_refused(network: tuple[Model, Any], rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    model, modality = network
    monkeypatch.setattr(head_of(model), "logits", lambda x: torch.full((*x.shape[:-1], modality.size), torch.nan))
    for settings in ({}, {"beams": 2}, {"temperature": 1.0}):
        with pytest.raises(WeightsError, match="not numbers"):
            written(model, batch_of(rows[:2], modality), 3, **settings)


# --- the task ------------------------------------------------------------------------------------


def test_the_longest_text_follows_the_input() -> None:
    views = [np.zeros(2), np.zeros(9)]
    assert SequenceToSequence().most(views, None) == [16, 37]
    assert SequenceToSequence(max_new_tokens=7).most(views, None) == [7, 7]


def test_the_tokenizer_is_made_from_training_texts() -> None:
    rows = [Row(id=name, text=(name * 9,), target=TargetText(name.upper() * 9), split=name) for name in ("train", "qqvjx")]
    table = Table(rows=rows, modality="text", target_type=None, root=Path(), layout="")
    text = SequenceToSequence().render(table, Text(units="character", vocabulary=60))
    assert [text.size - len(text.special), table.messages[0].partition(" of ")[2].partition(":")[0]] == [10, "1 examples"]


def test_frequent_tokens_are_counted_on_training() -> None:
    train, held_out = ([np.array(ids)] for ids in ([0, 0, 0, 1], [1, 2]))
    found = SequenceToSequence().floors(Examples(rows=(), truth=train), Examples(rows=(), truth=held_out), TextSpace(), None)
    assert found["unigram"]["token_loss"] == pytest.approx(-(np.log(2 / 7) + np.log(1 / 7)) / 2)


def test_figures_of_tokens_are_those_of_their_sums() -> None:
    decoded = [np.array([[0.5, 1.0], [1.5, 0.0]]), np.array([[4.0, 1.0]])]
    task = SequenceToSequence()
    figures = task.metrics(decoded, None, TextSpace())
    assert figures == {"token_loss": 2.0, "perplexity": pytest.approx(np.exp(2)), "token_accuracy": pytest.approx(2 / 3)}
    (sums,) = task.sums(decoded, None, TextSpace())
    assert {name: float(of(sums.sums.sum(0)[None])[0]) for name, of in sums.statistics.items()} == {
        name: pytest.approx(figures[name]) for name in ("token_loss", "token_accuracy")
    }


def test_the_worst_texts_are_those_that_differ() -> None:
    rows = [{"prediction": text, "target": "the end", "token_loss": "2.5"} for text in ("the end", "an end")]
    assert [SequenceToSequence().badness(row) for row in rows] == [0.0, 2.5]


def test_a_model_learns_to_write(rows: list[Row]) -> None:
    torch.manual_seed(0)
    task = SequenceToSequence(beams=2)
    table = Table(rows=list(rows), modality="text", target_type=None, root=Path(), layout="")
    backbone = backbones.load(f"scratch:transformer,{SIZES}")
    backbone.modality = task.render(table, backbone.modality)
    model = Model(backbone, task.head(None), 2, None, task.layout)
    batch = batch_of(rows, backbone.modality)
    learner = task.learner(model, task.loss(task.space(), batch.labels, LossSettings()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        learner(batch).loss.backward()
        optimizer.step()
    figures = task.metrics(task.decode(learner.eval().predict(batch), task.space()), task.truth(batch.labels, task.space()), task.space())
    assert figures["token_loss"] < 0.1
    answers = task.write(model, [*rows[:3], Row(id="blank", text=(" ",))], backbone.modality)
    assert answers == [*(str(row.target) for row in rows[:3]), ""]


def test_targets_that_are_too_long_are_reported_and_have_no_end(network: tuple[Model, Any]) -> None:
    _, modality = network
    task = SequenceToSequence()
    rows = [Row(id="a", text=("ant",), target=TargetText("BEE " * 60)), Row(id="b", text=("ant",), target=TargetText("BEE"))]
    table = Table(rows=rows, modality="text", target_type=None, root=Path(), layout="")
    task.render(table, modality)
    assert [line for line in table.messages if line.startswith("1 of 2 targets are longer than 23 tokens")]
    long, short = task.truth(task.encode(rows, task.space(), modality), task.space())
    assert len(long) == 24
    assert modality.separator not in long
    assert short[-1] == modality.separator


def test_loops_copies_and_empty_texts_are_reported() -> None:
    task = SequenceToSequence()
    rows = [Row(id=str(i), text=(f"text {i}",), target=TargetText("x")) for i in range(4)]
    assert not [line for line in task.faults(rows, ["text 0", "two", "three", "four"]) if "copies" in line], "one of four is no rule"
    for texts, word in ((["a b c d " * 9] * 4, "loops"), (["text 0", "text 1", "text 2", "y"], "copies"), ([""] * 4, "empty")):
        assert any(word in line for line in task.faults(rows, texts)), word
    assert not [line for line in task.faults(rows, ["one", "two", "three", "four"]) if "written texts" in line]


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"beams": 1, "top_k": 3}, {"min_new_tokens": 5, "max_new_tokens": 4}])
def test_settings_that_would_not_be_read_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        SequenceToSequence(**settings)


def test_the_decoder_s_sizes_are_read(network: tuple[Model, Any]) -> None:
    backbone = backbones.load(f"scratch:transformer,{SIZES}")
    backbone.modality = network[1]
    head = Decoder(layers=3, dropout=0.4).on(backbone).build(backbone.width, 2)
    assert isinstance(head, DecoderHead)
    assert (len(head.decoder.body.layers), head.decoder.body.dropout.p) == (3, 0.4)
    backbone.decoder = head.decoder
    assert Decoder().on(backbone).build(backbone.width, 2).decoder is head.decoder
    with pytest.raises(SettingError, match="brings its own decoder"):
        Decoder(layers=2).on(backbone).build(backbone.width, 2)


def test_targets_may_be_several_texts_and_blank_ones_are_dropped() -> None:
    found = TargetTexts(task="x").parse([" a ", ["b", " ", "c"], "", None, []], "target")
    assert found.values == [TargetText("a"), TargetText("b", ("c",)), None, None, None]
    assert [found.problems[place].reason for place in (2, 3, 4)] == ["blank_target"] * 3
    assert found.values[1].references == ("b", "c")
