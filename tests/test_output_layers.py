"""Decoders of transformers write by their own output layer: the table of word pieces, or a layer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from safetensors.torch import save_file

from pretune import backbones
from pretune.errors import SettingError, WeightsError
from pretune.modalities import _tokenizer_training
from pretune.models import Model
from pretune.models.heads.vocabulary import VocabularyHead
from pretune.tasks.text_generation import TextGeneration
from pretune.types import Features

WORDS = 300
SIZES = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES: dict[str, Any] = {
    "llama tied": lambda: hf.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama": lambda: hf.LlamaConfig(**SIZES, tie_word_embeddings=False),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SIZES, tie_word_embeddings=False),
    "gpt2": lambda: hf.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2),
    "granite": lambda: hf.GraniteConfig(**SIZES, logits_scaling=4.0, tie_word_embeddings=True),
}


def written(config: Any, folder: Path) -> tuple[Path, Any]:
    """Return a folder with a small random decoder, as transformers saves it, and the decoder."""
    torch.manual_seed(0)
    network = hf.AutoModelForCausalLM.from_config(config).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(_tokenizer_training.make(["a few words, to cut texts into"], WORDS, "piece"))
    return folder, network


def modelled(backbone: backbones.Backbone) -> Model:
    return Model(backbone, TextGeneration().head(None), 2, layout="sequence").eval()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_and_losses_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder, network = written(FAMILIES[family](), tmp_path / "source")
    model = modelled(backbones.load(f"transformers:{folder}", offline=True))
    ids = torch.randint(3, WORDS, (2, 12), generator=torch.Generator().manual_seed(1))
    expected = network(ids).logits
    features = model.before_head(Features(tensor=ids, layout="raw"))
    assert torch.allclose(model.head(features), expected, atol=1e-4)
    head = model.head
    assert isinstance(head, VocabularyHead)
    x, targets = features.tensor[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    assert float(head.loss(x, targets)) == pytest.approx(float(F.cross_entropy(expected[:, :-1].flatten(0, 1), targets)), abs=1e-4)
    assert float(head.scores(x, targets)[:, 0].mean()) == pytest.approx(float(head.loss(x, targets)), abs=1e-4)


def test_a_layer_of_its_own_stays_and_is_saved_with_the_run(tmp_path: Path) -> None:
    folder, _ = written(FAMILIES["llama"](), tmp_path / "source")
    backbone = backbones.load(f"transformers:{folder}", offline=True)
    model = modelled(backbone)
    model.head.requires_grad_(True)
    assert list(model.head.parameters()) == []
    run = tmp_path / "run"
    backbones.save(backbone, run / "backbone")
    with pytest.raises(WeightsError, match="without its output layer"):
        modelled(backbones.load(f"run:{run}", offline=True))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name.startswith("stages.head.")}
    (run / "weights").mkdir()
    save_file(state, run / "weights" / "last.safetensors")
    finished = modelled(backbones.read(run / "backbone"))  # as predict builds it
    finished.load_state_dict(state, strict=False)
    again = modelled(backbones.load(f"run:{run}", offline=True))
    ids = torch.arange(3, 15)[None]
    for other in (finished, again):
        assert torch.equal(other(Features(tensor=ids, layout="raw")), model(Features(tensor=ids, layout="raw")))


def test_from_scratch_one_table_reads_and_scores(tmp_path: Path) -> None:
    folder, _ = written(FAMILIES["llama"](), tmp_path)
    backbone = backbones.from_scratch(f"transformers:{folder}", offline=True)
    assert backbone.scoring.tied
    assert backbones.build(backbone.builder).scoring.tied


def test_scores_that_are_squeezed_are_refused(tmp_path: Path) -> None:
    folder, _ = written(FAMILIES["llama"](), tmp_path)
    backbone = backbones.load(f"transformers:{folder}", offline=True)
    backbone.scoring = backbones.Scoring(capped=True)
    with pytest.raises(SettingError, match="final_logit_softcapping"):
        modelled(backbone)
