"""Speech recognition: transcripts in, words out."""

from __future__ import annotations

import csv
import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pretune.auditing import audit
from pretune.deploy import subtitles
from pretune.errors import DataError, SettingError
from pretune.evaluation import diagnosis
from pretune.evaluation import transcripts as errors
from pretune.labels import Labels, Ragged
from pretune.modalities.audio import Audio
from pretune.models.heads.convolution import Convolution
from pretune.sources import sources
from pretune.sources.table import Table
from pretune.sources.transcripts import TRANSCRIPTS, Transcript, plain_words
from pretune.tasks._ctc import CTCLoss, greedy, needed
from pretune.tasks._spoken import SpeechSpace, Spoken, Word, spoken, suited
from pretune.tasks._written_speech import WrittenSpace
from pretune.tasks.speech_recognition import SpeechRecognition
from pretune.tasks.speech_seq2seq import SpeechSeq2seq
from pretune.types import Features, Row
from tests import spoken_data
from tests.command_line import pretune
from tests.test_docs import ROOT, commands

QUICK = ("precision=float32", "threads=1", "--offline", "--json")
LSTM = "backbone=scratch:audiolstm,units=32,layers=1,mels=20"


def table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    spoken_data.write(tmp_path / "wav", ["lo hi"] * 30)
    return tmp_path


# --- text ----------------------------------------------------------------------------------------


def test_plain_words_have_no_case_and_no_punctuation() -> None:
    assert plain_words("HI, Lo!  12\tlo") == "hi lo 12 lo"
    assert plain_words("Don\u2019t - 'quote' well-known \u00bfQu\u00e9?") == "don't quote well-known qu\u00e9"
    assert plain_words("\u0939\u093f\u0928\u094d\u0926\u0940 \u4f60\u597d\uff01") == "\u0939\u093f\u0928\u094d\u0926\u0940 \u4f60\u597d", (
        "marks of letters stay"
    )
    assert plain_words("...") == ""


def test_words_are_units_where_there_are_few() -> None:
    assert suited(["lo hi lo", "hi hi lo"] * 5) == "words"
    assert suited(["every one differs here", "nothing else repeats at all"]) == "characters"


def test_characters_are_joined_to_words_with_their_times() -> None:
    space = SpeechSpace(units="characters", symbols=(" ", "a", "b"), rate=10)
    log_p = np.log(np.eye(4)[[0, 2, 2, 0, 3, 1, 1, 0, 3, 0, 3]] * 0.9 + 0.025)
    found = spoken(greedy(log_p), space)
    assert found.text == "ab bb", "a blank between equal characters keeps both, a run of one is one"
    told = SpeechRecognition().describe([found], space)[0]
    assert [(word["word"], word["start"], word["end"]) for word in told["words"]] == [("ab", 0.1, 0.5), ("bb", 0.8, 1.1)]


def test_blanks_are_no_units() -> None:
    log_p = np.log(np.eye(3)[[0, 1, 1, 0, 1, 2, 0]] * 0.9 + 0.03)
    assert [(one.unit, one.start, one.end) for one in greedy(log_p)] == [(1, 1, 3), (1, 4, 5), (2, 5, 6)]


def test_the_outputs_that_units_need_count_equal_neighbours_twice() -> None:
    assert [needed(np.array(units)) for units in ([], [1], [1, 2], [1, 1, 2, 2])] == [0, 1, 2, 6]


def test_the_loss_is_that_of_all_alignments_and_reads_no_padding() -> None:
    outputs = [torch.randn(2, 3), torch.randn(4, 3)]
    labels = Labels({"target": Ragged.of([torch.tensor([1]), torch.tensor([2, 2])])})
    found = CTCLoss()(Ragged.of(outputs), labels)
    p = outputs[0].softmax(1)
    one = p[0, 1] * p[1, 1] + p[0, 0] * p[1, 1] + p[0, 1] * p[1, 0]
    q = outputs[1].softmax(1)
    paths = ((2, 0, 2, 0), (2, 0, 0, 2), (0, 2, 0, 2), (2, 2, 0, 2), (2, 0, 2, 2))
    two = sum(torch.stack([q[t, unit] for t, unit in enumerate(path)]).prod() for path in paths)
    assert torch.allclose(found, -(one.log() + torch.as_tensor(two).log()) / 3, atol=1e-5)


