"""Texts: tokens, truncation and its price, padding that never leaks, the classical floor, networks from scratch, MiniLM."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pretune import backbones
from pretune.architectures.layers.attention import attend
from pretune.data.batching import Batching, token_budget
from pretune.data.dataset import StoreView
from pretune.data.loader import Loader
from pretune.errors import BadItem, SettingError, WeightsError
from pretune.kernels.dropout import DropAdd, keep_mask
from pretune.modalities import _tfidf, _tokenizer_training
from pretune.modalities.image import Image
from pretune.modalities.text import Text
from pretune.modalities.transforms import tokenizing
from pretune.models import Model
from pretune.models.heads.linear import Linear
from pretune.storage.cache import Cache
from pretune.storage.ingest import ingest
from pretune.types import Features, Row

TEXTS = ["the quick brown fox", "jumps over the lazy dog", "and runs away, quickly!", "the dog sleeps"]
UNICODE = ["👩🏽‍🚀 family 👨‍👩‍👧‍👦", "مرحبا بالعالم", "שלום עולם", "cafe\u0301 café", "ﬁne ｆｕｌｌ", "𠀀𠀁 中文", "a\u200db"]


def rows(texts: list[str]) -> list[Row]:
    return [Row(id=f"t.csv:{i}", text=(text,), split="train") for i, text in enumerate(texts)]


@pytest.fixture
def words() -> Text:
    return Text(vocabulary=300, max_tokens=8).fitted_to(rows(TEXTS))[0]


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["word", "piece", "character"])
def test_a_tokenizer_made_twice_is_the_same(units: str):
    first, message = Text(vocabulary=300, units=units).fitted_to(rows(TEXTS))  # type: ignore[arg-type]
    second, _ = Text(vocabulary=300, units=units).fitted_to(rows(TEXTS))  # type: ignore[arg-type]
    assert first == second
    assert "labels unseen" in message
    assert first.fitted_to(rows(["other"])) == (first, ""), "a tokenizer that came with weights stays"


def test_pieces_spell_any_text_back():
    content = _tokenizer_training.make(TEXTS, 400, "piece")
    tokenizer = tokenizing.load(content)
    for text in UNICODE:
        ids = tokenizing.encode(content, [text])[0]
        assert tokenizer.decode(ids.tolist()).strip() == unicodedata.normalize("NFC", text)


def test_chinese_characters_are_words():
    content = _tokenizer_training.make(["好吃 很好吃"], 300, "word")
    assert tokenizing.load(content).encode("好吃").tokens == ["好", "吃"]


def test_what_is_lost_is_counted(words: Text):
    decoded = words.decode(("the " * 20,))
    assert len(decoded.array) == 8
    assert decoded.info == {"chars": 80, "tokens": 20, "lost": 12, "unknown": 0}
    assert words.decode(("the zebra",)).info["unknown"] == 1
    finding = words.findings([words.decode(("the " * n,)).info for n in (2, 20)])[0]
    assert "54.5 %" in finding.message
    assert finding.severity == "warning"


def test_pairs_share_the_room(words: Text):
    separator = tokenizing.special_id(words.tokenizer, "[SEP]")
    ids = words.decode(("the dog", "the lazy dog sleeps")).array
    assert ids.tolist().count(separator) == 1
    long = words.decode(("the " * 9, "dog " * 9)).array
    assert len(long) == 8
    assert long.tolist().index(separator) == 4
    short = words.decode(("the", "dog " * 9)).array
    assert (len(short), short.tolist().index(separator)) == (8, 1)


@pytest.mark.parametrize("lengths", [(3, 9), (9, 3), (9, 9), (1, 1), (0, 12), (12, 0)])
@pytest.mark.parametrize("room", [7, 8])
def test_truncation_cuts_the_longer_first(lengths: tuple[int, int], room: int):
    parts = tokenizing.truncate([np.arange(n, dtype=np.int32) for n in lengths], room)
    kept = tuple(map(len, parts))
    assert sum(kept) == min(room, sum(lengths))
    for mine, whole, other in ((0, lengths[0], kept[1]), (1, lengths[1], kept[0])):
        assert kept[mine] == whole or kept[mine] >= other - 1, "who is cut is at least about as long as the other"


def test_words_that_look_special_stay_words():
    content = _tokenizer_training.make(["sep unk"], 300, "word")
    special = {tokenizing.special_id(content, token) for token in ("[SEP]", "[PAD]")}
    assert not special & set(tokenizing.encode(content, ["a [SEP] review [PAD]"])[0].tolist())


@pytest.mark.parametrize("raw", [("",), ("  \n ",), ("", " "), b"", b" \r\n"])
def test_nothing_to_read_is_a_bad_item(raw: bytes | tuple[str, ...], words: Text):
    with pytest.raises(BadItem, match="empty"):
        words.decode(raw)


def test_files_in_other_encodings(words: Text):
    plain = words.decode(("the dog sleeps",)).array
    for codec in ("utf-8-sig", "utf-16", "latin-1"):
        assert np.array_equal(words.decode("the dog sleeps".encode(codec)).array, plain)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(SettingError, match="at most 512"):
        Text(max_tokens=600, positions=512)


# --- batches -------------------------------------------------------------------------------------


def test_batches_of_like_length_waste_little(tmp_path: Path):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(["the", "dog", "fox"], n)) for n in generator.integers(1, 60, 600)]
    text = Text(vocabulary=300, max_tokens=64).fitted_to(rows(texts))[0]
    done = ingest(rows(texts), text, Cache(tmp_path), threads=1)
    view = StoreView(done.store, np.arange(600), text, None)
    loader = Loader(view, Batching(size=16, tokens=token_budget(view, 16), shuffle=True))
    assert loader.padding(0) < 0.05
    seen = list(loader.iterate(0))
    assert sorted(int(i) for batch in seen for i in batch.index) == list(range(600))
    lengths = [int(batch.inputs.tensor.shape[1]) for batch in seen]
    assert lengths != sorted(lengths), "short and long batches are mixed"
    for batch in seen[:5]:
        assert batch.inputs.mask is not None
        expected = torch.from_numpy(done.store.lengths[batch.index.numpy()])
        assert torch.equal(batch.inputs.mask.sum(1), expected)


# --- the floor -----------------------------------------------------------------------------------


def test_tfidf_matches_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, held = TEXTS * 2, ["the fox sleeps", "unheard words"]
    block, ours = _tfidf.TermVocabulary.fitted(_tfidf._words(_tfidf._split(train)), len(train), fewest=1)
    ours_held = block.features(_tfidf._words(_tfidf._split(held)), len(held))
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[!?…]")
    expected = theirs.fit_transform(train)
    np.testing.assert_allclose(np.sort(ours.toarray(), 1)[:, -20:], np.sort(expected.toarray(), 1)[:, -20:], atol=1e-6)
    np.testing.assert_allclose((ours_held @ ours.T).toarray(), (theirs.transform(held) @ expected.T).toarray(), atol=1e-6)


def test_floor_of_unspaced_scripts_takes_characters(words: Text):
    train = [words.content(Row(id=str(at), text=(text,)), np.zeros(1)) for at, text in enumerate(("好吃的菜", "不好吃"))]
    floor, features = words.fit_baseline_features(train)
    held = floor.features(train[:1])
    assert "characters" in floor.words
    assert (features.shape[0], held.shape[0]) == (2, 1)
    assert features.shape[1] == len({*"好吃的菜不", "好吃", "吃的", "的菜", "不好"})


# --- networks from scratch -----------------------------------------------------------------------

FRESH = ["lstm", "lstm,bidirectional=true,layers=2", "textcnn", "transformer", "bert,layers=2,width=32,heads=4,hidden=64"]


@pytest.mark.parametrize("name", FRESH)
@torch.no_grad()
def test_padding_never_leaks(name: str):
    torch.manual_seed(0)
    backbone = backbones.load(f"scratch:{name}").eval()
    model = Model(backbone, Linear(), 3).eval()
    nn.init.normal_(model.head.layers.weight)
    ids = torch.randint(3, 300, (1, 6))
    padded = F.pad(ids, (0, 9), value=7)
    mask = torch.arange(15)[None] < 6
    both = Features(tensor=torch.cat([padded, torch.randint(3, 300, (1, 15))]), layout="raw", mask=torch.cat([mask, torch.ones_like(mask)]))
    alone = model(Features(tensor=ids, layout="raw"))
    torch.testing.assert_close(model(both)[:1], alone, atol=1e-5, rtol=1e-4)


def test_default_lstm_is_the_one_of_the_books():
    backbone = backbones.load("scratch:lstm")
    assert isinstance(backbone.modality, Text)
    assert backbone.modality.vocabulary == 10_000
    shapes = {name: tuple(p.shape) for name, p in backbone.named_parameters()}
    assert shapes["stages.words.table.weight"] == (10_000, 100)
    assert shapes["stages.recurrence.lstm.weight_ih_l0"] == (4 * 200, 100)


def test_a_saved_backbone_carries_its_tokenizer(tmp_path: Path, words: Text):
    backbone = backbones.load("scratch:textcnn,vocabulary=300")
    backbone.modality = words
    backbones.save(backbone, tmp_path)
    assert words.tokenizer not in (tmp_path / "builder.json").read_text()
    assert backbones.read(tmp_path).modality == words


# --- attention and dropout -----------------------------------------------------------------------


def test_attention_with_dropout_has_the_right_gradient(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    kept = keep_mask(torch.Size((2 * 2, 5, 5)), 0.3, torch.float64, torch.device("cpu"))
    monkeypatch.setattr("pretune.kernels.attention.keep_mask", lambda *_: kept)
    qkv = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(5)[None] < torch.tensor([[5], [3]])

    def plain(x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.transpose(1, 2) for part in x.unflatten(-1, (3, 2, -1)).unbind(2))
        scores = (q @ k.transpose(-1, -2) * 2**-0.5).masked_fill(~mask[:, None, None], -torch.inf)
        return (scores.softmax(-1) * kept.view(2, 2, 5, 5) @ v).transpose(1, 2).flatten(2)

    out = attend(qkv, 2, mask, 0.3)
    torch.testing.assert_close(out, plain(qkv))
    goal = torch.randn_like(out)
    (got,) = torch.autograd.grad((out * goal).sum(), qkv)
    (expected,) = torch.autograd.grad((plain(qkv) * goal).sum(), qkv)
    torch.testing.assert_close(got, expected)
    q, k, v = (part.transpose(1, 2) for part in qkv.unflatten(-1, (3, 2, -1)).unbind(2))
    without = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
    torch.testing.assert_close(attend(qkv, 2, mask, 0.0), without.transpose(1, 2).flatten(2))


def test_dropout_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    mask = keep_mask(torch.Size((1001, 999)), 0.1, torch.float32, torch.device("cpu"))
    assert float((mask == 0).float().mean()) == pytest.approx(0.1, abs=2e-3)
    assert float(mask.mean()) == pytest.approx(1.0, abs=2e-3)
    layer = DropAdd(0.5)
    x, residual = torch.ones(4, 4, requires_grad=True), torch.zeros(4, 4)
    out = layer(x, residual)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # type: ignore[arg-type]
    assert torch.equal(layer.eval()(x, residual), x)


# --- all layers ----------------------------------------------------------------------------------


@torch.no_grad()
def test_layers_are_pooled_side_by_side():
    backbone = backbones.load("scratch:bert,layers=2,width=32,heads=4,hidden=64").eval()
    model = Model(backbone, Linear(), 2, "layers").eval()
    assert model.head.mean.shape == (3 * 32,)
    features = Features(tensor=torch.randint(1, 300, (2, 5)), layout="raw", mask=torch.tensor([[True] * 5, [True] * 2 + [False] * 3]))
    pooled = features
    for name in model.names[:-1]:
        pooled = model.stages[name](pooled)
    last = backbone(features).tensor
    torch.testing.assert_close(pooled.tensor[:, 64:], torch.stack([last[0].mean(0), last[1, :2].mean(0)]))
    with pytest.raises(SettingError, match="layers of one width"):
        Model(backbones.load("scratch:lstm"), Linear(), 2, "layers")


# --- package:minilm ------------------------------------------------------------------------------


def minilm() -> backbones.Backbone:
    try:
        return backbones.load("package:minilm").eval()
    except WeightsError as error:
        pytest.skip(str(error))


@torch.no_grad()
def test_minilm_knows_what_sentences_mean():
    backbone = minilm()
    sentences = ["A man is eating food.", "Someone is having a meal.", "The stock market fell sharply."]
    views = [backbone.modality.decode((s,)).array for s in sentences]
    features = backbone(backbone.modality.collate(views))
    assert features.mask is not None
    mean = (features.tensor * features.mask[..., None]).sum(1) / features.mask.sum(1, keepdim=True)
    similarity = F.cosine_similarity(mean[:1], mean[1:])
    assert similarity[0] > 0.6
    assert similarity[1] < 0.2


def test_minilm_travels_with_its_tokenizer(tmp_path: Path):
    backbone = minilm()
    backbones.save(backbone, tmp_path)
    assert json.loads((tmp_path / "builder.json").read_text())["id"] == "package:minilm"
    again = backbones.read(tmp_path)
    assert again.modality == backbone.modality
    assert again.modality.decode(("hello world",)).array.tolist() == [101, 7592, 2088, 102]


# --- Llama and GGUF ------------------------------------------------------------------------------


@torch.no_grad()
def test_llama_is_that_of_transformers():
    import transformers as hf

    from pretune.architectures.llama import Llama
    from pretune.backbones import _llama

    theirs = hf.LlamaModel(
        hf.LlamaConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
            rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        )
    ).eval()  # fmt: skip
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "layers.": "blk."}  # fmt: skip
    state = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state["output_norm.weight" if name == "norm.weight" else name.replace("embed_tokens", "token_embd")] = tensor
    ours = Llama(vocabulary=50, width=32, layers=2, heads=4, groups=2, hidden=48, base=500.0).build().eval()
    ours.load_state_dict(_llama.renamed(state))
    ids = torch.randint(0, 50, (2, 9))
    torch.testing.assert_close(ours(Features(tensor=ids, layout="raw")).tensor, theirs(ids).last_hidden_state, atol=1e-5, rtol=1e-4)


def gguf_file(path: Path, tensors: dict[str, tuple[tuple[int, ...], int, bytes]], settings: dict[str, object]) -> None:
    """Write a GGUF file of version 3."""
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def value(item: object) -> bytes:
        if isinstance(item, str):
            return struct.pack("<I", 8) + text(item)
        if isinstance(item, list):
            inner = [value(each) for each in item]
            return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(item)) + b"".join(each[4:] for each in inner)
        return struct.pack("<Ii", 5, item)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    head += b"".join(text(name) + value(item) for name, item in settings.items())
    offset, body = 0, b""
    for name, (shape, kind, raw) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, offset)
        body += raw + b"\0" * (-len(raw) % 32)
        offset = len(body)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)


def test_gguf_is_read(tmp_path: Path):
    from pretune.backbones import _gguf

    packed = np.arange(16, dtype=np.uint8) | (np.uint8(15) - np.arange(16, dtype=np.uint8)) << 4
    half = lambda x: np.float16(x).tobytes()  # noqa: E731
    tensors = {
        "plain": ((2, 3), 0, np.arange(6, dtype=np.float32).tobytes()),
        "half": ((4,), 1, np.arange(4, dtype=np.float16).tobytes()),
        "q4_0": ((1, 32), 2, half(0.5) + packed.tobytes()),
        "q4_1": ((1, 32), 3, half(0.5) + half(-1.0) + packed.tobytes()),
        "q8_0": ((1, 32), 8, half(0.25) + np.arange(-16, 16, dtype=np.int8).tobytes()),
    }
    settings = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": ["<s>", "a", "b", "ab", "1", "Ġ"],
                "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1], "tokenizer.ggml.merges": ["a b"]}  # fmt: skip
    gguf_file(tmp_path / "x.gguf", tensors, settings)
    got = _gguf.read_gguf(tmp_path / "x.gguf")
    assert got.settings == settings
    nibbles = torch.cat([torch.arange(16), 15 - torch.arange(16)]).float()[None]
    expected = {"plain": torch.arange(6.0).view(2, 3), "half": torch.arange(4.0), "q4_0": (nibbles - 8) / 2, "q4_1": nibbles / 2 - 1,
                "q8_0": torch.arange(-16.0, 16)[None] / 4}  # fmt: skip
    assert got.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got.tensors[name], tensor), name
    assert tokenizing.load(_gguf.tokenizer(got.settings, "x")).encode("ab 11").tokens == ["ab", "Ġ", "1", "1"]

    whole = (tmp_path / "x.gguf").read_bytes()
    for damaged in (whole[:100], whole[:-40], b"GGML" + whole[4:]):
        (tmp_path / "y.gguf").write_bytes(damaged)
        with pytest.raises(WeightsError):
            _gguf.read_gguf(tmp_path / "y.gguf")
    gguf_file(tmp_path / "z.gguf", {"odd": ((32,), 99, b"\0" * 32)}, {"a": 1})
    with pytest.raises(WeightsError, match="GGUF type 99"):
        _gguf.read_gguf(tmp_path / "z.gguf")


def test_texts_are_not_shown_to_networks_for_images() -> None:
    assert Text.from_image(Image()) is None
