"""Masked, denoising and causal learning of texts: what is hidden, what is scored, and whole runs on texts made on the spot."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pretune import api, backbones
from pretune.architectures.layers.memory import Recalling, remembering
from pretune.architectures.layers.transformer_decoder import TransformerDecoder
from pretune.backbones import Backbone
from pretune.backbones._retokenize import token_table
from pretune.errors import Interrupted, RequestError, SettingError
from pretune.modalities.text import Text
from pretune.modalities.transforms import tokenizing
from pretune.models.token_loss import linear_cross_entropy
from pretune.objectives._gaps import Filling, opened, put_together
from pretune.objectives._masked_tokens import MaskedTokens
from pretune.objectives._sampling import Wanted
from pretune.objectives.causal import Causal, CausalLearner
from pretune.objectives.denoising import Denoising, DenoisingLearner, spans
from pretune.objectives.masked import Masked
from pretune.runner.reporter import Silent
from pretune.training.events import Event, Stepped
from pretune.training.optim import Optim
from pretune.types import Batch, Features
from tests.command_line import pretune

TINY = "scratch:transformer,width=32,layers=1,heads=2,dropout=0.0"
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEXTS = ["The unbelievable cats can't run, don't they?\nNew line 好吃吗 naïve"] * 20


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def counting(count: int, seed: int = 0) -> str:
    """Texts in which the next word follows from the last."""
    rng = random.Random(seed)
    starts = (rng.randrange(10) for _ in range(count))
    return " ".join(WORDS[(start + i) % 10] for start in starts for i in range(10))


def text_of_kind(units: str, *, verbatim: bool = False, masked: bool = True) -> Text:
    return replace(Text(), units=units, vocabulary=340, verbatim=verbatim).learned_from(TEXTS, masked=masked)


def network(name: str, text: Text) -> Backbone:
    made = backbones.load(f"{name},vocabulary={text.size}")
    made.modality = replace(text, max_tokens=min(text.max_tokens, 64))
    return made


def batch_of(ids: Tensor) -> Batch:
    return Batch(inputs=Features(tensor=ids, layout="raw"), labels=None, index=torch.arange(len(ids)))


def masked_learner(units: str = "piece", **settings: object) -> MaskedTokens:
    learner = Masked(**settings).learner(network(TINY, text_of_kind(units)))  # type: ignore[arg-type]
    assert isinstance(learner, MaskedTokens)
    return learner


# --- words ---------------------------------------------------------------------------------------


def words_of(text: Text, content: str) -> list[str]:
    """The words that whole-word hiding sees, spelled."""
    learner = MaskedTokens(network(TINY, text), share=0.15, whole_words=True)
    ids = torch.from_numpy(text.ids(content).astype(np.int64))[None]
    names = {place: name for name, place in tokenizing.load(text.tokenizer).get_vocab().items()}
    out: dict[int, str] = {}
    for word, place in zip(learner.words(ids)[0].tolist(), ids[0].tolist(), strict=True):
        out[word] = out.get(word, "") + names[place]
    return list(out.values())


@pytest.mark.parametrize("units", ["piece", "unigram"])
def test_pieces_over_bytes_are_put_into_words(units: str) -> None:
    found = words_of(text_of_kind(units, verbatim=True), "The unbelievable cats, they run\nNew")
    wanted = ["The", "unbelievable", "cats", ",", "they", "run", "\n", "New"]
    assert [word.replace("Ġ", "").replace("Ċ", "\n") for word in found] == wanted


def test_chinese_words_and_characters_are_words_of_their_own() -> None:
    for units in ("word", "character"):
        assert words_of(text_of_kind(units), "好吃吗 naïve")[:3] == ["好", "吃", "吗"]


def word_pieces() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##believ", "##able", "cats", "run", "##s", "!"]
    tokenizer = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(names[:5])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer.to_str()


def test_word_pieces_and_their_frame() -> None:
    text = Text(tokenizer=word_pieces(), max_tokens=16)
    assert words_of(text, "unbelievable cats runs!") == ["un##believ##able", "cats", "run##s", "!"]
    assert (text.room, text.framed, text.special) == (14, ((2,), (3,)), (0, 1, 2, 3, 4))
    assert Masked().block(text) == (14, 14)
    learner = MaskedTokens(network(TINY, text), share=0.5, whole_words=False)
    framed = learner.framed(torch.full((2, 14), 8))
    assert framed[:, 0].tolist() == [2, 2]
    assert framed[:, -1].tolist() == [3, 3]
    assert not learner.hidden(framed)[:, [0, -1]].any()


def test_metaspace_marks_where_words_begin() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = ["<unk>", "<mask>", "▁the", "▁c", "at", "s", "▁", "x", ","]
    tokenizer = Tokenizer(models.Unigram([(name, -1.0) for name in names], unk_id=0))
    tokenizer.add_special_tokens(names[:2])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    text = Text(tokenizer=tokenizer.to_str())
    assert text.mask == 1
    assert words_of(text, "the cats, x") == ["▁the", "▁cats", ",", "▁x"]


# --- hiding --------------------------------------------------------------------------------------


def test_a_share_of_ordinary_tokens_is_hidden_anew_each_time() -> None:
    learner = masked_learner(share=0.2)
    ids = torch.randint(0, 60, (64, 64))
    special = torch.isin(ids, torch.tensor(learner.backbone.modality.special))  # type: ignore[attr-defined]
    assert special.any()
    hidden = learner.hidden(ids)
    assert not (hidden & special).any()
    assert abs(float(hidden[~special].float().mean()) - 0.2) < 0.03
    assert not hidden.equal(learner.hidden(ids))
    torch.manual_seed(5)
    once = learner.hidden(ids)
    torch.manual_seed(5)
    assert once.equal(learner.hidden(ids))


def test_of_the_hidden_eight_tenths_are_masks_one_random_one_itself() -> None:
    learner = masked_learner()
    ids = torch.full((100, 100), 50)
    hidden = torch.rand(ids.shape) < 0.5
    shown = learner.shown(ids, hidden)
    assert shown[~hidden].eq(50).all(), "what is not hidden is shown"
    of_hidden = shown[hidden]
    assert abs(float((of_hidden == learner.mask).float().mean()) - 0.8) < 0.03
    assert abs(float((of_hidden == 50).float().mean()) - 0.1) < 0.03
    others = of_hidden[(of_hidden != 50) & (of_hidden != learner.mask)]
    assert len(others.unique()) > 50
    assert not torch.isin(others, torch.tensor(learner.backbone.modality.special)).any()  # type: ignore[attr-defined]


def test_whole_words_are_hidden_as_one() -> None:
    learner = masked_learner(whole_words=True, share=0.3)
    text = learner.backbone.modality
    assert isinstance(text, Text)
    ids = torch.from_numpy(text.ids("unbelievable cats run they line naïve " * 4).astype(np.int64)).repeat(20, 1)
    hidden, words = learner.hidden(ids), learner.words(ids)
    for row, numbers in zip(hidden, words, strict=True):
        for number in numbers.unique():
            assert row[numbers == number].unique().numel() == 1
    assert 0.15 < float(hidden.float().mean()) < 0.45


def test_at_least_one_token_is_hidden_and_only_hidden_ones_are_scored() -> None:
    learner = masked_learner(share=1e-6)
    ids = torch.randint(10, 60, (2, 8))
    assert learner.hidden(ids).sum() == 1
    out = learner(batch_of(ids))
    assert out.loss.isfinite()
    out.loss.backward()
    assert all(p.grad is not None for _, p in learner.head.named_parameters())
    assert "accuracy" in learner.eval()(batch_of(ids)).logs


def test_masked_needs_a_network_that_looks_both_ways() -> None:
    text = text_of_kind("piece")
    for objective in (Masked(), Denoising()):
        with pytest.raises(SettingError, match="looks both ways"):
            objective.learner(network("scratch:gpt,width=16,layers=1,heads=2", text))
    with pytest.raises(SettingError, match="looks back only"):
        Causal().learner(network(TINY, text))


def test_the_unigram_floor_is_said() -> None:
    learner = masked_learner()
    assert "than token frequencies" in learner.verdict({"loss": 5.0}, {"unigram": 5.0})[0]
    assert learner.verdict({"loss": 4.0}, {"unigram": 5.0}) == []


# --- vocabularies --------------------------------------------------------------------------------


def rows_by_name(backbone: Backbone) -> dict[str, Tensor]:
    text = backbone.modality
    assert isinstance(text, Text)
    table = token_table(backbone).weight.detach()
    return {name: table[place] for name, place in tokenizing.load(text.tokenizer).get_vocab().items()}


def test_a_table_grows_and_every_token_keeps_its_vector() -> None:
    text = text_of_kind("piece", masked=False)
    old = network(TINY, text)
    before, others = rows_by_name(old), {k: v.clone() for k, v in old.stages.state_dict().items() if "word" not in k}
    made = backbones.retokenized(old, text.with_mask().tokenizer)
    new = made.modality
    assert isinstance(new, Text)
    assert text.mask is None
    assert new.mask == text.size
    assert (new.separator, new.unknown, new.special[:3]) == (text.separator, text.unknown, text.special)
    after = rows_by_name(made)
    assert set(after) - set(before) == {"[MASK]"}
    assert all(after[name].equal(row) for name, row in before.items())
    assert torch.allclose(after["[MASK]"], torch.stack(list(before.values())).mean(0), atol=1e-6)
    assert all(made.stages.state_dict()[name].equal(tensor) for name, tensor in others.items())
    assert made.builder.settings["vocabulary"] == text.size + 1
    assert backbones.retokenized(made, new.tokenizer) is made


def test_rows_follow_their_tokens_to_other_ids() -> None:
    text = text_of_kind("character", masked=False)
    told = json.loads(text.tokenizer)
    ordinary = [name for name in told["model"]["vocab"] if not name.startswith("[")]
    for place, name in zip(range(3, text.size), reversed(ordinary), strict=True):
        told["model"]["vocab"][name] = place
    old = network(TINY, text)
    before = rows_by_name(old)
    new = backbones.retokenized(old, json.dumps(told))
    after = rows_by_name(new)
    assert len(before) == text.size
    assert not token_table(new).weight.equal(token_table(old).weight), "the ids are others"
    assert all(after[name].equal(row) for name, row in before.items())


def test_a_fine_tuned_network_without_a_mask_goes_on_to_be_masked(home: Path) -> None:
    with (home / "d.csv").open("w") as stream:
        csv.writer(stream).writerows([["text", "label"], *([f"{counting(1, i)} {i % 2}", "ab"[i % 2]] for i in range(60))])
    first = api.finetune("d.csv", backbone=TINY, strategy="scratch", epochs=1, threads=1, out="first")
    done = api.pretrain("d.csv", objective="masked", backbone="run:first", max_tokens=16, epochs=1, threads=1, out="second")
    assert not backbones.load(f"run:{first.path}").modality.mask  # type: ignore[attr-defined]
    again = api.finetune("d.csv", backbone=f"run:{done.path}", strategy="linear_probe", epochs=1, threads=1, out="third")
    assert math.isfinite(again.metrics["primary"]["value"])


def test_the_table_of_tokens_is_not_the_one_of_positions_even_where_that_is_larger() -> None:
    for name in (TINY, "scratch:gpt,width=16,layers=1,heads=2", "scratch:bert,width=16,layers=1,heads=2,hidden=16", "scratch:lstm"):
        assert token_table(backbones.load(f"{name},vocabulary=9")).num_embeddings == 9


# --- denoising -----------------------------------------------------------------------------------


def test_spans_are_as_many_and_as_long_in_every_block() -> None:
    gaps = spans(50, 40, 0.3, 3.0)
    assert gaps.sum(1).unique().tolist() == [12]
    firsts = gaps.clone()
    firsts[:, 1:] &= ~gaps[:, :-1]
    assert firsts.sum(1).unique().tolist() == [4]
    assert not gaps[:, 0].any()
    assert len({tuple(row.tolist()) for row in gaps}) > 40
    assert spans(3, 2, 0.8, 1.0).sum(1).tolist() == [1, 1, 1]


def denoising_learner(**settings: float) -> DenoisingLearner:
    return Denoising(**settings).learner(network(TINY, text_of_kind("character")))  # type: ignore[arg-type]


def test_what_is_cut_out_is_written() -> None:
    learner = denoising_learner()
    ids = torch.arange(10, 20)[None]
    gaps = torch.tensor([[0, 0, 1, 1, 0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    read, wanted = learner.cut(ids, gaps)
    mask, end = learner.mask, learner.end
    assert read.tolist() == [[10, 11, mask, 14, 15, 16, mask, 18, 19]]
    assert wanted.tolist() == [[mask, 12, 13, mask, 17, end]]


def test_a_decoder_sees_no_later_token_and_all_that_is_read() -> None:
    decoder = TransformerDecoder(32, 48, 2, 16).eval()
    x, read = torch.randn(1, 6, 32), torch.randn(1, 5, 48)
    whole = decoder(x, read)
    changed = x.clone()
    changed[:, 4] += 1
    assert torch.allclose(decoder(changed, read)[:, :4], whole[:, :4], atol=1e-5)
    assert not torch.allclose(decoder(x, read + torch.eye(48)[4])[:, 0], whole[:, 0])


def test_denoising_trains_the_encoder_through_the_decoder() -> None:
    learner = denoising_learner(share=0.4)
    out = learner(batch_of(torch.randint(5, 20, (4, 24))))
    out.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.backbone.stages["layer1"].parameters())
    logs = learner.eval()(batch_of(torch.randint(5, 20, (4, 24)))).logs
    assert set(logs) == {"loss_of_tokens", "accuracy"}
    assert "token frequencies" in learner.verdict({"loss_of_tokens": 3.0}, {"unigram": 3.0})[0]


def test_the_loss_over_tokens_is_exact_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((30, 8), (50, 8), (50,)))
    targets = torch.randint(0, 50, (30,))
    F.cross_entropy(F.linear(x, weight, bias), targets).backward()
    wanted = {"x": x.grad, "weight": weight.grad, "bias": bias.grad}
    x.grad = weight.grad = bias.grad = None
    monkeypatch.setattr("pretune.objectives._vocabulary.CHUNK", 200)
    loss = linear_cross_entropy(x, weight, targets, bias)
    loss.backward()
    assert torch.allclose(loss, F.cross_entropy(F.linear(x, weight, bias), targets))
    torch.testing.assert_close({"x": x.grad, "weight": weight.grad, "bias": bias.grad}, wanted, atol=1e-6, rtol=1e-5)


# --- an LSTM that writes -------------------------------------------------------------------------

LSTM = "scratch:lstm,embedding=24,hidden=32,units=word,dropout=0.0"


def test_an_lstm_remembers_what_it_has_read() -> None:
    learner = Causal().learner(network("scratch:lstm,embedding=16,hidden=24,layers=2", text_of_kind("character"))).eval()
    assert isinstance(learner, CausalLearner)
    ids = torch.randint(5, 20, (2, 9))
    with torch.no_grad():
        whole = learner.next_logits(ids)
        with remembering(learner.backbone):
            learner.next_logits(ids[:, :5])
            learner.next_logits(ids[:, 5:8])
            assert torch.allclose(learner.next_logits(ids[:, 8:]), whole, atol=1e-5)
        assert torch.allclose(learner.next_logits(ids), whole), "nothing is kept afterwards"
    wanted = Wanted(prompt="the", count=2, length=12, seed=1)
    assert learner.generate(wanted) == learner.generate(wanted)


def test_an_lstm_learns_to_count_and_writes_it(home: Path) -> None:
    (home / "a.txt").write_text(counting(400))
    done = api.pretrain("a.txt", objective="causal", backbone=LSTM, max_tokens=20, epochs=3, batch_size=8, threads=1, out="run")
    assert done.metrics["held"]["loss"] < 0.35 * done.metrics["floors"]["unigram"]
    written = api.generate(done.path, "one two three", length=8, temperature=0)[0].text
    assert written == "one two three four five six seven"


def test_an_lstm_that_reads_backwards_cannot_write() -> None:
    with pytest.raises(SettingError, match="looks back only"):
        Causal().learner(network("scratch:lstm,bidirectional=True", text_of_kind("character")))


def test_a_decoder_with_a_memory_writes_what_it_would_without() -> None:
    learner = denoising_learner().eval()
    torch.nn.init.normal_(learner._table[0].weight, std=1.0)
    read = torch.tensor([[10, 11, learner.mask, 14, 15, learner.mask, 18]] * 2)
    written = learner.fill(read, 2, Wanted(temperature=0, length=5))
    features = learner.backbone(Features(tensor=learner.framed(read), layout="raw")).tensor
    for row, gaps in enumerate(written):
        begun = [learner.end]
        for gap in gaps:
            begun.append(learner.mask)
            for token in gap:
                x_TD = learner.decoder(learner._table[0](torch.tensor([begun])), features[row : row + 1])[0]
                logits_V = learner.head.logits(x_TD[-1])
                logits_V[[*text_of_kind("character").special, learner.mask, learner.end]] = -torch.inf
                assert int(logits_V.argmax()) == token
                begun.append(token)
    recalling = [module for module in learner.modules() if isinstance(module, Recalling)]
    assert recalling
    assert all(module.memory is None for module in recalling), "nothing is remembered afterwards"


def test_gaps_are_filled_in_their_order_and_none_is_left_empty() -> None:
    filling = Filling(2, 2, mask=3, end=2)
    may = []
    for token in (3, 5, 3, 5, 6, 2, 2):
        logits = torch.zeros(8)
        filling.allow(logits, never=(0, 1))
        may.append([i for i, x in enumerate(logits.tolist()) if x > -1])
        assert token in may[-1]
        filling.take(token)
    assert may == [[3], [4, 5, 6, 7], [3, 4, 5, 6, 7], [4, 5, 6, 7], [2, 4, 5, 6, 7], [2], [2]]
    assert filling.written == [[5], [5, 6]]
    assert filling.finished


def test_what_stands_around_gaps_stays_as_it_is_written() -> None:
    assert put_together(opened("A <mask>, B[MASK]c\n"), [" x y ", "z"]) == "A x y, Bzc\n"
    assert put_together(opened("The end"), ["is near"]) == "The end is near"
    assert put_together(opened("天地"), ["玄 黄"]) == "天地玄黄"
    assert put_together(opened(""), [" alone"]) == "alone"
    learner = denoising_learner()
    made = learner.generate(Wanted(prompt="The <mask> don't <mask> NEW", length=2, count=3))
    assert all(re.fullmatch(r"The \S{1,2} don't \S{1,2} NEW", str(sample.text)) for sample in made)
    assert made == learner.generate(Wanted(prompt="The <mask> don't <mask> NEW", length=2, count=3))
    assert "unknown" in learner.generate(Wanted(prompt="Ω <mask>"))[0].note
    with pytest.raises(SettingError, match="reads at most 64"):
        learner.generate(Wanted(prompt="x" * 65))
    with pytest.raises(SettingError, match="33 gaps are more"):
        learner.generate(Wanted(prompt="<mask>" * 33))


# --- whole runs ----------------------------------------------------------------------------------


class Stopping(Silent):
    """Stops like Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def event(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            raise Interrupted("stopped")


@pytest.mark.parametrize("objective", ["masked", "denoising"])
def test_stopped_and_resumed_it_is_bit_identical(home: Path, objective: str) -> None:
    (home / "a.txt").write_text(counting(60))
    settings = {"objective": objective, "backbone": TINY.replace("dropout=0.0", "dropout=0.1")}
    settings |= {"max_tokens": 16, "epochs": 2, "batch_size": 4, "threads": 1}
    api.pretrain("a.txt", **settings, out="whole")
    with pytest.raises(Interrupted):
        api.pretrain("a.txt", **settings, out="cut", reporter=Stopping(9))
    api.pretrain("a.txt", **settings, out="cut", resume=True)
    for file in ("weights/last.safetensors", "backbone/weights.safetensors"):
        assert (home / "whole" / file).read_bytes() == (home / "cut" / file).read_bytes()


def test_a_run_is_not_resumed_over_another_corpus(home: Path) -> None:
    (home / "a.txt").write_text(counting(60))
    settings = {"backbone": TINY.replace("transformer", "gpt"), "max_tokens": 16, "epochs": 1, "batch_size": 4, "threads": 1, "out": "run"}
    with pytest.raises(Interrupted):
        api.pretrain("a.txt", **settings, reporter=Stopping(5))
    (home / "a.txt").write_text(counting(60, seed=1))
    with pytest.raises(RequestError, match="the data have changed since run was started"):
        api.pretrain("a.txt", **settings, resume=True)
    (home / "a.txt").write_text(counting(60))
    assert api.pretrain("a.txt", **settings, resume=True).metrics["held"]["loss"] > 0


@pytest.mark.parametrize("objective", [Masked(), Denoising()])
def test_missing_words_are_found(objective: Masked | Denoising) -> None:
    content = counting(200)
    text = replace(Text(), units="word", max_tokens=20).learned_from([content], masked=True)
    learner = objective.learner(network(TINY, text))
    for table in learner.backbone.stages["embeddings"].modules():
        if isinstance(table, torch.nn.Embedding):
            torch.nn.init.normal_(table.weight, std=0.2)  # words differ from the beginning, which saves steps
    ids = torch.from_numpy(text.ids(content).astype(np.int64)).view(-1, 20)
    optimizer = Optim(name="muon").build(learner.groups(), 0.01, 0.1)
    losses = []
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = group["initial"] * min(1, step / 20, (200 - step) / 100)
        out = learner(batch_of(ids[torch.randint(len(ids), (8,))]))
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(out.loss.detach()))
    assert sum(losses[-20:]) / 20 < 0.75 * math.log(10), "better than the frequencies of ten equally frequent words"


@pytest.mark.parametrize("objective", ["masked", "denoising"])
def test_it_runs_through_the_command_line(home: Path, objective: str) -> None:
    (home / "a.txt").write_text(counting(60))
    settings = [f"objective={objective}", f"backbone={TINY},units=word", "max_tokens=20", "epochs=1"]
    metrics = json.loads(pretune("pretrain", "a.txt", *settings, "threads=1", "out=run", "--json", "--offline").stdout)
    assert "accuracy" in metrics["held"]
    assert "nats_per_character" not in metrics["held"]
    assert any("no better than token frequencies" in line for line in metrics["diagnosis"]), "one epoch teaches nothing, and it is said"
    assert backbones.load("run:run").modality.mask is not None  # type: ignore[attr-defined]
    if objective == "denoising":
        filled = json.loads((home / "run" / "filled.json").read_text())
        assert list(filled[0]) == ["with gaps", "filled", "the text"]
        assert "[…]" in filled[0]["with gaps"]
        assert filled[0]["the text"] in (home / "run" / "report.html").read_text(encoding="utf-8")
        assert api.generate("run", "one two <mask> four", length=1)[0].text
