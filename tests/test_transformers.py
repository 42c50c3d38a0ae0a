"""Networks of transformers: cut stages give the very features of the whole, saved ones come back, absent ones are told."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from pretune import backbones, registry
from pretune.errors import SettingError, WeightsError
from pretune.modalities import _tokenizer_training
from pretune.modalities.text import Text
from pretune.types import Features

WORDS = 400
PLAIN = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GROUPED = {**PLAIN, "num_key_value_heads": 2, "max_position_embeddings": 64}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
T5 = {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "num_layers": 2, "num_heads": 4, "d_ff": 64}
FAMILIES: dict[str, Any] = {
    "bert": lambda: hf.BertConfig(**PLAIN, max_position_embeddings=64),
    "distilbert": lambda: hf.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64),
    "roberta": lambda: hf.RobertaConfig(**PLAIN, max_position_embeddings=66),
    "modernbert": lambda: hf.ModernBertConfig(
        **{**PLAIN, "num_hidden_layers": 4}, **SPECIAL, max_position_embeddings=64, local_attention=4
    ),
    "gpt2": lambda: hf.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2),
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "t5": lambda: hf.T5Config(**T5),
    "electra": lambda: hf.ElectraConfig(**PLAIN, embedding_size=16, max_position_embeddings=64),
}
CUT = {"bert": 3, "distilbert": 3, "roberta": 3, "modernbert": 6, "gpt2": 4, "llama": 4, "t5": 4, "electra": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny random model of each family, saved as transformers saves them."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = _tokenizer_training.make(["a few words, to cut texts into", "and some more of them"], WORDS, "piece")
    torch.manual_seed(0)
    out = {}
    for name, config in FAMILIES.items():
        network = hf.T5ForConditionalGeneration(config()) if name == "t5" else hf.AutoModel.from_config(config())
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        network.save_pretrained(root / name)
        (root / name / "tokenizer.json").write_text(tokenizer)
        out[name] = root / name
    return out


def batch() -> Features:
    ids = torch.randint(3, WORDS, (3, 14), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 14, dtype=torch.bool)
    mask[0, 9:] = False
    mask[1, 3:] = False
    return Features(tensor=ids, layout="raw", mask=mask)


def whole(folder: Path) -> torch.nn.Module:
    cls = hf.T5EncoderModel if folder.name == "t5" else hf.AutoModel
    return cls.from_pretrained(folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_stages_give_the_features_of_the_whole(family: str, folders: dict[str, Path], tmp_path: Path):
    backbone = backbones.load(f"transformers:{folders[family]}", offline=True).eval()
    features = batch()
    expected = whole(folders[family])(input_ids=features.tensor, attention_mask=features.mask.long()).last_hidden_state
    got = backbone(features)
    assert got.layout == "sequence"
    assert got.tensor.shape == (3, 14, backbone.width)
    torch.testing.assert_close(got.tensor[features.mask], expected[features.mask], atol=1e-5, rtol=1e-4)
    assert len(backbone.stages) == CUT[family]
    assert backbone.layered == (CUT[family] > 1)
    assert backbone.pooling == ("last" if family in ("gpt2", "llama") else "mean")
    assert backbone.report is not None
    assert not backbone.report.missing

    backbones.save(backbone, tmp_path / "saved")
    again = backbones.read(tmp_path / "saved").eval()
    assert again.modality == backbone.modality
    assert torch.equal(again(features).tensor, got.tensor)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@torch.no_grad()
def test_padding_changes_nothing(family: str, folders: dict[str, Path]):
    backbone = backbones.load(f"transformers:{folders[family]}", offline=True).eval()
    features = batch()
    alone = backbone(Features(tensor=features.tensor[1:2, :3], layout="raw"))
    torch.testing.assert_close(backbone(features).tensor[1:2, :3], alone.tensor, atol=1e-5, rtol=1e-4)


def test_a_frozen_table_is_counted_once(folders: dict[str, Path]):
    backbone = backbones.load(f"transformers:{folders['t5']}", offline=True)
    names = [name for name, _ in backbone.named_parameters() if "relative_attention_bias" in name]
    assert len(names) == 1
    backbone.stages["layer1"].requires_grad_(False)
    assert all(p.requires_grad for p in backbone.stages["layer2"].parameters())


def test_the_second_of_two_texts_is_told_from_the_first(tmp_path: Path):
    """With a template of [CLS] and [SEP], token types are those of transformers."""
    from tokenizers import Tokenizer, processors

    made = Tokenizer.from_str(_tokenizer_training.make(["one two three", "four five six"], 300, "word"))
    made.add_special_tokens(["[CLS]", "[SEP]"])
    ids = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids)
    network = hf.BertModel(hf.BertConfig(**PLAIN, max_position_embeddings=64)).eval()
    torch.nn.init.normal_(network.embeddings.token_type_embeddings.weight)
    network.save_pretrained(tmp_path)
    made.save(str(tmp_path / "tokenizer.json"))

    backbone = backbones.load(f"transformers:{tmp_path}", offline=True).eval()
    array = backbone.modality.decode(("one two", "four five six")).array
    coded = made.encode("one two", "four five six")
    assert array.tolist() == coded.ids
    with torch.no_grad():
        expected = network(input_ids=torch.tensor([coded.ids]), token_type_ids=torch.tensor([coded.type_ids])).last_hidden_state
        got = backbone(backbone.modality.collate([array]))
    torch.testing.assert_close(got.tensor, expected, atol=1e-5, rtol=1e-4)


def test_length_is_what_tokenizer_and_network_allow(folders: dict[str, Path]):
    text = backbones.load(f"transformers:{folders['roberta']}", offline=True).modality
    assert isinstance(text, Text)
    assert (text.max_tokens, text.positions) == (64, 64), "two of RoBERTa's 66 positions stand for padding"
    relative = backbones.load(f"transformers:{folders['t5']}", offline=True).modality
    assert isinstance(relative, Text)
    assert (relative.max_tokens, relative.positions) == (512, None)


def test_weights_that_do_not_fit_are_refused(folders: dict[str, Path], tmp_path: Path):
    for family in ("bert", "gpt2"):
        copy = tmp_path / family
        copy.mkdir()
        for path in folders[family].iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        config = json.loads((copy / "config.json").read_text())
        key = "n_layer" if family == "gpt2" else "num_hidden_layers"
        (copy / "config.json").write_text(json.dumps({**config, key: 3}))
        with pytest.raises(WeightsError, match="missing"):
            backbones.load(f"transformers:{copy}", offline=True)


def _copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_numbers_that_are_none_are_refused_with_the_tensor(family: str, folders: dict[str, Path], tmp_path: Path):
    copy = _copied(folders[family], tmp_path / "copy")
    state = load_file(copy / "model.safetensors")
    name = next(name for name, tensor in state.items() if name.endswith("weight") and tensor.ndim == 2)
    for wrong, message in ((state[name].to(torch.int8), "is int8"), (torch.full_like(state[name], float("nan")), "are NaN or infinite")):
        save_file(state | {name: wrong}, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(WeightsError, match=message):
            backbones.load(f"transformers:{copy}", offline=True)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_folders_get_one_sentence(file: str, family: str, folders: dict[str, Path], tmp_path: Path):
    copy = _copied(folders[family], tmp_path / "copy")
    raw = (copy / file).read_bytes()
    for damaged in (raw[: len(raw) // 2], b"", b"[1, 2]", b"{}", bytes(64)):
        (copy / file).write_bytes(damaged)
        with pytest.raises((WeightsError, SettingError), match=rf"{copy}|tokenizer\.json is no tokenizer"):
            backbones.load(f"transformers:{copy}", offline=True)


def test_shards_are_read_from_the_folder_only(folders: dict[str, Path], tmp_path: Path):
    copy = _copied(folders["bert"], tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps({**json.loads((copy / "config.json").read_text()), "model_type": "wav2vec2"}))
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="names a file outside its folder"):
        backbones.load(f"transformers:{copy}", offline=True)


def test_what_is_not_here_is_told_before_any_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(
        WeightsError, match=r"transformers:nobody/no-such-model is not on this machine.*huggingface.co/nobody/no-such-model"
    ):
        backbones.load("transformers:nobody/no-such-model", offline=True)
    with pytest.raises(SettingError, match="there is no folder"):
        backbones.load(f"transformers:{tmp_path / 'nowhere'}", offline=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        backbones.load(f"transformers:{tmp_path / 'empty'}", offline=True)


def test_a_folder_of_weights_is_known_by_its_name(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRETUNE_WEIGHTS", str(folders["bert"].parent))
    assert {"bert", "gpt2"} <= set(registry.load("backbones", "transformers")().names())
    loaded = backbones.load("transformers:google/bert", offline=True)
    assert loaded.builder.id == "transformers:google/bert"


def test_fresh_weights_are_of_the_same_form(folders: dict[str, Path]):
    loaded = backbones.load(f"transformers:{folders['gpt2']}", offline=True)
    fresh = backbones.build(loaded.builder)
    assert list(fresh.stages) == list(loaded.stages)
    assert not torch.equal(next(fresh.parameters()), next(loaded.parameters()))
