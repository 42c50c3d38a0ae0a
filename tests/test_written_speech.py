"""Speech that a decoder writes: Whisper's against that of transformers, its tokens by name, the task around it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune.architectures.layers.memory import remembering
from pretune.backbones import Backbone, _whisper
from pretune.backbones._transformers_audio import assemble
from pretune.errors import SettingError, WeightsError
from pretune.labels import Labels, Ragged
from pretune.modalities.transforms import tokenizing
from pretune.modalities.transforms.speech_tokens import speech_tokens
from pretune.models import Model, search
from pretune.models.heads.decoder import Decoder, DecoderHead
from pretune.sources.transcripts import TRANSCRIPTS, Transcript
from pretune.tasks._base import LossSettings
from pretune.tasks._teaching import TokenLoss
from pretune.tasks._written_speech import SpeechWriter, WrittenSpace, characters, choose_language, spoken_in, words_of
from pretune.tasks.speech_seq2seq import SpeechSeq2seq
from pretune.types import Batch, Features, Row
from tests import spoken_data
from tests.command_line import pretune
from tests.test_whisper import model_bin


def written(model: Any) -> Backbone:
    """Our form of a Whisper of transformers, with a tokenizer."""
    backbone = assemble(model.config.to_dict(), {}, model.state_dict(), "a file").eval()
    return _tokenized(backbone)


def _tokenized(backbone: Backbone) -> Backbone:
    from dataclasses import replace

    modality: Any = backbone.modality
    backbone.modality = replace(modality, tokenizer=spoken_data.tokenizer())
    return backbone


def head_of(backbone: Backbone) -> DecoderHead:
    """The decoder as a head."""
    head = Decoder().on(backbone).build(backbone.width, 2).eval()
    assert isinstance(head, DecoderHead)
    return head


def heard(encoded: torch.Tensor) -> Features:
    """What an encoder made of clips."""
    return Features(tensor=encoded, layout="sequence")


def as_ctranslate2(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Whisper decoder's tensors by the names CTranslate2 gives them."""
    parts = {
        "self_attn_layer_norm": "self_attention/layer_norm", "self_attn.out_proj": "self_attention/linear_1",
        "encoder_attn_layer_norm": "attention/layer_norm", "encoder_attn.q_proj": "attention/linear_0",
        "encoder_attn.out_proj": "attention/linear_2", "final_layer_norm": "ffn/layer_norm", "fc1": "ffn/linear_0", "fc2": "ffn/linear_1",
    }  # fmt: skip
    out = {}
    for whole, tensor in state.items():
        if not whole.startswith("model.decoder."):
            continue
        name, _, kind = whole.removeprefix("model.decoder.").rpartition(".")
        kind = {"weight": "gamma", "bias": "beta"}[kind] if "norm" in name else kind
        if name.startswith("embed"):
            out[f"decoder/{ {'embed_tokens': 'embeddings/weight'}.get(name, 'position_encodings/encodings') }"] = tensor
        elif name == "layer_norm":
            out[f"decoder/layer_norm/{kind}"] = tensor
        else:
            _, layer, part = name.split(".", 2)
            at = f"decoder/layer_{layer}"
            keys = state.get(f"{whole.rsplit('.', 2)[0]}.k_proj.{kind}")
            if part in parts:
                out[f"{at}/{parts[part]}/{kind}"] = tensor
            elif part.endswith("v_proj"):
                stem, side = whole.rsplit(".", 2)[0], "self_attention/linear_0" if part.startswith("self") else "attention/linear_1"
                queries = [state[f"{stem}.q_proj.{kind}"]] if part.startswith("self") else []
                out[f"{at}/{side}/{kind}"] = torch.cat([*queries, torch.zeros_like(tensor) if keys is None else keys, tensor])
    return out


def _none() -> Labels:
    return Labels({"tokens": Ragged.of([torch.zeros(0)])})


# --- the network ---------------------------------------------------------------------------------


