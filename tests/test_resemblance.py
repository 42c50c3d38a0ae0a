"""What resembles held-out texts is kept from a corpus, at little cost, and what does not is left in."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pretune.corpus import corpus as corpora
from pretune.corpus import documents, sifting
from pretune.corpus.corpus import Corpus
from pretune.corpus.documents import Piece
from pretune.corpus.resemblance import EQUAL, KEPT, NEAR, HeldOutTexts
from pretune.errors import DataError
from pretune.sources.table import Columns

REVIEW = "The soup was cold, the waiter rude, and we waited for an hour before anybody took our order at all."
CHINESE = "送餐速度很快，味道也不错，就是份量有点少，下次还会再来这家店的"
WORDS = ["".join(random.Random(number).choices("etaoinshrdlu", k=3 + number % 6)) for number in range(400)]


def found(held: HeldOutTexts, *segments: str) -> list[int]:
    return [int(held.found([[segment]])[0][0]) for segment in segments]


def prose(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def whole(pieces: Iterator[Piece]) -> str:
    return "".join(text + ("|" if ends else "") for text, ends in pieces)


def corpus_of(path: Path, text: str, held: HeldOutTexts) -> Corpus:
    path.write_text(text, encoding="utf-8")
    return corpora.read_corpus(path, Columns(), validation_fraction=0.1, seed=0, exclude=held)


@pytest.mark.parametrize("text", [REVIEW, CHINESE, "No way!", "很好", "Éa façon naïve", "ｆｕｌｌ width"])
def test_case_spaces_punctuation_accents_and_width_are_no_difference(text: str) -> None:
    held = HeldOutTexts([text])
    plain = text.replace("É", "e").replace("ç", "C").replace("ï", "i").replace("ｆｕｌｌ", "FULL")
    assert found(held, text, f"  {text.upper()} !!\n", plain.replace(",", " - "), f"“{text}”…") == [EQUAL] * 4


def test_a_few_changed_words_resemble_and_others_do_not() -> None:
    held = HeldOutTexts([REVIEW, CHINESE])
    assert found(held, REVIEW.replace("cold", "tepid").replace("an hour", "ages"), f"He wrote: {REVIEW[:80]}") == [NEAR, NEAR]
    assert found(held, CHINESE.replace("味道", "口味"), f"评论{CHINESE}！谢谢") == [NEAR, NEAR]
    assert found(held, "The soup was warm and the waiter kind.", "送餐速度太慢了", "", "!!!", "cold soup") == [KEPT] * 5
    assert found(HeldOutTexts(["!!!"]), "!!!", "!!", "a") == [EQUAL, KEPT, KEPT]
    assert found(HeldOutTexts([]), "anything") == [KEPT]


def test_chance_alone_makes_no_resemblance() -> None:
    held = HeldOutTexts(prose(12, seed) for seed in range(200))
    lines = [prose(14, 1000 + seed) for seed in range(400)]
    assert found(held, *lines).count(NEAR) == 0, "words in common are not enough"
    assert found(held, " ".join(lines)) == [KEPT], "nor are all of its words somewhere in a long text"


def test_a_shingle_that_repeats_counts_once() -> None:
    held = HeldOutTexts(["哈哈哈哈哈哈哈哈哈哈哈哈" + CHINESE])
    assert found(held, "哈" * 500) == [KEPT]


def test_texts_that_are_wrapped_elsewhere_are_found_over_lines(tmp_path: Path) -> None:
    held = HeldOutTexts([REVIEW])
    text = f"{prose(9, 1)}\n{REVIEW[:30]}\n{REVIEW[30:60]}\n{REVIEW[60:]}\n{prose(9, 2)}\n"
    corpus = corpus_of(tmp_path / "a.txt", text, held)
    assert whole(corpus.read()) == f"{prose(9, 1)}\n{prose(9, 2)}\n|"
    assert corpus.left.near_lines == 3
    assert any("3 lines are not used: they resemble held-out examples" in line for line in corpus.messages)


def test_lines_around_what_resembles_stay(tmp_path: Path) -> None:
    lines = [prose(9, seed) for seed in range(120)]
    held = HeldOutTexts(lines[::5])
    corpus = corpus_of(tmp_path / "a.txt", "\n".join(line.upper() + " indeed!" for line in lines), held)
    assert corpus.left.near_lines == 24
    assert whole(corpus.read()).count("\n") == 95


def test_of_a_long_line_only_the_sentences_go(tmp_path: Path) -> None:
    before, after = (f"{prose(200, seed)}." for seed in (1, 2))
    corpus = corpus_of(tmp_path / "a.txt", f"{before} {REVIEW} {after}", HeldOutTexts([REVIEW.upper()]))
    assert whole(corpus.read()) == f"{before} {after}|"


def test_documents_are_counted_and_every_pass_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sifting, "BATCH", 300)
    texts = [prose(20, seed) for seed in range(30)]
    texts[4], texts[9], texts[20] = REVIEW, REVIEW.replace("rude", "unkind"), f"{prose(10, 50)}\n{REVIEW}"
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    corpus = corpus_of(tmp_path / "a.jsonl", lines, HeldOutTexts([REVIEW, "one\ntwo"]))
    assert (corpus.left.equal, corpus.left.near, corpus.left.equal_lines, corpus.left.near_lines) == (1, 1, 1, 0)
    assert corpus.documents == 28
    first = whole(corpus.read())
    assert first == whole(corpus.read())
    assert "rude" not in first
    assert prose(10, 50) in first


def test_a_line_that_two_pieces_share_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 64)
    text = "\n".join(prose(5, seed) for seed in range(5)) + f"\n{REVIEW}\n" + prose(5, 9)
    corpus = corpus_of(tmp_path / "a.txt", text, HeldOutTexts([REVIEW]))
    assert whole(corpus.read()) == text.replace(f"{REVIEW}\n", "") + "|"


def test_a_corpus_of_nothing_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all of its text is, or resembles"):
        corpus_of(tmp_path / "a.txt", REVIEW, HeldOutTexts([REVIEW]))
    mostly = corpus_of(tmp_path / "b.txt", f"{REVIEW}\na few words", HeldOutTexts([REVIEW]))
    assert any("That is 90% of the text" in line for line in mostly.messages)
