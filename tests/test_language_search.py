"""Beam search over a language model: each prompt begins its own texts, in company as alone; what scores is the whole text."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune import backbones
from pretune.errors import SettingError
from pretune.models import Model
from pretune.tasks import _language
from pretune.tasks.text_generation import TextGeneration
from pretune.types import Features
from tests.test_search import Wanted

WORDS = 9
PROMPTS = [[1, 2, 3, 4], [5], [6, 7], [5], [0, 8, 2]]
END = 0
NETWORKS = {
    "gpt": "scratch:gpt,width=16,layers=2,heads=2,max_tokens=64",
    "llama": "scratch:llama,width=24,layers=2,heads=3,groups=3,hidden=32",
    "lstm": "scratch:lstm,embedding=16,hidden=16,layers=2,bidirectional=false",
    "library": "transformers:",
}


def library(folder: Path) -> str:
    """Return a decoder of transformers, which does not remember here."""
    hf = pytest.importorskip("transformers")
    from pretune.modalities import _tokenizer_training

    config = hf.GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    hf.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(_tokenizer_training.make(["a b c d e f"], 300, "piece", verbatim=True))
    return f"transformers:{folder}"


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """A language model with random weights, large enough that no two texts are alike likely."""
    torch.manual_seed(0)
    name = NETWORKS[request.param]
    backbone = backbones.load(library(tmp_path) if name == "transformers:" else f"{name},vocabulary={WORDS}", offline=True)
    for parameter in backbone.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return Model(backbone, TextGeneration().head(None), 2, layout="sequence").eval()


def write(model: Model, prompts: list[list[int]], most: int, blank: tuple[int, ...] = (), **settings: Any) -> list[list[int]]:
    """Return what is written after prompts."""
    return _language.write(model, prompts, most=most, ends=frozenset((END,)), sampled=Wanted(**settings), seed=0, blank=blank)


@torch.no_grad()
def log_p(model: Model, prompt: list[int], ids: list[int]) -> float:
    """Return the log-probability of ids after a prompt."""
    whole = torch.tensor([[*prompt, *ids]])
    scores = model.head(model.before_head(Features(tensor=whole, layout="raw"))).float().log_softmax(-1)[0, len(prompt) - 1 : -1]
    return float(scores.gather(1, torch.tensor(ids)[:, None]).sum())


def test_all_beams_find_the_likeliest_text_of_two_words(model: Model) -> None:
    allowed = range(1, WORDS)
    for prompt, ids in zip(PROMPTS, write(model, PROMPTS, 3, beams=64), strict=True):
        texts = [[], *([one] for one in allowed), *map(list, product(allowed, repeat=2))]
        best = max(texts, key=lambda text: log_p(model, prompt, [*text, END]))
        if len(ids) < 3:  # else it is as long as it may be, and has no end
            assert log_p(model, prompt, [*ids, END]) >= log_p(model, prompt, [*best, END]) - 1e-4


def test_what_beams_write_is_that_of_each_prompt_alone(model: Model) -> None:
    together = write(model, PROMPTS, 6, beams=3)
    assert together == [write(model, [prompt], 6, beams=3)[0] for prompt in PROMPTS]
    assert together[1] == together[3], "equal prompts have equal texts"
    for prompt, ids, greedy in zip(PROMPTS, together, write(model, PROMPTS, 6), strict=True):
        if max(len(ids), len(greedy)) < 6:
            assert log_p(model, prompt, [*ids, END]) >= log_p(model, prompt, [*greedy, END]) - 1e-4


def test_one_beam_is_the_likeliest_token_each_time_and_lengths_are_kept(model: Model) -> None:
    longer = write(model, PROMPTS, 6, min_new_tokens=4)
    assert all(4 <= len(ids) <= 6 for ids in longer)
    for ids, own in zip(write(model, PROMPTS, 6), longer, strict=True):
        assert own[: len(ids)] == ids
    first = {ids[0] for ids in longer}
    assert not first & {ids[0] for ids in write(model, PROMPTS, 6, blank=tuple(first), beams=2) if ids}


def test_settings_of_a_search_and_of_samples_exclude_each_other() -> None:
    with pytest.raises(SettingError, match=r"without task\.beams"):
        TextGeneration(temperature=1.0, beams=2)
    with pytest.raises(SettingError, match=r"above task\.max_new_tokens"):
        TextGeneration(min_new_tokens=9, max_new_tokens=3)
