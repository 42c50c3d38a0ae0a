"""Encoder-decoders of `transformers` by name: features, losses and texts equal to the library's own; a run of one is read back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import pretune as pt
from pretune import backbones
from pretune.errors import SettingError
from pretune.labels import Labels, Ragged
from pretune.modalities import _tokenizer_training
from pretune.models import Model, search
from pretune.sources.conversation import Conversation, Turn
from pretune.sources.table import Table
from pretune.tasks import LossSettings
from pretune.tasks._summaries import document_of, references_of
from pretune.tasks._teaching import TOKENS, head_of
from pretune.tasks.summarisation import Summarisation
from pretune.tasks.translation import Translation
from pretune.types import Batch, Row

hf = pytest.importorskip("transformers")
WORDS, END, PAD = 290, 2, 0
BOTH = {
    **{"vocab_size": WORDS, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 40},
    **{"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": 1, "decoder_start_token_id": END, "forced_eos_token_id": None},
}
T5 = {
    **{"vocab_size": WORDS, "d_model": 32, "d_kv": 16, "num_layers": 2, "num_heads": 2, "d_ff": 48},
    **{"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD},
}
FAMILIES: dict[str, Any] = {
    "t5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),
    "untied_t5": lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5, tie_word_embeddings=False, feed_forward_proj="gated-gelu")),
    "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BOTH, forced_bos_token_id=None)),
    "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**BOTH)),
    "mbart": lambda: hf.MBartForConditionalGeneration(hf.MBartConfig(**BOTH)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny random model of each family, saved as transformers saves them."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = _tokenizer_training.make(["a few words, to cut texts into", "and some more of them"], WORDS, "piece", verbatim=True)
    torch.manual_seed(0)
    out = {}
    for name, make in FAMILIES.items():
        network = make()
        for parameter in network.parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        if hasattr(network, "final_logits_bias"):
            torch.nn.init.normal_(network.final_logits_bias)
            network.final_logits_bias[0, END] += 4  # so that texts end
        if name == "mbart":
            network.generation_config.forced_bos_token_id = 5
        network.save_pretrained(root / name)
        (root / name / "tokenizer.json").write_text(tokenizer)
        out[name] = root / name
    return out


def model_of(folder: Path) -> tuple[Model, Any]:
    backbone = backbones.load(f"transformers:{folder}", offline=True)
    return Model(backbone, Translation().head(None), 2, None, "sequence").eval(), backbone.modality


def whole(folder: Path) -> Any:
    return hf.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_texts_are_those_of_the_library(family: str, folders: dict[str, Path]) -> None:
    model, text = model_of(folders[family])
    network, decoder = whole(folders[family]), head_of(model).decoder
    inputs = text.collate([text.ids("a few words"), text.ids("and some more of them, of them")])
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randint(4, WORDS, (n,), generator=generator) for n in (3, 6)]
    batch = Batch(inputs=inputs, labels=Labels({TOKENS: Ragged.of(targets)}), index=torch.arange(2))
    learner = Translation().learner(model, Translation().loss(Translation().space(), batch.labels, LossSettings()))
    with torch.no_grad():
        outputs = learner.predict(batch)
        assert isinstance(outputs, Ragged)
        mine = outputs.split()
        for row, ids in enumerate(targets):
            begin = torch.tensor([[*decoder.begin, *ids[:-1].tolist()]])
            mask = inputs.mask[row : row + 1].long()
            logits = network(input_ids=inputs.tensor[row : row + 1], attention_mask=mask, decoder_input_ids=begin).logits[0]
            expected = torch.nn.functional.cross_entropy(logits[len(decoder.begin) - 1 :], ids, reduction="none")
            torch.testing.assert_close(mine[row][:, 0], expected, rtol=1e-4, atol=1e-4)
        for beams, penalty in ((1, 1.0), (3, 1.0), (2, 0.5)):
            wanted = Translation(beams=beams, length_penalty=penalty)
            written = search.write(head_of(model), model.before_head(inputs), [24, 24], wanted, generator)
            theirs = network.generate(
                input_ids=inputs.tensor,
                attention_mask=inputs.mask.long(),
                num_beams=beams,
                do_sample=False,
                max_new_tokens=24,
                decoder_input_ids=torch.tensor([decoder.begin] * len(written)),  # its length counts for neither
                length_penalty=penalty,
                early_stopping=False,
                suppress_tokens=list(decoder.barred),
                forced_eos_token_id=None,
            )
            for ids, own in zip(written, theirs.tolist(), strict=True):
                kept = own[len(decoder.begin) :]
                ended = kept[: kept.index(END)] if END in kept else kept
                # The library lets texts without an end compete with whole ones; here they count only where none is whole.
                assert ids == [one for one in ended if one != PAD] or END not in kept


def test_a_network_of_several_languages_says_which(folders: dict[str, Path], tmp_path: Path) -> None:
    hf.MBartForConditionalGeneration(hf.MBartConfig(**BOTH)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text((folders["mbart"] / "tokenizer.json").read_text())
    with pytest.raises(SettingError, match="forced_bos_token_id"):
        model_of(tmp_path)
    assert head_of(model_of(folders["mbart"])[0]).decoder.begin == (END, 5)


def of_languages(content: str, *names: str) -> str:
    """A tokenizer with a token for each language; texts are marked as the first."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_str(content)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    tokenizer.post_processor = TemplateProcessing(single=f"$A {names[0]}", special_tokens=[(names[0], tokenizer.token_to_id(names[0]))])
    return str(tokenizer.to_str())


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de-DE", "EN"), ("german", "en_XX")])
def test_the_languages_of_the_data_are_those_of_the_tokenizer(source: str, target: str, folders: dict[str, Path], tmp_path: Path) -> None:
    content = of_languages((folders["mbart"] / "tokenizer.json").read_text(), "en_XX", "de_DE", "ro_RO")
    text, sentence = replace(backbones.load(f"transformers:{folders['mbart']}").modality, tokenizer=content).translating(source, target)
    token = {"e": "en_XX", "d": "de_DE", "g": "de_DE"}
    read, written = token[source[0]], token[target[0].lower()]
    assert text.decode(("a few words",)).array[-1] == text.special_id(read)
    assert f"{source} is read as {read} and {target} is written as {written}" in sentence
    hf.MBartForConditionalGeneration(hf.MBartConfig(**{**BOTH, "vocab_size": text.size})).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    backbone = backbones.load(f"transformers:{tmp_path}", offline=True)
    backbone.modality = text
    decoder = backbone.pretrained_decoder()
    assert decoder is not None
    assert decoder.begin == (END, text.special_id(written))


