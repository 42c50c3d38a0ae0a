"""Translation: parallel files, memories and tables, their direction, what is wrong with them; BLEU; the command from end to end."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pretune as pt
from pretune import backbones
from pretune.architectures.layers.token_decoder import TiedDecoder
from pretune.errors import DataError, SettingError
from pretune.evaluation import translation_scores
from pretune.sources import sources
from pretune.sources.table import Columns, Table
from pretune.sources.translations import Translations
from pretune.tasks.translation import Translation
from pretune.types import Row
from tests.command_line import main
from tests.test_docs import ROOT, commands

WANTED = Translation().target_type
PAIRS = [("one dog", "ein Hund"), ("two dogs", "zwei Hunde"), ("a cat", "eine Katze"), ("the end", "das Ende")]


def put(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def lines(side: int, pairs: list[tuple[str, str]] = PAIRS) -> str:
    return "".join(f"{pair[side]}\n" for pair in pairs)


def pairs_of(table: Table) -> list[tuple[str, str]]:
    return [((row.text or ("",))[0], str(row.target)) for row in table.rows]


def task_of(**settings: str) -> Any:
    return Translation(**settings).target_type


# --- parallel files ------------------------------------------------------------------------------


def test_parallel_files_are_recognised_by_names_of_languages(tmp_path: Path) -> None:
    put(tmp_path, train_dot_en=lines(0), train_dot_de=lines(1), dev_dot_en=lines(0), dev_dot_de=lines(1), README_dot_md="# pairs\n")
    table = sources.read(tmp_path)
    assert table.task == "translation"
    assert pairs_of(table) == PAIRS * 2
    assert table.counts() == {"train": 4, "val": 4}
    assert table.rows[4].id == "train.en:1"
    assert any(line.startswith("en is translated into de (English is read") for line in table.messages)


@pytest.mark.parametrize(
    ("name", "source"), [("corpus.de-en.{}", "de"), ("{}", "en"), ("data/{}.txt", "en"), ("news.{}.txt", "en"), ("train_{}.txt", "en")]
)
def test_the_direction_follows_names_else_english_is_read(tmp_path: Path, name: str, source: str) -> None:
    for side, language in enumerate(("en", "de")):
        path = tmp_path / name.format(language)
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines(side), encoding="utf-8")
    wanted = sources.read(tmp_path, target=WANTED).target_type
    assert isinstance(wanted, Translations)
    assert wanted.source == source


def test_the_person_chooses_the_direction_and_two_of_several_languages(tmp_path: Path) -> None:
    put(tmp_path, train_dot_en=lines(0), train_dot_de=lines(1), train_dot_fr=lines(1))
    assert pairs_of(sources.read(tmp_path, target=task_of(source="fr", target="en"))) == [(b, a) for a, b in PAIRS]
    with pytest.raises(DataError, match=r"3 languages: de, en, fr.*task=translation task.source=de task.target=en"):
        sources.read(tmp_path)
    with pytest.raises(SettingError, match=r"no such language\. They have de, en, fr"):
        sources.read(tmp_path, target=task_of(source="es", target="en"))
    with pytest.raises(SettingError, match="name two languages"):
        sources.read(tmp_path, target=task_of(source="en", target="EN"))


def test_a_direction_between_equals_is_refused_with_both_spellings(tmp_path: Path) -> None:
    put(tmp_path, train_dot_fr=lines(0), train_dot_de=lines(1))
    with pytest.raises(DataError, match=r"n task.source=de task.target=fr, or task=translation task.source=fr task.target=de"):
        sources.read(tmp_path)
    put(tmp_path / "fr-de", train_dot_fr=lines(0), train_dot_de=lines(1))
    assert pairs_of(sources.read(tmp_path / "fr-de")) == PAIRS


def test_any_two_endings_are_sides_where_translation_is_wanted(tmp_path: Path) -> None:
    put(tmp_path, train_dot_src=lines(0), train_dot_tgt=lines(1))
    assert pairs_of(sources.read(tmp_path, target=WANTED)) == PAIRS
    (tmp_path / "train.src").rename(tmp_path / "train.klingon")
    (tmp_path / "train.tgt").rename(tmp_path / "train.elvish")
    assert pairs_of(sources.read(tmp_path, target=task_of(source="klingon"))) == PAIRS


def test_different_numbers_of_lines_are_refused_with_both_and_where(tmp_path: Path) -> None:
    put(tmp_path, train_dot_en=lines(0), train_dot_de=lines(1, PAIRS[:-1]))
    with pytest.raises(DataError, match=r"train.en has 4 lines and train.de has 3.*line 4"):
        sources.read(tmp_path)
    put(tmp_path, train_dot_en="a\n\nc\nd\n", train_dot_de="A\nC\nD\n")
    with pytest.raises(DataError, match="perhaps line 2, where one side is blank"):
        sources.read(tmp_path)


def test_only_line_feeds_end_lines_and_blank_sides_keep_their_place(tmp_path: Path) -> None:
    put(tmp_path, train_dot_en="a\u2028b\nc\x0cd\n \ne\nf\n", train_dot_de="A\r\n\r\nC\r\nE\u0085E\r\nF")
    table = sources.read(tmp_path)
    assert pairs_of(table) == [("a\u2028b", "A"), ("e", "E\u0085E"), ("f", "F")]
    assert [(entry.item, entry.reason) for entry in table.ledger] == [("train.en:2", "blank_target"), ("train.en:3", "blank_source")]


def test_equal_sides_and_absurd_lengths_are_reported_and_kept(tmp_path: Path) -> None:
    pairs = [*PAIRS, ("Berlin", "berlin"), ("word " * 400, "Wort")]
    put(tmp_path, train_dot_en=lines(0, pairs), train_dot_de=lines(1, pairs))
    table = sources.read(tmp_path)
    assert len(table.rows) == 6
    assert {finding.kind: finding.items for finding in table.findings} == {
        "equal_sides": ("train.en:5",),
        "absurd_lengths": ("train.en:6",),
    }


SWAPPABLE = [
    (f"{who} {does} the {what} with {whose} {body}", f"{wer} {tut} den {was} mit {wessen} {teil}")
    for who, wer in (("a man", "ein Mann"), ("the child", "das Kind"), ("some woman", "eine Frau"))
    for does, tut in (("sees", "sieht"), ("holds", "hält"), ("throws", "wirft"))
    for what, was in (("ball", "Ball"), ("stone", "Stein"))
    for whose, wessen, body, teil in (("his", "seinen", "eyes", "Augen"), ("her", "ihren", "hands", "Händen"))
]


def swapped(*places: int) -> list[tuple[str, str]]:
    return [(second, first) if at in places else (first, second) for at, (first, second) in enumerate(SWAPPABLE)]


def findings_of(table: Table) -> dict[str, str]:
    return {finding.kind: finding.message for finding in table.findings}


def test_a_split_with_swapped_sides_is_refused_with_its_name(tmp_path: Path) -> None:
    few = SWAPPABLE[::3]
    put(tmp_path, train_dot_en=lines(0, SWAPPABLE), train_dot_de=lines(1, SWAPPABLE), val_dot_en=lines(1, few), val_dot_de=lines(0, few))
    with pytest.raises(DataError, match=r"pairs of val\.en have their sides swapped against those of train\.en: most have 'de' where 'en'"):
        sources.read(tmp_path)
    put(tmp_path, val_dot_en=lines(0, few), val_dot_de=lines(1, few))
    assert not sources.read(tmp_path).findings
    rows = [{"en": en, "de": de, "split": "train"} for en, de in SWAPPABLE]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "swapped_sides" not in findings_of(sources.read(tmp_path / "train.jsonl", target=WANTED))


def test_single_swapped_pairs_are_reported_and_kept(tmp_path: Path) -> None:
    put(tmp_path, corpus_dot_en=lines(0, swapped(4, 20)), corpus_dot_de=lines(1, swapped(4, 20)))
    table = sources.read(tmp_path)
    assert len(table.rows) == len(SWAPPABLE)
    assert "2 of 36 pairs have their sides swapped, by the words of the others: corpus.en:5 " in findings_of(table)["swapped_sides"]


def test_names_of_the_wrong_language_are_reported(tmp_path: Path) -> None:
    put(tmp_path, a__corpus_dot_en=lines(1, SWAPPABLE), a__corpus_dot_de=lines(0, SWAPPABLE))
    assert "the names of the sides are swapped" in findings_of(sources.read(tmp_path / "a"))["swapped_names"]
    put(tmp_path, b__corpus_dot_en=lines(0, SWAPPABLE), b__corpus_dot_de=lines(1, SWAPPABLE))
    assert not sources.read(tmp_path / "b").findings


def test_sides_of_one_language_are_never_called_swapped(tmp_path: Path) -> None:
    turned = [first for first, _ in (*SWAPPABLE[1:], SWAPPABLE[0])]
    put(tmp_path, corpus_dot_src=lines(0, SWAPPABLE), corpus_dot_tgt="".join(f"{text}\n" for text in turned))
    assert not sources.read(tmp_path, target=WANTED).findings


def test_an_encoding_that_was_guessed_is_reported(tmp_path: Path) -> None:
    put(tmp_path, corpus_dot_en=lines(0, SWAPPABLE))
    (tmp_path / "corpus.de").write_bytes(lines(1, SWAPPABLE).encode("latin-1"))
    table = sources.read(tmp_path)
    assert pairs_of(table)[4][1].startswith("ein Mann hält")
    assert any(line.startswith("corpus.de was read as Windows-1252") for line in table.messages)
    assert not any("corpus.en was read" in line for line in table.messages)


def test_other_layouts_stay_what_they_are(tmp_path: Path) -> None:
    for name in ("pos", "neg"):
        put(tmp_path / "classes" / name, **{f"{i}_dot_txt": f"text {name} {i}" for i in range(3)})
    put(tmp_path / "table", data_dot_csv="text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(8)))
    put(tmp_path / "no", table_dot_csv="no,is,label\n" + "".join(f"{i},text {i},{i % 2}\n" for i in range(8)))
    assert sources.read(tmp_path / "classes").task == "classification"
    assert sources.read(tmp_path / "table").task == "classification"
    assert sources.read(tmp_path / "no").task == "classification"


def test_lines_to_translate_are_read_from_the_file_that_is_given(tmp_path: Path) -> None:
    put(tmp_path, test_dot_en=lines(0), test_dot_de=lines(1), new_dot_txt="a\n\nb\n")
    run = task_of(source="en", target="de")
    for name, texts in (("test.en", [a for a, _ in PAIRS]), ("test.de", [b for _, b in PAIRS]), ("new.txt", ["a", "b"])):
        table = sources.read_unlabelled(tmp_path / name, "text", target=run)
        assert [row.text for row in table.rows] == [(text,) for text in texts], name
    assert sources.read_unlabelled(tmp_path / "new.txt", "text", target=run).inputs == ["new.txt:1", "new.txt:2", "new.txt:3"]
    assert [row.text for row in sources.read_unlabelled(tmp_path, "text", target=run).rows] == [(a,) for a, _ in PAIRS]


# --- memories and tables -------------------------------------------------------------------------

TMX = """<?xml version="1.0" encoding="UTF-8"?>{doctype}
<tmx version="1.4"><header srclang="{source}" segtype="sentence"/><body>
<tu><tuv xml:lang="de-DE"><seg>ein <bpt i="1">&lt;b&gt;</bpt>Hund<ept i="1">&lt;/b&gt;</ept></seg></tuv>
<tuv xml:lang="en-US"><seg>one dog</seg></tuv></tu>
<tu><tuv xml:lang="de-DE"><seg>zwei</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>a &amp; b</seg></tuv><tuv xml:lang="de-DE"><seg>a und b</seg></tuv></tu>
</body></tmx>"""


def test_translation_memories_are_read(tmp_path: Path) -> None:
    path = tmp_path / "memory.tmx"
    path.write_text(TMX.format(doctype='<!DOCTYPE tmx SYSTEM "tmx14.dtd">', source="en-US"), encoding="utf-8")
    table = sources.read(path)
    assert pairs_of(table) == [("one dog", "ein Hund"), ("a & b", "a und b")]
    assert [entry.reason for entry in table.ledger] == ["missing_side"]
    assert pairs_of(sources.read(path, target=task_of(source="de")))[0] == ("ein Hund", "one dog")
    path.write_text(TMX.format(doctype="", source="*all*"), encoding="utf-8")
    assert pairs_of(sources.read(tmp_path))[0] == ("ein Hund", "one dog")


@pytest.mark.parametrize(
    "doctype", ['<!DOCTYPE t [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>', '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/hostname">]>']
)
def test_memories_with_entities_and_broken_ones_are_refused(tmp_path: Path, doctype: str) -> None:
    path = tmp_path / "memory.tmx"
    path.write_text(TMX.format(doctype=doctype, source="en-US"), encoding="utf-8")
    with pytest.raises(DataError, match="entities"):
        sources.read(path)
    path.write_text(TMX.format(doctype="", source="en-US")[:400], encoding="utf-8")
    with pytest.raises(DataError, match="no whole XML file"):
        sources.read(path)


def test_tables_whose_columns_are_languages(tmp_path: Path) -> None:
    records = [{"de": b, "en": a} for a, b in PAIRS]
    put(tmp_path, a_dot_jsonl="".join(f"{json.dumps(one)}\n" for one in records))
    put(tmp_path, b_dot_jsonl="".join(json.dumps({"id": i, "translation": one}) + "\n" for i, one in enumerate(records)))
    put(tmp_path, c_dot_csv="de,en,split\n" + "".join(f"{b},{a},{'train' if i else 'test'}\n" for i, (a, b) in enumerate(PAIRS)))
    turned = [(b, a) for a, b in PAIRS]
    for name in ("a.jsonl", "b.jsonl", "c.csv"):
        table = sources.read(tmp_path / name)
        assert table.task == "translation", name
        assert pairs_of(table) == turned, name
        assert pairs_of(sources.read(tmp_path / name, target=task_of(target="de"))) == PAIRS, name
    assert table.counts() == {"test": 1, "train": 3}


def test_tables_of_other_columns_are_pairs_where_translation_is_wanted(tmp_path: Path) -> None:
    put(tmp_path, a_dot_csv="source,target,note\n" + "".join(f"{a},{b},x\n" for a, b in PAIRS))
    put(tmp_path, b_dot_csv="left,right\n" + "".join(f"{a},{b}\n" for a, b in PAIRS))
    assert pairs_of(sources.read(tmp_path / "a.csv", target=WANTED)) == PAIRS
    assert pairs_of(sources.read(tmp_path / "b.csv", Columns(text="left", label="right"), target=WANTED)) == PAIRS
    assert pairs_of(sources.read(tmp_path / "b.csv", target=task_of(source="right", target="left")))[0] == ("ein Hund", "one dog")


# --- scores --------------------------------------------------------------------------------------


def test_bleu_has_a_signature_an_interval_and_fits_the_script() -> None:
    references = [["ein kleiner Hund läuft"], ["zwei Katzen sitzen auf dem Sofa"]] * 4
    perfect = translation_scores.figures([one[0] for one in references], references)
    assert (perfect["bleu"], perfect["chrf"]) == (pytest.approx(100), pytest.approx(100))
    assert "tok:13a" in perfect["bleu_signature"]
    half = translation_scores.figures(["ein kleiner Hund rennt", "zwei Katzen sitzen"] * 4, references)
    low, high = half["interval"]["bleu"]
    assert low < half["bleu"] < high < 100
    pairs = np.repeat(np.arange(4), 2)
    together = translation_scores.figures(["ein kleiner Hund rennt", "zwei Katzen sitzen"] * 4, references, groups=pairs)
    assert together["interval"]["bleu"] == pytest.approx([half["bleu"]] * 2), "groups that are alike show no spread"
    texts = {"你好世界": "zh", "猫がいる": "char", "Hallo Welt": "13a", "안녕 세상": "13a"}
    assert {text: translation_scores.tokenizer_for([[text]]) for text in texts} == texts


def test_translations_are_compared_with_copies_and_with_the_nearest_example() -> None:
    task = Translation()
    table = [Row(id=str(i), text=(a,), target=Translation.reads.parse([b], "de").values[0]) for i, (a, b) in enumerate(PAIRS)]
    assert translation_scores.nearest(["two dogs bark", "the end"], [a for a, _ in PAIRS]) == [1, 3]
    found = task.text_metrics(table, ["x", "x", "x", "x"], table)
    assert found["baselines"]["nearest"]["chrf"] > 99 > 50 > found["baselines"]["copy"]["chrf"]
    (line,) = task.summary({**found, "examples": 4, "split": "test"})
    assert "the source as it is" in line


def test_the_task_keeps_the_direction_of_the_data() -> None:
    found = Translation().suited(Translations(task="translation", source="en", target="de"))
    assert (found.source, found.target) == ("en", "de")


def test_rows_of_one_group_are_no_evidence_of_their_own() -> None:
    rows = [Row(id=str(i), text=(a,), target=Translation.reads.parse([b], "de").values[0]) for i, (a, b) in enumerate(PAIRS * 2)]
    written = ["ein Hund", "zwei Katzen", "x", "y"] * 2
    alone = Translation().text_metrics(rows, written, ())["interval"]["chrf"]
    one = [replace(row, group="book") for row in rows]
    assert "interval" not in Translation().text_metrics(one, written, ()), "one group tells nothing of others"
    assert alone[0] < alone[1]


# --- the command ---------------------------------------------------------------------------------


def test_a_run_translates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"one": "ein", "two": "zwei", "red": "rot", "big": "gross", "dog": "Hund", "cat": "Katze"}
    pairs = [(f"{a} {b} {c}", f"{words[a]} {words[b]} {words[c]}") for a in ("one", "two") for b in ("red", "big") for c in ("dog", "cat")]
    put(tmp_path / "data", train_dot_en=lines(0, pairs * 3), train_dot_de=lines(1, pairs * 3))
    put(tmp_path / "data", test_dot_en=lines(0, pairs[:3]), test_dot_de=lines(1, pairs[:3]))
    out = tmp_path / "run"
    network = "scratch:transformer,units=piece,vocabulary=300,width=32,layers=1,heads=2,max_tokens=16,dropout=0.0"
    run = pt.finetune(tmp_path / "data", backbone=network, epochs=40, batch_size=8, out=out, task=Translation(beams=2))
    assert run.metrics["task"] == "translation"
    assert run.metrics["written"]["chrf"] > 60
    assert run.metrics["written"]["examples"] == 3
    assert "copy" in run.metrics["written"]["baselines"]
    recipe = json.loads((out / "recipe.json").read_text(encoding="utf-8"))["resolved"]
    assert (recipe["task"]["source"], recipe["task"]["target"], recipe["optim"]["name"]) == ("en", "de", "muon")
    assert "ein rot Hund" in (out / "report.html").read_text(encoding="utf-8")

    put(tmp_path, new_dot_txt="one red dog\n\ntwo big cat\n")
    assert main(["predict", str(out), str(tmp_path / "new.txt"), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    assert [answer.get("prediction") for answer in answers] == ["ein rot Hund", None, "zwei gross Katze"]
    assert answers[0]["source"] == "one red dog"
    assert "blank" in answers[1]["error"]
    figures = pt.evaluate(out, tmp_path / "data", part="test")["metrics"]
    assert figures["written"]["bleu"] == pytest.approx(run.metrics["written"]["bleu"])
    assert figures["token_loss"] == pytest.approx(run.metrics["test"]["token_loss"], rel=1e-3)


def test_a_run_of_denoising_and_one_of_translation_bring_their_decoders(tmp_path: Path) -> None:
    put(tmp_path / "data", corpus_dot_en=lines(0, PAIRS * 6), corpus_dot_de=lines(1, PAIRS * 6))
    put(tmp_path / "texts", all_dot_txt=lines(0, PAIRS * 40) + lines(1, PAIRS * 40))
    network = "scratch:transformer,units=piece,vocabulary=300,width=32,layers=1,heads=2,max_tokens=16,dropout=0.0"
    pretrained = pt.pretrain(tmp_path / "texts", objective="denoising", backbone=network, epochs=1, out=tmp_path / "denoising")
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 8, "task": Translation(beams=1, max_new_tokens=4)}
    first = pt.finetune(tmp_path / "data", backbone=f"run:{pretrained.path}", out=tmp_path / "first", **settings)
    assert first.metrics["strategy"] == "full"
    for run, count in ((pretrained.path, 2), (first.path, 2)):
        decoder = backbones.load(f"run:{run}", offline=True).pretrained_decoder()
        assert isinstance(decoder, TiedDecoder)
        assert len(decoder.body.layers) == count
    assert len(list(pt.predict(first.path, tmp_path / "data" / "corpus.en"))) == len(PAIRS) * 6, (
        "its decoder has more layers than its encoder"
    )
    with pytest.raises(SettingError, match=r"max_tokens=12: the decoder of these weights was made for 16 tokens"):
        pt.finetune(tmp_path / "data", backbone=f"run:{first.path}", max_tokens=12, out=tmp_path / "cut", **settings)
    saved = load_file(first.path / "weights" / "last.safetensors")
    assert torch.equal(saved["stages.head.decoder.body.norm.weight"], decoder.body.norm.weight)
    with pytest.raises(SettingError, match="brings its own decoder"):
        pt.finetune(tmp_path / "data", backbone=f"run:{first.path}", head={"name": "decoder", "layers": 1}, out=tmp_path / "no", **settings)


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "pairs", corpus_dot_en=lines(0, PAIRS * 4), corpus_dot_de=lines(1, PAIRS * 4))
    put(tmp_path, new_dot_txt="one dog\na cat\n")
    train, predict = (line.split() for line in commands(ROOT / "docs" / "tasks" / "translation.md"))
    network = "backbone=scratch:transformer,units=piece,vocabulary=300,width=16,layers=1,heads=2,max_tokens=16"
    assert main([*train, network]) == 0
    assert main(predict) == 0
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [answer["source"] for answer in answers] == ["one dog", "a cat"]