@torch.inference_mode()
def test_our_decoder_equals_that_of_transformers_at_once_and_token_by_token(tmp_path: Path) -> None:
    model = spoken_data.theirs()
    mels, ids = torch.randn(2, 20, 1200), torch.randint(0, 400, (2, 9))
    expected = model(input_features=mels, decoder_input_ids=ids).logits
    backbone = written(model)
    encoded = backbone(Features(tensor=mels.transpose(1, 2), layout="sequence"))
    head = head_of(backbone)
    decoder = head.decoder
    assert torch.allclose(head.logits(decoder(ids, encoded)), expected, atol=1e-4)
    with remembering(decoder):
        pieces = [decoder(ids[:, :4], encoded), decoder(ids[:, 4:6], encoded), *(decoder(ids[:, k : k + 1], encoded) for k in (6, 7, 8))]
    assert torch.allclose(head.logits(torch.cat(pieces, 1)), expected, atol=1e-4)
    with pytest.raises(ValueError, match="more than the decoder's 40 positions"):
        decoder(ids.repeat(1, 5), encoded)
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin(as_ctranslate2(model.state_dict())))
    again = {**_whisper.read_decoder([path]), "language": torch.tensor(-1)}
    own = decoder.state_dict()
    assert again.keys() == own.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in own.items())


@torch.inference_mode()
def test_transcripts_are_what_greedy_search_of_transformers_writes_and_their_words_are_as_sure() -> None:
    model = spoken_data.theirs()
    backbone = written(model)
    task = SpeechSeq2seq(digits=True)
    learner = task.learner(
        Model(backbone, task.head(None), 2, layout="sequence"), task.loss(WrittenSpace(), _none(), LossSettings())
    ).eval()
    assert isinstance(learner, SpeechWriter)
    decoder = learner.decoder
    assert not decoder.undecided
    encoded = torch.randn(2, 600, 32)
    texts = search.write(learner.head, heard(encoded), [6, 3], learner.wanted, torch.Generator())
    for one, written_, most in zip(encoded, texts, (6, 3), strict=True):
        ids, sure = [*decoder.begin], []
        while len(sure) < most:
            logits = model(encoder_outputs=(one[None],), decoder_input_ids=torch.tensor([ids])).logits[0, -1]
            logits[[*decoder.barred, *([] if sure else [decoder.end])]] = -torch.inf
            best = int(logits.argmax())
            if best == decoder.end:
                break
            ids.append(best)
            sure.append(best)
        assert written_ == sure


# --- tokens --------------------------------------------------------------------------------------


def test_tokens_are_found_by_their_names_whatever_their_ids() -> None:
    content = spoken_data.tokenizer()
    names = tokenizing.load(content)
    one, several = (speech_tokens(content, 400, multilingual=flag) for flag in (False, True))
    ids = {name: names.token_to_id(name) for name in spoken_data.SPECIAL}
    assert one.prompt(None) == (ids["<|startoftranscript|>"], ids["<|notimestamps|>"])
    hebrew = several.language("he")
    assert several.prompt(hebrew) == tuple(ids[f"<|{name}|>"] for name in ("startoftranscript", "he", "transcribe", "notimestamps"))
    assert one.language("en") is None
    with pytest.raises(SettingError, match="writes English only"):
        one.language("he")
    with pytest.raises(SettingError, match="none of the languages"):
        several.language("xx")
    assert ids["<|startoftranscript|>"] in one.never
    assert 399 in one.never, "times"
    assert one.end not in one.never
    assert {names.decode([token]).strip() for token in one.digits} == set("0123456789")
    with pytest.raises(WeightsError, match=r"has no <\|startoftranscript\|>"):
        speech_tokens(content.replace("startoftranscript", "sot"), 400, multilingual=False)


def test_words_are_tokens_from_one_space_to_the_next_and_keep_the_surest_doubt() -> None:
    content = spoken_data.tokenizer()
    ids = [int(one) for one in tokenizing.encode(content, [" lo, h\u00ef mid"])[0]]
    words = words_of([*ids, 3, 3], [1 - 0.01 * place for place in range(len(ids) + 2)], content, 3)
    assert [word.text for word in words] == ["lo,", "h\u00ef", "mid"]
    assert words[-1].confidence == pytest.approx(1 - 0.01 * (len(ids) - 1))
    again = spoken_in(characters(words).numpy(), SpeechSeq2seq().normalised)
    assert again.text == "lo h\u00ef mid"
    assert [word.text for word in again.words] == ["lo", "h\u00ef", "mid"]
    assert [word.confidence for word in again.words] == pytest.approx([word.confidence for word in words])
    assert spoken_in(characters([]).numpy(), str).text == ""


def test_numbers_are_written_as_the_transcripts_have_them() -> None:
    for texts, digits in ((["one two"], False), (["1 two"], True)):
        assert SpeechSeq2seq().suited(TRANSCRIPTS.parse(texts, "text").type).digits is digits
    assert SpeechSeq2seq(digits=True).suited(TRANSCRIPTS.parse(["one"], "text").type).digits is True


# --- the task ------------------------------------------------------------------------------------


