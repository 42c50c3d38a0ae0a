"""Corpora and token streams: every kind of file, pieces of it, what is held out, and ids that give back the text."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune import api, backbones
from pretune.corpus import corpus as corpora
from pretune.corpus import documents
from pretune.corpus.corpus import Corpus
from pretune.corpus.documents import Piece
from pretune.corpus.resemblance import HeldOutTexts
from pretune.corpus.tokenizer import learned
from pretune.corpus.tokens import BlockView, tokenized
from pretune.errors import DataError
from pretune.modalities import _tokenizer_training
from pretune.modalities.text import Text
from pretune.pretraining import Pretraining
from pretune.sources.table import Columns
from pretune.storage.cache import Cache

ALL = Columns()


def read(path: Path, columns: Columns = ALL, held: float = 0.1, exclude: HeldOutTexts | None = None) -> Corpus:
    return corpora.read_corpus(path, columns, validation_fraction=held, seed=0, exclude=exclude)


def whole(pieces: Iterator[Piece]) -> list[str]:
    """The documents, put together from their pieces."""
    out = [""]
    for text, ends in pieces:
        out[-1] += text
        if ends:
            out.append("")
    assert out[-1] == "", "the last document has an end"
    return out[:-1]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- plain text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 3, 7, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_every_encoding_and_line_end_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, encoding: str) -> None:
    monkeypatch.setattr(documents, "PIECE", piece)
    path = write(tmp_path / "a.txt", "un café noir\r\nà la crème\rdéjà vu\n\r\nla fin".encode(encoding))
    assert whole(read(path).read()) == ["un café noir\nà la crème\ndéjà vu\n\nla fin"]


def test_chinese_of_two_encodings_is_told_from_its_bytes(tmp_path: Path) -> None:
    text = "今天天气很好，我们去公园。\n" * 20
    for encoding in ("utf-8", "gb18030"):
        assert whole(read(write(tmp_path / f"{encoding}.txt", text.encode(encoding))).read()) == [text]


def test_a_character_that_the_probe_cuts_in_two_is_no_other_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_PROBE", 101)
    path = write(tmp_path / "a.txt", "a " * 50 + "你好你好")
    assert read(path).replaced == 0


def test_one_long_line_is_a_text_like_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 1000)
    line = " ".join(str(number) for number in range(60_000))
    corpus = read(write(tmp_path / "a.txt", line))
    assert (corpus.documents, corpus.characters) == (1, len(line))
    assert max(len(text) for text, _ in corpus.read()) <= 1001, "never more than a piece is held"
    assert "".join(whole(corpus.train()) + whole(corpus.validation())) == line


def test_bytes_that_are_no_text_are_counted_and_marks_go(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", "\ufeffone\fzwei é 好".encode() + b"\xff\xfe" + "\ufeffdrei é é".encode() + b"\xff"))
    assert corpus.replaced == 3
    assert whole(corpus.read()) == ["one\nzwei é 好\ufffd\ufffddrei é é\ufffd"]
    assert any("3 invalid bytes" in line for line in corpus.messages)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not text but a PNG"):
        read(write(tmp_path / "input.txt", b"\x89PNG\r\n\x1a\n" + bytes(100)))
    with pytest.raises(DataError, match="holds no text"):
        read(write(tmp_path / "empty.txt", ""))
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nothing")


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_is_its_files_less_what_is_about_it(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "books" / f"{number}.txt", f"book {number}")
    write(tmp_path / "README.txt", "about these")
    write(tmp_path / "books" / "empty.txt", "")
    write(tmp_path / "books" / "cover.txt", b"\x89PNG\r\n\x1a\n" + bytes(100))
    write(tmp_path / "notes.pdf", "%PDF")
    write(tmp_path / "more.jsonl", '{"text": "a line"}\n')
    corpus = read(tmp_path)
    assert sorted(whole(corpus.read())) == sorted([*(f"book {n}" for n in range(12)), "a line"])
    assert {(entry.item, entry.reason) for entry in corpus.ledger} == {("empty.txt", "empty"), ("cover.txt", "not_text")}
    assert any("1 files of other kinds" in line for line in corpus.messages)
    assert len(whole(corpus.validation())) == 1


def test_files_of_val_and_test_are_left_alone(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / f"{part}.txt", f"the {part} text")
    corpus = read(tmp_path, held=0.3)
    assert whole(corpus.read()) == ["the train text"]
    assert any("2 files of the splits val and test" in line for line in corpus.messages)


def test_labelled_texts_give_only_their_training_part(tmp_path: Path) -> None:
    rows = ["text,label,split", *(f"text {i},{'ab'[i % 2]},{('train', 'test')[i % 3 == 0]}" for i in range(30))]
    corpus = read(write(tmp_path / "d.csv", "\n".join(rows)))
    assert set(whole(corpus.read())) == {f"text {i}" for i in range(30) if i % 3}
    for i in range(8):
        write(tmp_path / "c" / ("test" if i < 2 else "train") / "ab"[i % 2] / f"{i}.txt", f"text {i}")
    assert set(whole(read(tmp_path / "c").read())) == {f"text {i}" for i in range(2, 8)}


# --- records -------------------------------------------------------------------------------------


def test_json_lines_are_a_document_each(tmp_path: Path) -> None:
    lines = [
        json.dumps({"title": "t", "text": "one\r\ntwo"}),
        json.dumps({"title": "t", "text": "held back", "split": "test"}),
        '{"text": "torn',
        "",
        json.dumps({"title": "t", "text": None}),
        '{"title": "t", "text": "half \\ud83d"}',
    ]
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert whole(corpus.read()) == ["one\ntwo", "half \ufffd"]
    assert [(entry.item, entry.reason) for entry in corpus.ledger] == [("a.jsonl:3", "broken_record"), ("a.jsonl:5", "empty")]
    assert whole(read(tmp_path / "a.jsonl", Columns(text="title,text")).read())[0] == "t\none\ntwo"


def test_it_is_asked_which_field_is_the_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": "one", "b": "two"}\n')
    with pytest.raises(DataError, match=r"Name it: text="):
        read(path)
    assert whole(read(path, Columns(text="b")).read()) == ["two"]
    with pytest.raises(DataError, match="is not JSON"):
        read(write(tmp_path / "b.jsonl", "plain text\n"))
    inner = write(tmp_path / "c.jsonl", "\n".join(json.dumps({"id": f"n{i}", "doc": {"body": f"inner {i}"}}) for i in range(3)))
    with pytest.raises(DataError, match=r"Name it: text=doc\.body"):
        read(inner)
    assert whole(read(inner, Columns(text="doc.body")).read()) == ["inner 0", "inner 1", "inner 2"]
    with pytest.raises(DataError, match=r"c.jsonl:1 has no field 'nope' \(it has: id, doc\)"):
        read(inner, Columns(text="nope"))


def test_a_file_has_one_field_of_text_and_records_without_it_are_named(tmp_path: Path) -> None:
    records = [None, {"id": "7", "content": "other"}, {"text": 5}, {"text": "kept"}, ["a"], "a text", {"text": None}]
    lines = ['{"text": "torn', *map(json.dumps, records), "[" * 100_000]
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert whole(corpus.read()) == ["kept", "a text"]
    assert [int(entry.item.partition(":")[2]) for entry in corpus.ledger] == [1, 2, 3, 4, 6, 8, 9]
    assert corpus.ledger[2].detail == "has no field 'text' (it has: id, content)"
    nulls = [{"text": None}] * 40 + [{"text": "late"}]
    assert whole(read(write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, nulls)))).read()) == ["late"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_json_lines_are_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    lines = [json.dumps({"text": f"天地玄黄，宇宙洪荒，日月盈昃 {i}"}, ensure_ascii=False) for i in range(3)]
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(lines).encode(encoding)))
    assert whole(corpus.read())[2] == "天地玄黄，宇宙洪荒，日月盈昃 2"
    assert not corpus.replaced


def test_one_bad_file_of_a_folder_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "c" / "good.txt", "good")
    write(tmp_path / "c" / "blank.txt", " \n\t\n")
    write(tmp_path / "c" / "none.jsonl", "")
    write(tmp_path / "c" / "broken.jsonl", "no json\n")
    write(tmp_path / "c" / "server.log", "a line of a log")
    write(tmp_path / "c" / "license_to_kill.txt", "a story")
    write(tmp_path / "c" / "README.zh.md", "about")
    write(tmp_path / "c" / "old.txt.gz", b"\x1f\x8b")
    expected = {"blank.txt", "none.jsonl", "broken.jsonl"}
    if pytest.importorskip("pyarrow"):
        write(tmp_path / "c" / "cut.parquet", b"PAR1 and no more")
        expected.add("cut.parquet")
    corpus = read(tmp_path / "c")
    assert sorted(whole(corpus.read())) == ["a line of a log", "a story", "good"]
    assert {entry.item for entry in corpus.ledger} == expected
    assert any("1 files of other kinds are not read (1 .gz)" in line for line in corpus.messages)
    assert any("about the corpus: README.zh.md" in line for line in corpus.messages)


def test_parquet_and_tables_are_read_by_column(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"content": [f"row {i}" for i in range(9000)], "n": list(range(9000))})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert whole(read(tmp_path / "a.parquet").read()) == [f"row {i}" for i in range(9000)]
    path = write(tmp_path / "a.csv", "id,body\n" + "\n".join(f"{i},some text {i}" for i in range(9)))
    assert set(whole(read(path, Columns(text="body")).read())) == {f"some text {i}" for i in range(9)}


# --- parts ---------------------------------------------------------------------------------------


def test_of_many_documents_some_are_held_and_of_few_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = read(write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": f"d{i}"}) for i in range(40))))
    held, train = whole(many.validation()), whole(many.train())
    assert (len(held), len(train)) == (4, 36)
    assert set(held) | set(train) == {f"d{i}" for i in range(40)}
    monkeypatch.setattr(documents, "PIECE", 8)
    for name in "ab":
        write(tmp_path / "few" / f"{name}.txt", name * 50)
    few = read(tmp_path / "few", held=0.2)
    assert whole(few.train()) == ["a" * 50, "b" * 30]
    assert whole(few.validation()) == ["b" * 20]


def test_no_copy_of_a_held_out_document_is_learned_from(tmp_path: Path) -> None:
    texts = [f"d{i % 30}" for i in range(40)]  # ten of them twice
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": text}) for text in texts)))
    assert corpus.copies == 10
    assert len(whole(corpus.validation())) == 4
    assert not set(whole(corpus.validation())) & set(whole(corpus.train()))
    assert any("10 documents are copies" in line for line in corpus.messages)
    loud = read(
        write(tmp_path / "c.jsonl", "\n".join(json.dumps({"text": f"A d{i % 30}".upper() if i > 29 else f"a  d{i}"}) for i in range(40)))
    )
    assert loud.copies == 10, "letter case and white space do not make another document"
    same = read(write(tmp_path / "b.jsonl", '"same"\n' * 30))
    assert (len(whole(same.validation())), len(whole(same.train()))) == (3, 27), "where all are copies some are held out all the same"


def test_held_out_items_of_a_later_task_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "\n".join(json.dumps({"text": f"d{i}"}) for i in range(10)))
    corpus = read(path, exclude=HeldOutTexts(["d3", " d4\n"]))
    assert whole(corpus.read()) == [f"d{i}" for i in (0, 1, 2, 5, 6, 7, 8, 9)]
    assert any("2 documents are not used" in line for line in corpus.messages)


def test_lines_of_a_text_that_are_held_out_items_are_left_out(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", "one\n\nsecret \nthree\n"), exclude=HeldOutTexts(["secret"]))
    assert whole(corpus.read()) == ["one\n\nthree\n"]
    assert any("1 lines are not used" in line for line in corpus.messages)
    assert (corpus.documents, corpus.left.equal, corpus.left.equal_lines) == (1, 0, 1)


# --- tokens --------------------------------------------------------------------------------------

MESSY = "Ünïcödé & 日本語 好吃吗？\n\n\tTabs,  two spaces   three…  'it's' a_b 3.14 %s 🙂👩‍👩‍👧 e\u0301 العربية\nEND  \n"


@pytest.mark.parametrize("units", ["piece", "unigram", "word", "character"])
def test_ids_of_a_writing_network_give_back_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: str) -> None:
    monkeypatch.setattr(documents, "PIECE", 10)
    rng = random.Random(0)
    text = "".join(rng.choice(MESSY.split(" ")) + " " * rng.randint(0, 3) for _ in range(300))
    corpus = read(write(tmp_path / "a.txt", text), held=0.2)
    modality = replace(Text(), units=units, vocabulary=600, verbatim=True).learned_from(piece for piece, _ in corpus.read())
    streams = {part: tokenized([corpus], part, modality, Cache(tmp_path / "cache")) for part in ("train", "held")}
    assert "".join(modality.text_of(stream.ids.tolist()) for stream in streams.values()) == text
    assert sum(stream.unknown for stream in streams.values()) == 0
    assert [stream.documents for stream in streams.values()] == [1, 1]
    assert all(stream.counts.sum() == len(stream) for stream in streams.values())


def test_tokens_are_made_once_and_made_again_where_they_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read(write(tmp_path / "a.txt", "some words of a text " * 50))
    text = replace(Text(), units="character", verbatim=True).learned_from(piece for piece, _ in corpus.read())
    cache = Cache(tmp_path / "cache")
    first = tokenized([corpus], "train", text, cache)
    with monkeypatch.context() as patch:
        patch.setattr(Text, "ids", lambda *_: pytest.fail("made twice"))
        assert np.array_equal(tokenized([corpus], "train", text, cache).ids, first.ids)
    wanted = first.ids.tolist()
    file = next((tmp_path / "cache").glob("tokens/*/data.bin"))
    whole = file.read_bytes()
    for damaged in (whole[:-2], bytes([whole[0] ^ 1]) + whole[1:]):  # cut, and with another letter
        file.write_bytes(damaged)
        assert tokenized([corpus], "train", text, cache).ids.tolist() == wanted


@pytest.mark.parametrize("now", ["b", "a longer text", ""])
def test_a_corpus_that_changes_while_it_is_read_spoils_no_entry(tmp_path: Path, now: str) -> None:
    text = replace(Text(), units="character", verbatim=True).learned_from(iter(["some words of a text b"]))
    file = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": f"some words {n}"}) + "\n" for n in range(20)))
    corpus = read(file)
    file.write_text(file.read_text().replace("some words 3", now) + file.read_text() * len(now))
    with pytest.raises(DataError, match="changed while it was being read"):
        tokenized([corpus], "train", text, Cache(tmp_path / "cache"))
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_tokenizing_tells_how_far_it_is_and_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 100)
    text = replace(Text(), units="character", verbatim=True).learned_from(iter(["some words of a text"]))
    corpus = read(write(tmp_path / "a.txt", "some words of a text " * 50), held=0.2)
    told: list[tuple[int, int]] = []

    def look(done: int, characters: int) -> None:
        told.append((done, characters))
        if done > 500:
            raise DataError("no time is left")

    with pytest.raises(DataError, match="no time is left"):
        tokenized([corpus], "train", text, Cache(tmp_path / "cache"), look)
    assert told[:2] == [(100, 1050), (200, 1050)]
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_tokens_that_find_no_room_are_one_message(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", "some words of a text " * 50))
    text = replace(Text(), units="character", verbatim=True).learned_from(piece for piece, _ in corpus.read())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be used .*cache=FOLDER"):
        tokenized([corpus], "train", text, Cache(tmp_path / "file"))


def test_a_cut_tokenizer_is_made_again(home: Path) -> None:
    write(home / "a.txt", "the cat sat on the mat. " * 60)
    corpus, cache = read(home / "a.txt"), Cache(home / "cache")
    messages: list[str] = []
    cache.warn = messages.append
    plain = replace(Text(), units="character", verbatim=True)
    made = learned(plain, [corpus], cache, masked=False)
    file = next((home / "cache").glob("tokenizers/*/data.bin"))
    file.write_bytes(file.read_bytes()[:40])
    assert learned(plain, [corpus], cache, masked=False).tokenizer == made.tokenizer
    assert len(messages) == 1


def test_a_tokenizer_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "a.txt", "the cat sat on the mat. " * 60)
    settings: dict[str, Any] = {"backbone": "scratch:gpt,width=16,layers=1,heads=2", "max_tokens": 16, "epochs": 1, "threads": 1}
    first = api.pretrain("a.txt", out="first", **settings)
    monkeypatch.setattr(_tokenizer_training, "make", lambda *_, **__: pytest.fail("made again"))
    second = api.pretrain("a.txt", out="second", **settings)
    assert first.metrics["held"] == second.metrics["held"]
    hurried = api.pretrain("a.txt", out="hurried", time="0.01s", **settings)
    assert any("reading the data took" in note for note in hurried.metrics["notes"])
    with pytest.raises(BaseException, match="made again"):
        api.pretrain("a.txt", out="third", vocabulary=300, **settings)


def test_blocks_cover_the_stream_and_move_each_epoch(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", "abcdefghij" * 30))
    text = replace(Text(), units="character", verbatim=True).learned_from(piece for piece, _ in corpus.read())
    stream = tokenized([corpus], "train", text, Cache(tmp_path / "cache"))
    still = BlockView(stream, 9, 8, moving=False, seed=0, name="held")
    blocks = still.batch(np.arange(len(still)), 3).inputs.tensor
    assert blocks[:, :-1].flatten().tolist() == stream.ids[: len(still) * 8].tolist()
    assert blocks[1:, 0].equal(blocks[:-1, -1]), "neighbours share an id, so that each is predicted once"
    moving = BlockView(stream, 9, 8, moving=True, seed=0, name="train")
    firsts = {int(moving.batch(np.array([0]), epoch).inputs.tensor[0, 0]) for epoch in range(20)}
    assert len(firsts) > 3
    with pytest.raises(DataError, match=r"too short: .* one block needs 999"):
        BlockView(stream, 999, 998, moving=False, seed=0, name="train")


def test_several_corpora_are_one(home: Path) -> None:
    write(home / "a.txt", "one two three four five six " * 40)
    write(home / "b.jsonl", "\n".join(json.dumps({"text": f"number {i}"}) for i in range(40)))
    recipe = Pretraining.from_settings(
        "a.txt", "also=b.jsonl", "backbone=scratch:gpt,width=16,layers=1,heads=2,units=word", "max_tokens=8", "epochs=1", "threads=1"
    )
    run = api.run_pretraining(recipe, offline=True)
    assert run.metrics["counts"]["train"]["documents"] == 37
    assert backbones.load(f"run:{run.path}").modality.text_of(backbones.load(f"run:{run.path}").modality.ids("six one")) == "six one"