def test_a_clip_that_is_too_short_for_its_units_costs_nothing() -> None:
    outputs = torch.randn(1, 2, 3, requires_grad=True)
    loss = CTCLoss()(outputs, Labels({"target": Ragged.of([torch.tensor([1, 1])])}))
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() == 0


# --- errors --------------------------------------------------------------------------------------


def test_errors_are_those_of_the_shortest_edit() -> None:
    counted = errors.counts(["a b c d", "lo hi", "x"], ["a x c d e", "", "x"])
    figures = errors.figures(counted)
    assert figures["wer"] == pytest.approx((1 + 1 + 2) / 7)
    assert (figures["substitutions"], figures["deletions"], figures["insertions"]) == pytest.approx((1 / 7, 2 / 7, 1 / 7))
    assert figures["cer"] == pytest.approx((3 + 5) / (7 + 5 + 1))
    assert (figures["exact_accuracy"], figures["empty"]) == pytest.approx((1 / 3, 1 / 3))


def test_the_constant_transcript_is_the_one_with_the_fewest_errors() -> None:
    assert errors.constant(["a b c", "a b d", "x y z"]) in ("a b c", "a b d")


def test_transcripts_are_shown_aligned() -> None:
    messages, found = SpeechRecognition().compare({"target": "a b c", "prediction": "a x c d"}, "")
    assert [(p.text, p.mark) for p in messages.passages if p.text != " "] == [("a", ""), ("b", "missing"), ("c", "")]
    assert [(p.text, p.mark) for p in found.passages if p.text != " "] == [("a", ""), ("x", "wrong"), ("c", ""), ("d", "wrong")]


# --- the head ------------------------------------------------------------------------------------


def test_the_convolutional_head_joins_positions_and_padding_does_not_reach_its_outputs() -> None:
    torch.manual_seed(0)
    head = Convolution(hidden=8, layers=2, dropout=0).build(4, 3)
    torch.nn.init.normal_(head.layers.weight)
    x = torch.randn(1, 7, 4)
    alone = head(Features(tensor=x, layout="sequence"))
    assert alone.shape == (1, 4, 3)
    mask = torch.arange(11)[None] < 7
    padded = torch.cat([x, torch.randn(1, 4, 4)], 1)
    out = head(Features(tensor=padded, layout="sequence", mask=mask))[head.real(mask)]
    one = Convolution(hidden=8, dropout=0).build(4, 3)
    torch.nn.init.normal_(one.layers.weight)
    assert out.shape == alone[0].shape
    assert torch.allclose(
        one(Features(tensor=padded, layout="sequence", mask=mask))[one.real(mask)], one(Features(tensor=x, layout="sequence"))[0], atol=1e-6
    )
    with pytest.raises(SettingError, match=r"head\.width must be odd"):
        Convolution(width=4)


# --- which column --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transcript", "text", "Sentence", "transcription"])
def test_a_column_that_is_called_a_transcript_is_one(clips: Path, name: str) -> None:
    path = table(clips / "t.csv", ["path", name], [[f"wav/{i:03d}.wav", "zero" if i % 2 else "one"] for i in range(20)])
    found = sources.read(path)
    assert found.task == "speech_recognition"
    assert {row.target for row in found.rows} == {Transcript("zero"), Transcript("one")}