def learner_of(backbone: Backbone, **settings: Any) -> SpeechWriter:
    task = SpeechSeq2seq(**settings)
    learner = task.learner(Model(backbone, task.head(None), 2, layout="sequence"), task.loss(WrittenSpace(), _none(), LossSettings()))
    assert isinstance(learner, SpeechWriter)
    return learner.eval()


def test_settings_of_transcripts_reach_the_decoder() -> None:
    backbone = written(spoken_data.theirs())
    learner = learner_of(backbone, beams=3, length_penalty=0.5)
    assert (learner.wanted.beams, learner.wanted.length_penalty) == (3, 0.5)
    tokens = learner.decoder.tokens
    assert set(learner.decoder.barred) == {*tokens.never, *tokens.digits}, "without digits in the transcripts there are none to write"
    assert set(learner_of(backbone, digits=True).decoder.barred) == set(tokens.never)
    loss = SpeechSeq2seq().loss(WrittenSpace(), _none(), LossSettings(label_smoothing=0.2))
    assert loss == TokenLoss(smoothing=0.2)


def test_long_clips_may_have_long_transcripts(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, asked = learner_of(written(spoken_data.theirs())), []
    monkeypatch.setattr(search, "write", lambda head, encoded, most, wanted, generator: asked.extend(most) or [[7] for _ in most])
    mask = torch.arange(600) < torch.tensor([50, 600])[:, None]
    monkeypatch.setattr(learner, "encoded", lambda batch: Features(tensor=torch.randn(2, 600, 32), layout="sequence", mask=mask))
    with torch.no_grad():
        learner.predict(Batch(inputs=heard(torch.zeros(2, 1)), labels=None, index=torch.arange(2)))
    assert asked == [8 + 12, 8 + 144], "twelve tokens a second, and some more"


def test_the_language_is_the_likeliest_of_the_clips_or_the_named_one() -> None:
    backbone = written(spoken_data.theirs(51_865))
    decoder = learner_of(backbone).decoder
    assert decoder.undecided
    clips = heard(torch.randn(3, 600, 32))
    likeliest = decoder.tokens.languages[int(decoder.languages(clips).sum(0).argmax())]
    assert choose_language(decoder, [clips]) == likeliest[0]
    assert int(decoder.language) == likeliest[1]
    other = next(code for code, _ in decoder.tokens.languages if code != likeliest[0])
    named = learner_of(written(spoken_data.theirs(51_865)), language=other).decoder
    assert int(named.language) == named.tokens.language(other)


def test_transcripts_are_encoded_with_a_space_before_and_an_end() -> None:
    modality: Any = written(spoken_data.theirs()).modality
    row = Row(id="a", target=Transcript("lo hi"))
    labels = SpeechSeq2seq().encode([row], WrittenSpace(), modality)
    tokens = labels["tokens"]
    assert isinstance(tokens, Ragged)
    end = tokenizing.special_id(modality.tokenizer, "<|endoftext|>")
    assert tokens.values.tolist() == [*tokenizing.encode(modality.tokenizer, [" lo hi"])[0].tolist(), end]


def test_a_decoder_is_measured_trained_and_predicts(tmp_path: Path) -> None:
    texts = spoken_data.manifest(tmp_path, 16)
    model, run, data = spoken_data.whisper(tmp_path / "model"), tmp_path / "run", str(tmp_path / "metadata.csv")
    options = (f"backbone=transformers:{model}", f"out={run}", "epochs=2", "precision=float32", "threads=1", "--offline", "--json")
    done = pretune("finetune", data, "task=speech_seq2seq", *options)
    figures = json.loads(done.stdout)
    assert figures["task"] == "speech_seq2seq"
    assert figures["floors"]["start"]["wer"] > 0.9
    assert "before training: val word error rate" in done.stderr
    out = tmp_path / "out.csv"
    pretune("predict", str(run), str(tmp_path / "wav" / "000.wav"), f"out={out}", "--offline")
    with out.open() as stream, (run / "predictions.csv").open() as scored:
        predicted = next(csv.DictReader(stream))
        known = next(row for row in csv.DictReader(scored) if row["id"].endswith("000.wav"))
    assert predicted["prediction"] == known["prediction"]
    assert known["target"] == texts[0]


def test_a_network_without_a_decoder_is_refused_in_words(tmp_path: Path) -> None:
    spoken_data.manifest(tmp_path, 12)
    done = pretune("finetune", str(tmp_path / "metadata.csv"), "task=speech_seq2seq", "backbone=scratch:audiolstm", "--offline", code=2)
    assert "no decoder" in done.stderr