def test_names_that_may_be_several_languages_are_asked_for(folders: dict[str, Path]) -> None:
    content = of_languages((folders["mbart"] / "tokenizer.json").read_text(), "eng_Latn", "zho_Hans", "zho_Hant")
    text = replace(backbones.load(f"transformers:{folders['mbart']}").modality, tokenizer=content)
    with pytest.raises(SettingError, match=r"'zh' may be zho_Hans, zho_Hant .* task\.target=zho_Hans"):
        text.translating("en", "zh")
    assert text.translating("en", "zho_Hant")[0].written_language == "zho_Hant"
    plain = backbones.load(f"transformers:{folders['mbart']}").modality
    assert plain.translating("en", "de") == (plain, "")


def prefixed(folder: Path, to: Path) -> Path:
    """Return a copy of a T5 whose config says what it was trained to read before a document."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"task_specific_params": {"summarization": {"prefix": "summarize: "}}}))
    return to


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_learns_to_summarise_with_the_prefix_of_its_config(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = prefixed(folders[family], tmp_path / "with") if family == "t5" else folders[family]
    backbone = backbones.load(f"transformers:{folder}", offline=True)
    task = Summarisation(max_new_tokens=6, beams=2).on(backbone)
    assert task.network == "encoder_decoder"
    assert task.instruction == ("summarize: " if family == "t5" else "")
    assert task.unread == ("class_weights",)
    assert task.suggestion(backbone).strategy == "full"
    document = "a few words, and some more of them"
    rows = [Row(id="1", text=(document,), target=Conversation(turns=(Turn("user", document), Turn("assistant", "a few"))))]
    table = Table(rows=rows, modality="text", target_type=None, root=Path(), layout="")
    text = task.render(table, backbone.modality)
    (row,) = table.rows
    assert row.text == (task.instruction + document,)
    assert document_of(row) == document, "baselines read the document alone"
    assert references_of(row) == ("a few",)
    model = Model(backbone, task.head(None), task.outputs(task.space()), None, task.layout).eval()
    batch = Batch(inputs=text.collate([text.decode(row.text).array]), labels=task.encode([row], task.space(), text), index=torch.arange(1))
    learner = task.learner(model, task.loss(task.space(), batch.labels, LossSettings()))
    assert torch.isfinite(learner(batch).loss)
    assert len(task.write(model, [row], text)) == 1


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_a_run_of_one_is_read_back(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    pairs = [(f"a few words {i}", f"some more {i}") for i in range(12)]
    for side, language in enumerate(("en", "de")):
        (tmp_path / f"corpus.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    task = Translation(beams=2, max_new_tokens=6)
    run = pt.finetune(tmp_path, backbone=f"transformers:{folders[family]}", epochs=1, batch_size=6, out=tmp_path / "run", task=task)
    assert run.metrics["strategy"] == "full"
    scores, written_figures = run.metrics[run.metrics["primary"]["split"]], run.metrics["written"]
    assert scores["bleu"] == written_figures["bleu"]
    assert scores["interval"]["bleu"] == written_figures["interval"]["bleu"], "with its interval for `runs`, `compare` and the report"
    figures = pt.evaluate(tmp_path / "run", tmp_path)["metrics"]
    assert figures["token_loss"] == pytest.approx(run.metrics["train"]["token_loss"], rel=0.2)
    answers = list(pt.predict(tmp_path / "run", tmp_path / "corpus.en"))
    written = {row["id"]: row for row in answers}
    assert len(written) == 12
    assert all("error" not in row for row in answers)