def test_sentences_that_hardly_repeat_are_transcripts_and_those_that_do_are_classes(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", f"turn number {i}"] for i in range(20)]
    assert sources.read(table(clips / "a.csv", ["path", "what"], rows)).task == "speech_recognition"
    commands = [[f"wav/{i:03d}.wav", "turn left" if i % 2 else "go on"] for i in range(20)]
    assert sources.read(table(clips / "b.csv", ["path", "what"], commands)).task == "classification"
    assert sources.read(table(clips / "b.csv", ["path", "what"], commands), target=TRANSCRIPTS).task == "speech_recognition"


def test_where_nobody_can_tell_both_spellings_are_named(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", f"turn to place {i // 3}"] for i in range(30)]
    path = table(clips / "t.csv", ["path", "what"], rows)
    with pytest.raises(DataError, match="Say which: task=speech_recognition or task=classification"):
        sources.read(path)
    assert sources.read(path, target=TRANSCRIPTS).task == "speech_recognition"


def test_a_label_beside_the_transcript_is_learned_and_the_other_is_named(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", "ab"[i % 2], f"word {i}"] for i in range(20)]
    path = table(clips / "t.csv", ["path", "label", "transcript"], rows)
    found = sources.read(path)
    assert found.task == "classification"
    assert any("task=speech_recognition learns those instead of 'label'" in line for line in found.messages)
    assert sources.read(path, target=TRANSCRIPTS).columns["label"] == "transcript"


def test_a_speaker_column_is_no_label_beside_transcripts(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", "zero" if i % 2 else "one", f"s{i % 3}"] for i in range(20)]
    found = sources.read(table(clips / "t.csv", ["path", "transcript", "speaker"], rows))
    assert (found.task, found.columns["label"]) == ("speech_recognition", "transcript")


def test_transcripts_of_images_and_texts_stay_what_they_were(tmp_path: Path) -> None:
    rows = [[f"some words {i}", "ab"[i % 2]] for i in range(20)]
    assert sources.read(table(tmp_path / "t.csv", ["transcript", "label"], rows)).task == "classification"


def test_what_is_wrong_with_transcripts_is_dropped_and_named(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", f"lo {i}"] for i in range(10)]
    rows += [["wav/010.wav", ""], ["wav/011.wav", "..."], ["wav/gone.wav", "lo"], ["wav/000.wav", "LO, 0!"], ["wav/001.wav", "other words"]]
    found = sources.read(table(clips / "t.csv", ["path", "text"], rows))
    reasons = {entry.item: entry.reason for entry in found.ledger}
    assert reasons["wav/010.wav"] == reasons["wav/011.wav"] == "blank_transcript"
    assert reasons["wav/gone.wav"] == "missing_file"
    assert "repeated_row" in reasons.values(), "only case and punctuation differ"
    assert [entry.reason for entry in found.ledger if "other words" in entry.detail] == ["contradictory_label"] * 2
    assert sorted(row.id for row in found.rows) == [f"wav/{i:03d}.wav" for i in (0, *range(2, 10))]


# --- what is said of them ------------------------------------------------------------------------


def test_what_training_cannot_show_of_transcripts_is_said() -> None:
    texts = {"train": ["Lo hi.", "hi lo", "lo lo"] * 4, "test": ["lo hi", "hi lo", "lo yes"]}
    rows = [Row(id=f"{part}{i}", target=Transcript(text), split=part) for part, some in texts.items() for i, text in enumerate(some)]  # type: ignore[arg-type]
    task = SpeechRecognition()
    found = {one.kind: one for one in task.findings(rows, task.fit([row for row in rows if row.split == "train"], ()))}
    assert "task=speech_recognition task.text=written" in found["normalised_text"].message
    assert "task=speech_recognition task.units=characters" in found["units"].message
    written = {one.kind: one for one in SpeechSeq2seq().findings(rows, WrittenSpace())}
    assert "task=speech_seq2seq task.text=written" in written["normalised_text"].message
    assert "task=speech_seq2seq task.digits=true" in written["digits"].message
    assert "'Lo hi.' as 'lo hi'" in found["normalised_text"].message
    assert "writes words (2 different)" in found["units"].message
    assert (found["unknown_units"].severity, found["unknown_units"].items) == ("warning", ("test2",))
    assert "'yes' (1)" in found["unknown_units"].message
    assert "2 of 3 test transcripts are also in train" in found["known_transcripts"].message


def test_a_sample_rate_that_gives_transcripts_away_is_reported() -> None:
    rows = [Row(id=str(i), target=Transcript("yes" if i % 2 else "No."), split="train") for i in range(40)]
    infos = [{"sample_rate": 8000 if i % 2 else 16000} for i in range(40)]
    (found,) = audit._confounds(rows, infos, Table(rows=rows, modality="audio", target_type=TRANSCRIPTS, root=Path(), layout=""))
    assert "sample rate" in found.message


def test_a_recogniser_that_writes_blanks_runs_on_or_learns_by_heart_is_described() -> None:
    def said(held: dict[str, float], train: dict[str, float]) -> str:
        losses = [{"event": "stepped", "phase": "probe", "step": i, "loss": 8.0 / (1 + i)} for i in range(40)]
        metrics = {"primary": {"name": "wer", "value": held["wer"], "split": "val"}, "val": held, "train": train}
        return " ".join(diagnosis.diagnose(losses, metrics, {}, {}))

    assert "gives blanks only" in said({"wer": 1.0, "empty": 0.9}, {"wer": 1.0, "empty": 0.9})
    assert "learned the training clips by heart" in said({"wer": 0.95, "empty": 0.0}, {"wer": 0.0})
    assert "not yet right on the training clips either" in said({"wer": 1.0, "empty": 0.1}, {"wer": 0.97})
    assert "2.5 words too many for each word" in said({"wer": 3.0, "empty": 0.0, "insertions": 2.5}, {"wer": 3.0})
    right = said({"wer": 0.1, "empty": 0.0, "insertions": 0.05}, {"wer": 0.0})
    assert not any(sign in right for sign in ("blanks", "too many", "The loss fell"))


def test_words_become_subtitles() -> None:
    words = [
        {"word": "lo", "start": 0.5, "end": 0.75},
        {"word": "hi", "start": 1.0, "end": 1.2},
        {"word": "lo", "start": 63.0, "end": 63.5},
    ]
    rows = [{"id": "a.wav", "prediction": "lo hi lo", "words": words}]
    assert subtitles.content(rows, ".srt") == ("1\n00:00:00,500 --> 00:00:01,200\nlo hi\n\n2\n00:01:03,000 --> 00:01:03,500\nlo\n")
    assert subtitles.content(rows, ".vtt").startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.200\nlo hi\n")
    with pytest.raises(SettingError, match="for one audio file, and there are 2 inputs"):
        subtitles.content(rows * 2, ".srt")
    with pytest.raises(SettingError, match="recognises no speech"):
        subtitles.content([{"id": "a", "prediction": "x"}], ".srt")


def test_a_decoder_gives_times_of_pieces_which_are_subtitles() -> None:
    found = [Spoken(()), Spoken((Word("lo", 0, 0, 0.9), Word("hi", 0, 0, 0.5))), Spoken((Word("mid", 0, 0, 0.7),))]
    spans = [[(0, 8000)], [(0, 80_000), (96_000, 160_000)]]
    one, two = SpeechSeq2seq().merged(found, spans, WrittenSpace(), Audio(sample_rate=16_000))
    assert (one.text, one.segments) == ("", ())
    (row,) = SpeechSeq2seq().describe([two], WrittenSpace())
    assert row["prediction"] == "lo hi mid"
    assert row["segments"] == [{"start": 0, "end": 5, "text": "lo hi"}, {"start": 6, "end": 10, "text": "mid"}]
    assert "start" not in row["words"][0]
    text = subtitles.content([{"id": "a.wav", **row}], ".srt")
    assert text == "1\n00:00:00,000 --> 00:00:05,000\nlo hi\n\n2\n00:00:06,000 --> 00:00:10,000\nmid\n"


def test_words_of_pieces_have_times_from_the_beginning_of_the_file() -> None:
    space = SpeechSpace(units="words", symbols=("lo",), rate=25)
    found = [Spoken((Word("lo", 5, 10, 0.9),))] * 2
    (one,) = SpeechRecognition().merged(found, [[(0, 16_000), (24_000, 40_000)]], space, Audio(sample_rate=16_000))
    (row,) = SpeechRecognition().describe([one], space)
    assert [(word["start"], word["end"]) for word in row["words"]] == [(0.2, 0.4), (1.7, 1.9)]
    assert [(piece["start"], piece["end"]) for piece in row["segments"]] == [(0.2, 0.4), (1.7, 1.9)]


# --- long audio ----------------------------------------------------------------------------------


def test_long_audio_is_cut_in_its_pauses() -> None:
    rate = 8000
    speech, pause = np.ones(4800, np.float16), np.zeros(800, np.float16)
    array = np.concatenate([part for _ in range(20) for part in (speech, pause)])
    array[1::2] *= -1
    spans = Audio(sample_rate=rate, seconds=2.0).pieces(array)
    assert [spans[0][0], spans[-1][1]] == [0, len(array)]
    for (_, end), (begin, _) in itertools.pairwise(spans):
        assert end == begin
        assert 4800 + 200 <= end % 5600 <= 5400, "in the middle of a pause"
    assert all(4000 <= end - begin <= 16_000 for begin, end in spans)
    loud = np.resize(np.array([1, -1], np.float16), 100_001)
    spans = Audio(sample_rate=rate, seconds=1.0).pieces(loud)
    assert [begin for begin, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert all(2000 <= end - begin <= 8000 for begin, end in spans)
    assert Audio(sample_rate=rate, seconds=3.0).pieces(array[:24_000]) == [(0, 24_000)]


def test_digital_silence_is_in_no_piece() -> None:
    array = np.concatenate([np.resize(np.array([1, -1], np.float16), 8000), np.zeros(80_000, np.float16)])
    spans = Audio(sample_rate=8000, seconds=1.0).pieces(array)
    assert spans[0][0] == 0
    assert spans[-1][1] <= 16_000
    assert Audio(sample_rate=8000, seconds=1.0).pieces(np.zeros(20_000, np.float16)), "never nothing at all"


# --- layouts -------------------------------------------------------------------------------------


def test_kaldi_folders_give_files_transcripts_and_speakers(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / "data" / split
        names = spoken_data.write(tmp_path / "wav", ["lo hi"] * 4, split)
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text(
            "".join(f"u{i} wav/{name}\n" for i, name in enumerate(names)) + "u8 sph2pipe x.sph |\nu9 wav/none.wav\n"
        )
        (folder / "text").write_text("".join(f"u{i} LO HI\n" for i in range(4)) + "u7 LO\nu8 LO\nu9 LO\n")
        (folder / "utt2spk").write_text("".join(f"u{i} s{i % 2}\n" for i in range(4)))
    found = sources.read(tmp_path)
    assert (found.task, found.layout) == ("speech_recognition", "Kaldi data folders")
    assert {(row.split, row.group, str(row.target)) for row in found.rows} == {
        (p, g, "LO HI") for p in ("train", "test") for g in ("s0", "s1")
    }
    assert sorted(entry.reason for entry in found.ledger) == ["command", "command", *["missing_file"] * 4]
    (tmp_path / "data" / "train" / "segments").write_text("u0 r0 0 1\n")
    with pytest.raises(DataError, match="parts of longer recordings"):
        sources.read(tmp_path)


def test_librispeech_gives_splits_and_speakers(tmp_path: Path) -> None:
    for subset, speaker in (("train-clean-5", "84"), ("dev-clean", "85"), ("test-other", "86")):
        folder = tmp_path / subset / speaker / "1"
        names = spoken_data.write(folder, ["lo hi", "hi lo"], f"{speaker}-1-")
        lines = [f"{name[:-4]} LO HI\n" for name in names]
        (folder / f"{speaker}-1.trans.txt").write_text("".join([*lines, f"{speaker}-1-gone LO\n"]))
    found = sources.read(tmp_path)
    assert (found.task, found.layout) == ("speech_recognition", "LibriSpeech folders")
    assert {(row.split, row.group) for row in found.rows} == {("train", "84"), ("val", "85"), ("test", "86")}
    assert [entry.reason for entry in found.ledger] == ["missing_file"] * 3


def test_text_files_of_the_same_name_are_transcripts(tmp_path: Path) -> None:
    names = spoken_data.write(tmp_path / "clips", ["lo hi"] * 6)
    for i, name in enumerate(names[:5]):
        (tmp_path / "clips" / name).with_suffix(".txt").write_text("" if i == 4 else "lo\nhi\n")
    found = sources.read(tmp_path)
    assert (found.task, found.layout) == ("speech_recognition", "audio files with a .txt file each")
    assert [str(row.target) for row in found.rows] == ["lo hi"] * 4
    assert [entry.reason for entry in found.ledger] == ["blank_transcript"] * 2


def test_class_folders_of_audio_stay_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        spoken_data.write(tmp_path / name, ["lo"] * 3)
    (tmp_path / "README.txt").write_text("two classes")
    (tmp_path / "notes.txt").write_text("more")
    assert sources.read(tmp_path).task == "classification"


# --- a whole run ---------------------------------------------------------------------------------


def test_speech_is_recognised_from_a_manifest_to_a_transcript(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretune.deploy._gallery.SECONDS", 0.3)
    texts = spoken_data.manifest(home, 48)
    words = ("finetune", "metadata.csv", LSTM, "epochs=40", "batch_size=8", "lr=0.003", "augment=none", *QUICK, "out=run")
    done = pretune(*words)
    metrics = json.loads(done.stdout)
    assert "blanks" not in done.stderr
    assert (metrics["task"], metrics["primary"]["name"]) == ("speech_recognition", "wer")
    held = metrics["val"]
    assert held["wer"] < 0.1 < metrics["floors"]["constant"]["wer"], "tones are easily told apart"
    assert set(metrics["floors"]) == {"constant", "nearest"}
    assert held["interval"]["wer"][0] <= held["wer"] <= held["interval"]["wer"][1]
    played = [one["seconds"] for path in (home / "run").rglob("*.json") for one in _listed(path) if "axes" in one and "seconds" in one]
    assert max(played) > 0.5, "all that is said can be played"
    told = json.loads(pretune("predict", "run", "wav/000.wav", "--json", "--offline").stdout)["predictions"][0]
    with (home / "run" / "predictions.csv").open() as stream:
        first = next(csv.DictReader(stream))
    assert first["target"] == texts[0]
    assert told["prediction"] == first["prediction"]
    assert [word["word"] for word in told["words"]] == told["prediction"].split()
    assert all(0 <= word["start"] < word["end"] < 2 for word in told["words"])
    pretune("predict", "run", "wav/000.wav", "out=words.srt", "--offline")
    assert "-->" in (home / "words.srt").read_text()
    long = " ".join(spoken_data.sentences(12, seed=5))
    spoken_data.write(home / "long", [long])
    done = pretune("predict", "run", "long", "out=long.json", "--json", "--offline")
    assert "1 clip is longer than the window of the run, and predicted in" in done.stderr
    (told,) = json.loads(done.stdout)["predictions"]
    assert errors.figures(errors.counts([long], [told["prediction"]]))["wer"] < 0.2
    times = [word["start"] for word in told["words"]]
    assert times == sorted(times)
    assert times[-1] / soundfile.info(home / "long" / "000.wav").duration == pytest.approx(1, abs=0.1)
    pretune("predict", "run", "long/000.wav", "out=long.srt", "--offline")
    assert " ".join(line for line in (home / "long.srt").read_text().splitlines() if line[:1].isalpha()) == told["prediction"]
    table(home / "long" / "metadata.csv", ["path", "text"], [["000.wav", long]])
    scored = json.loads(pretune("evaluate", "run", "long/metadata.csv", "--json", "--offline").stdout)
    assert (scored["counts"]["used"], scored["counts"]["dropped"]) == (1, 0)
    assert scored["metrics"]["wer"] == pytest.approx(errors.figures(errors.counts([long], [told["prediction"]]))["wer"])
    scored = json.loads(pretune("evaluate", "run", "metadata.csv", "--json", "--offline").stdout)
    assert scored["metrics"]["wer"] < 0.1


def _listed(path: Path) -> list[dict[str, object]]:
    """Return the examples that a file of the report lists."""
    found = json.loads(path.read_text())
    return [one for one in found if isinstance(one, dict) and "id" in one] if isinstance(found, list) else []


def test_clips_too_short_for_their_transcripts_are_not_trained_on(home: Path) -> None:
    spoken_data.manifest(home, 16)
    spoken_data.write(home / "wav", ["lo"], "short")
    with (home / "metadata.csv").open("a") as stream:
        stream.write(f"wav/short000.wav,{'lo hi ' * 60},train\n")
    done = pretune("finetune", "metadata.csv", LSTM, "epochs=1", "augment=strong", *QUICK, "out=run")
    assert "it gives blanks only" in done.stderr, "after one epoch"
    assert "1 train clip(s) are too short for their transcripts" in done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert (counts["train"], counts["used"], counts["dropped"]) == (12, 16, 1)
    assert "too_short" in (home / "run" / "ledger.csv").read_text()


def test_clips_that_cannot_be_shown_whole_are_dropped(home: Path) -> None:
    spoken_data.manifest(home, 16)
    done = pretune("finetune", "metadata.csv", LSTM, "epochs=1", "seconds=0.7", *QUICK)
    assert "are the most that can be shown whole" in done.stderr


def test_rows_of_transcripts_are_encoded_by_name() -> None:
    task = SpeechRecognition()
    rows = [Row(id=str(i), target=Transcript(text)) for i, text in enumerate(["Lo hi", "hi, hi", "LO"] * 5)]
    space = task.fit(rows, ())
    assert (space.units, space.symbols) == ("words", ("hi", "lo"))
    labels = task.encode([*rows[:2], Row(id="x", target=Transcript("lo yes"))], space, None)  # type: ignore[arg-type]
    target = labels["target"]
    assert isinstance(target, Ragged)
    assert [units.tolist() for units in target.split()] == [[2, 1], [1, 1], [2]]
    assert task.truth(labels, space) == ["lo hi", "hi hi", "lo yes"], "a word that training does not have stays in what is scored"


def test_the_commands_of_the_page_run(home: Path) -> None:
    spoken_data.manifest(home / "speech", 12)
    toy = (LSTM, "strategy=scratch", "epochs=1", "threads=1", "precision=float32")
    lines = commands(ROOT / "docs" / "tasks" / "speech_recognition.md")
    assert len(lines) == 7
    writer = (f"backbone=transformers:{spoken_data.whisper(home / 'model')}", *toy[2:])
    for line in lines:
        words = [word for word in shlex.split(line) if not word.startswith(("backbone=", "epochs=", "strategy="))]
        settings = writer if "task=speech_seq2seq" in words else toy
        pretune(*words, *(settings if words[0] == "finetune" else ()), "--offline")
    assert len(json.loads((home / "words.json").read_text())) == 12
    assert (home / "words.srt").exists()


def test_of_two_transcripts_of_a_file_the_one_whose_words_other_files_have_is_used(clips: Path) -> None:
    rows = [[f"wav/{i:03d}.wav", "lo hi"] for i in range(20)]
    rows += [["wav/001.wav", "lo 12 hi"], ["wav/002.wav", "hi lo"], ["wav/003.wav", "some words"], ["wav/020.wav", "other words"]]
    found = sources.read(table(clips / "t.csv", ["path", "text"], rows), target=TRANSCRIPTS)
    kept = {row.id: str(row.target) for row in found.rows}
    assert kept["wav/001.wav"] == kept["wav/003.wav"] == "lo hi"
    assert "wav/002.wav" not in kept, "both of its transcripts may be right"
    entries = [entry.detail for entry in found.ledger if "wav/001.wav is labelled" in entry.detail]
    assert len(entries) == 1
    assert "'lo hi' is used, whose words other files have" in entries[0]
