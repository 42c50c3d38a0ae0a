"""Tagged texts as people have them: CoNLL files, records with lists of words and tags, records with spans of characters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pretune.errors import DataError
from pretune.sources import sources
from pretune.sources.schema import Schema
from pretune.sources.table import Columns, RunColumns, Table
from pretune.sources.tags import TAGS, Entity, TaggedWords, contradiction, entities_of, read_entities, scheme_of, written
from pretune.sources.target_type import ONE_CLASS
from pretune.sources.words import joined, words_of
from tests.data_files import messages_of, reasons, table_of

NAMES = "EU B-ORG\nrejects O\nGerman B-MISC\ncall O\n\nPeter B-PER\nBlackburn I-PER\n\nBRUSSELS B-LOC\n1996-08-22 O\n"


def words(table: Table, at: int = 0) -> list[str]:
    row = table.rows[at]
    assert row.text is not None
    assert row.words is not None
    return [row.text[0][start:end] for start, end in row.words]


def entities(table: Table) -> list[list[tuple[str, str]]]:
    """Return the text and type of each row's entities, by their characters."""
    return [[(row.text[0][one.start : one.end], one.type) for one in row.target.entities] for row in table.rows]


def tags(table: Table) -> list[tuple[str, ...]]:
    return [row.target.tags for row in table.rows]


def lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


# --- schemes -------------------------------------------------------------------------------------

SAME = [("Ann", "Lee", "met", "Bo", "Wu", "Li"), [Entity(0, 2, "PER"), Entity(3, 5, "PER"), Entity(5, 6, "PER")]]


@pytest.mark.parametrize(
    ("scheme", "written_so"),
    [
        ("iob2", "B-PER I-PER O B-PER I-PER B-PER"),
        ("iob1", "I-PER I-PER O I-PER I-PER B-PER"),
        ("bioes", "B-PER E-PER O B-PER E-PER S-PER"),
        ("bioes", "B-PER L-PER O B-PER L-PER U-PER"),
        ("bioes", "B_PER E_PER O B_PER E_PER S_PER"),
    ],
)
def test_schemes_are_recognised_and_mean_the_same_entities(scheme: str, written_so: str) -> None:
    assert scheme_of([written_so.split()]) == scheme
    assert entities_of(written_so.split()) == SAME[1]
    assert contradiction(written_so.split(), scheme) is None


@pytest.mark.parametrize(
    ("scheme", "written_so"),
    [
        ("io", "I-PER I-PER O O"),
        ("io", "PER PER O O O LOC"),
        ("iob2", "B I O"),
        ("none", "DET NOUN VERB O"),
        ("none", "NNP NNP VBD NN"),
        ("none", "B-NP-x NOUN O"),
    ],
)
def test_tags_without_a_scheme_are_plain(scheme: str, written_so: str) -> None:
    assert scheme_of([written_so.split()]) == scheme


def test_entities_are_those_of_seqeval_whatever_the_tags() -> None:
    import random

    from seqeval.metrics.sequence_labeling import get_entities

    draw = random.Random(1)
    for marks in ("BI", "BIES"):
        for _ in range(300):
            tagged = [draw.choice(["O", *(f"{mark}-{kind}" for mark in marks for kind in "XY")]) for _ in range(draw.randint(1, 9))]
            assert [(one.type, one.start, one.end - 1) for one in entities_of(tagged)] == get_entities(tagged), tagged


def test_entities_are_written_and_read_back() -> None:
    found = [Entity(0, 5, "LOC"), Entity(14, 25, "a, b"), Entity(30, 31, "3:4 x")]
    assert read_entities(written(found)) == found
    assert read_entities("") == []


# --- words ---------------------------------------------------------------------------------------


def test_words_are_what_entities_can_begin_and_end_with() -> None:
    def cut(text: str) -> list[str]:
        return [text[start:end] for start, end in words_of(text)]

    assert cut("Putin's #Russia, 3.5%") == ["Putin", "'", "s", "#", "Russia", ",", "3", ".", "5", "%"]
    assert cut("Zoe\u0308 naïve") == ["Zoe\u0308", "naïve"]
    assert cut("हिन्दी में") == ["हिन्दी", "में"]
    assert cut("我在北京a1") == ["我", "在", "北", "京", "a1"]
    assert cut("👩\u200d👩 👍🏽") == ["👩\u200d", "👩", "👍🏽"]
    assert cut(" \n") == []


def test_separated_words_make_a_text_in_which_they_stand() -> None:
    text, spans = joined(["New York", "is", "京", "都", "x"])
    assert text == "New York is 京都 x"
    assert [text[start:end] for start, end in spans] == ["New York", "is", "京", "都", "x"]


# --- CoNLL ---------------------------------------------------------------------------------------


def test_a_conll_file_is_texts_with_entities(tmp_path: Path) -> None:
    path = tmp_path / "names.conll"
    path.write_text(NAMES)
    table = sources.read(path)
    assert (table.task, table.modality, len(table.rows)) == ("token_classification", "text", 3)
    assert entities(table) == [[("EU", "ORG"), ("German", "MISC")], [("Peter Blackburn", "PER")], [("BRUSSELS", "LOC")]]
    assert [row.id for row in table.rows] == ["names.conll:1", "names.conll:6", "names.conll:9"]
    assert "scheme IOB2" in messages_of(table)
    assert table.classes == ("LOC", "MISC", "ORG", "PER")


def test_splits_are_told_by_the_names_of_files(tmp_path: Path) -> None:
    for name in ("eng.train", "eng.testa", "eng.testb", "README.md"):
        (tmp_path / name).write_text(NAMES if name.startswith("eng") else "# About\n")
    assert sources.read(tmp_path).counts() == {"train": 3, "val": 3, "test": 3}
    for folder, name in (("a", "train.txt"), ("a", "dev.txt"), ("a", "extra.txt"), ("b/train", "x.conll"), ("b/test", "y.conll")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(NAMES)
    assert sources.read(tmp_path / "a").counts() == {"train": 3, "val": 3}
    assert "not used, as their names say no split: extra.txt" in messages_of(sources.read(tmp_path / "a"))
    assert sources.read(tmp_path / "b").counts() == {"train": 3, "test": 3}


@pytest.mark.parametrize("mark", ["\t", " ", "   "])
def test_columns_documents_comments_and_headers(tmp_path: Path, mark: str) -> None:
    rows = ["-DOCSTART- -X- -X- O\n", "EU NNP B-NP B-ORG\r", "#1 CD I-NP O\r", "\r", "-DOCSTART- -X- -X- O\n", "Peter NNP B-NP B-PER"]
    content = "# id = 1\n" + "\n".join(row if row.startswith("-") else row.replace(" ", mark) for row in rows) + "\n"
    path = tmp_path / "a.conll"
    path.write_bytes(content.encode())
    table = sources.read(path)
    assert entities(table) == [[("EU", "ORG")], [("Peter", "PER")]]
    assert words(table) == ["EU", "#1"]
    assert [row.group for row in table.rows] == ["a.conll document 1", "a.conll document 2"]
    assert "column 4 of 4 holds the tags; label=… reads another: column2 (NNP, CD …), column3 (B-NP, I-NP …)." in messages_of(table)
    assert tags(sources.read(path, Columns(label="column2"))) == [("NNP", "CD"), ("NNP",)]
    path.write_text(f"token{mark}tag\n" + NAMES.replace(" ", mark))
    assert len(sources.read(path).rows) == 3
    assert words(sources.read(path)) == ["EU", "rejects", "German", "call"]


def test_numbered_words_and_two_columns_of_entities(tmp_path: Path) -> None:
    path = tmp_path / "nested.tsv"
    path.write_text("# http://x\n1\tUni\tB-ORG\tO\n2\tBerlin\tI-ORG\tB-LOC\n\n# y\n1\tda\tO\tO\n")
    with pytest.raises(DataError, match=r"several columns mark entities.*label=column3 \(ORG\) or label=column4 \(LOC\)"):
        sources.read(path)
    assert entities(sources.read(path, Columns(label="column4"))) == [[("Berlin", "LOC")], []]
    universal = (
        "# text\n1\tDas\tder\tDET\tART\t_\t2\tdet\t_\t_\n2-3\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n2\tHaus\tHaus\tNOUN\tNN\t_\t0\troot\t_\t_\n\n"
    )
    (tmp_path / "de.conllu").write_text(universal * 3)
    table = sources.read(tmp_path / "de.conllu")
    assert tags(table)[0] == ("DET", "NOUN")
    assert words(table) == ["Das", "Haus"]
    assert "a plain tag for each word. task=token_classification task.scheme=io" in messages_of(table)


def test_what_is_wrong_with_a_text_is_in_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(NAMES * 4 + "\nLone I-PER\nwolf O\n\nshort\nline O\n\n\u200b O\nseen O\n", encoding="utf-8")
    table = sources.read(path)
    assert reasons(table) == {"broken_scheme": 1, "other_tags": 1, "empty_word": 1}
    details = " ".join(entry.detail for entry in table.ledger)
    assert "'Lone' has the tag I-PER, which cannot stand there (IOB2); with no B-PER before it, an entity begins there" in details
    assert "has 1 column on line 45 ('short') where the others have 2" in details
    assert entities(table)[-2:] == [[("Lone", "PER")], []]
    assert words(table, -1) == ["seen"]


def test_other_text_files_are_not_conll(tmp_path: Path) -> None:
    for name, content in {
        "reviews.txt": "good\tnice meal\nbad\tcold soup\n" * 4,
        "list.txt": "a.jpg cat\nb.jpg dog\n",
        "verse.txt": "two words\n\nbut no\ntags here\n\nat all\n",
        "sents.tsv": "text\tlabel\na b c\tx\n\nd e f\ty\n\ng h i\tx\n",
    }.items():
        path = tmp_path / name
        path.write_text(content)
        try:
            task = sources.read(path).task
        except DataError:
            task = None
        assert task != "token_classification", name
    path = tmp_path / "names.conll"
    path.write_text(NAMES)
    with pytest.raises(DataError):
        sources.read(path, target=ONE_CLASS)


def test_a_named_scheme_decides(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ann I-PER\nBo B-PER\n\nUSA I-LOC\n")
    assert "IOB1" in messages_of(sources.read(path))
    assert tags(sources.read(path, target=replace(TAGS, scheme="none"))) == [("I-PER", "B-PER"), ("I-LOC",)]
    strict = sources.read(path, target=replace(TAGS, scheme="iob2"))
    assert reasons(strict) == {"broken_scheme": 2}
    assert tags(strict) == [("B-PER", "B-PER"), ("B-LOC",)]


@pytest.mark.parametrize("written_so", ["Ann B-PER\nin O\nRome b-LOC\n", "Ann b-PER\nin o\nRome b-LOC\n"])
def test_marks_with_small_letters_mark_entities(tmp_path: Path, written_so: str) -> None:
    path = tmp_path / "a.conll"
    path.write_text(written_so)
    table = sources.read(path, target=TAGS)
    assert tags(table) == [("B-PER", "O", "B-LOC")]
    assert "b-LOC is B-LOC" in messages_of(table) or "b-PER is B-PER" in messages_of(table) or "o is O" in messages_of(table)


def test_words_without_any_entity_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("no O\nnames O\n\nhere O\n")
    with pytest.raises(DataError, match="none of the 3 words has a tag other than O"):
        sources.read(path)


# --- records -------------------------------------------------------------------------------------


def test_lists_of_words_and_tags(tmp_path: Path) -> None:
    records = [
        {"id": 1, "tokens": ["EU", "rejects"], "pos_tags": ["NNP", "VBZ"], "ner_tags": ["B-ORG", "O"]},
        {"id": 2, "tokens": ["Peter"], "pos_tags": ["NNP"], "ner_tags": ["B-PER", "O"]},
        {"id": 3, "tokens": [], "pos_tags": [], "ner_tags": []},
        {"id": 4, "tokens": ["Ann", "Lee"], "pos_tags": ["NNP", "NNP"], "ner_tags": ["B-PER", "I-PER"]},
    ]
    table = sources.read(lines(tmp_path / "a.jsonl", records))
    assert entities(table) == [[("EU", "ORG")], [("Ann Lee", "PER")]]
    assert {(entry.item, entry.reason) for entry in table.ledger} == {("a.jsonl:2", "other_tags"), ("a.jsonl:3", "empty_text")}
    assert "'ner_tags' holds the tags; label=… reads another (pos_tags)" in messages_of(table)
    assert tags(sources.read(tmp_path / "a.jsonl", Columns(label="pos_tags")))[0] == ("NNP", "VBZ")
    table = sources.read_unlabelled(tmp_path / "a.jsonl", "text", RunColumns(schema=table.schema), target=TAGS)
    assert table.inputs == [f"a.jsonl:{n}" for n in (1, 2, 3, 4)]
    assert [row.id for row in table.rows] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:4"], "tags of another length matter to nobody here"
    assert all(row.target is None for row in table.rows)


SPANS = [
    [[0, 5, "PER"], [15, 21, "LOC"]],
    [["PER", 0, 5], ["LOC", 15, 21]],
    [{"start": 0, "end": 5, "label": "PER"}, {"start": 15, "end": 21, "label": "LOC"}],
    [{"start_offset": 0, "end_offset": 5, "label": "PER", "id": 7}, {"start_offset": 15, "end_offset": 21, "label": "LOC", "id": 8}],
    [{"begin": 0, "end": 5, "type": "PER", "text": "Maria"}, {"begin": 15, "end": 21, "type": "LOC", "text": "Berlin"}],
    [{"value": {"start": a, "end": b, "text": t, "labels": [c]}} for a, b, t, c in ((0, 5, "Maria", "PER"), (15, 21, "Berlin", "LOC"))],
]


@pytest.mark.parametrize("spans", SPANS)
@pytest.mark.parametrize("name", ["entities", "label", "spans"])
def test_spans_of_characters(tmp_path: Path, spans: list[Any], name: str) -> None:
    records = [{"text": "Maria lives in Berlin.", name: spans}, {"text": "No names here.", name: []}]
    table = sources.read(lines(tmp_path / "a.jsonl", records))
    assert entities(table) == [[("Maria", "PER"), ("Berlin", "LOC")], []]
    assert tags(table)[0] == ("B-PER", "O", "O", "B-LOC", "O")
    assert table.task == "token_classification"


def test_label_studio_and_splits_in_records(tmp_path: Path) -> None:
    result = [{"from_name": "l", "value": {"start": 0, "end": 5, "labels": ["PER"]}}]
    records = [{"data": {"text": "Maria sings."}, "annotations": [{"was_cancelled": False, "result": result}]}] * 2
    (tmp_path / "export.json").write_text(json.dumps(records))
    assert entities(sources.read(tmp_path / "export.json")) == [[("Maria", "PER")]] * 2
    lines(tmp_path / "b.jsonl", [{"text": "Maria", "entities": [[0, 5, "PER"]], "split": split} for split in ("train", "dev")])
    assert sources.read(tmp_path / "b.jsonl").counts() == {"train": 1, "val": 1}
    (tmp_path / "c").mkdir()
    for split in ("train", "test"):
        lines(tmp_path / "c" / f"{split}.jsonl", [{"text": "Maria", "entities": [[0, 5, "PER"]]}])
    assert sources.read(tmp_path / "c").counts() == {"train": 1, "test": 1}


def test_spans_that_cannot_be_are_in_the_ledger(tmp_path: Path) -> None:
    text = "Maria lives in Berlin-Mitte."
    spans: dict[str, Any] = {
        "good": [[0, 5, "PER"], [0, 5, "PER"]],
        "outside": [[20, 99, "LOC"]],
        "backwards": [[5, 0, "PER"]],
        "overlapping": [[0, 5, "PER"], [3, 11, "X"]],
        "blank": [[5, 6, "PER"]],
        "no label": [[0, 5]],
        "in a word": [[0, 3, "PER"]],
        "another text": [{"start": 0, "end": 5, "label": "PER", "text": "Anna"}],
        "with spaces": [[0, 6, "PER"], [14, 21, "LOC"]],
    }
    table = sources.read(lines(tmp_path / "a.jsonl", [{"text": text, "entities": value} for value in spans.values()]))
    found = {int(entry.item.rpartition(":")[2]): entry.reason for entry in table.ledger}
    expected = ["span_outside", "span_outside", "overlapping_spans", "empty_span", "bad_spans", "span_in_word", "other_text"]
    assert found == dict(enumerate(expected, start=2))
    assert entities(table) == [[("Maria", "PER")], [("Maria", "PER")], [("Maria", "PER"), ("Berlin", "LOC")]]
    assert any("'Mar' (PER) ends inside a word: 'Maria' was read" in entry.detail for entry in table.ledger)


def test_columns_that_only_look_like_tags_stay_what_they_are(tmp_path: Path) -> None:
    several = [{"text": f"t {i}", "labels": ["a", "b"] if i % 2 else ["a"]} for i in range(20)]
    assert sources.read(lines(tmp_path / "a.jsonl", several)).task == "multilabel"
    answers = [{"text": f"t {i}", "label": "xy"[i % 2], "answers": {"text": ["t"], "answer_start": [0]}} for i in range(20)]
    assert sources.read(lines(tmp_path / "b.jsonl", answers)).task == "classification"
    with pytest.raises(DataError, match=r"Accepted are CoNLL files"):
        sources.read(tmp_path / "b.jsonl", target=TAGS)


def test_a_datasets_folder_with_named_tags(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    names = ["O", "B-PER", "I-PER"]
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    info = {"features": {"tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"}, "ner_tags": feature}}
    table = pa.table({"tokens": [["Ann", "Lee", "sings"], ["Bo"], ["x"]], "ner_tags": [[1, 2, 0], [1], [7]]})
    meta = {b"huggingface": json.dumps({"info": info}).encode()}
    pa.parquet if hasattr(pa, "parquet") else __import__("pyarrow.parquet")
    pa.parquet.write_table(table.replace_schema_metadata(meta), tmp_path / "train.parquet")
    for read in (sources.read(tmp_path), sources.read(tmp_path / "train.parquet")):
        assert entities(read) == [[("Ann Lee", "PER")], [("Bo", "PER")]]
        assert reasons(read) == {"unknown_label": 1}
    folder = tmp_path / "saved" / "train"
    folder.mkdir(parents=True)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as sink:
        sink.write_table(table)
    read = sources.read(tmp_path / "saved")
    assert (entities(read), read.counts()) == ([[("Ann Lee", "PER")], [("Bo", "PER")]], {"train": 2})


def test_tables_with_a_word_a_row(tmp_path: Path) -> None:
    path = tmp_path / "ner.csv"
    path.write_text('Sentence #,Word,POS,Tag\nSentence: 1,EU,NNP,B-org\n,rejects,VBZ,O\nSentence: 2,"Peter, B",NNP,B-per\n,NA,,\n')
    table = sources.read(path)
    assert entities(table) == [[("EU", "org")]]
    assert {(entry.item, entry.reason) for entry in table.ledger} == {("ner.csv:4", "blank_label")}
    assert "words are read from 'Word', tags from 'Tag', 'Sentence #' says which text it is of" in messages_of(table)
    path.write_text("sentence_id,token,label\n0,EU,B-org\n0,x,O\n1,EU,B-org\n1,y,O\n")
    assert [words(sources.read(path), at) for at in (0, 1)] == [["EU", "x"], ["EU", "y"]]
    table = sources.read_unlabelled(path, "text", RunColumns(schema=Schema(text=("token",), label=("label",), text_count=1)), target=TAGS)
    assert table.inputs == ["ner.csv:2", "ner.csv:4"]
    path.write_text("token,label\nEU,B-org\nx,O\n")
    with pytest.raises(DataError, match="no column says which text a word is of"):
        sources.read(path)


@pytest.mark.parametrize(
    ("words_cell", "tags_cell"),
    [
        ("EU rejects it 's", "B-ORG O O O"),
        ("['EU', 'rejects', 'it', \"'s\"]", "['B-ORG', 'O', 'O', 'O']"),
        ("['EU' 'rejects' 'it' \"'s\"]", "['B-ORG' 'O' 'O' 'O']"),
        ('["EU", "rejects", "it", "\'s"]', "B-ORG,O,O,O"),
    ],
)
def test_tables_with_the_tags_in_a_cell(tmp_path: Path, words_cell: str, tags_cell: str) -> None:
    rows: list[list[object]] = [
        [words_cell, tags_cell if "," not in tags_cell or tags_cell[0] == "[" else f"[{tags_cell}]"] for _ in range(3)
    ]
    table_of(tmp_path / "a.csv", ["tokens", "tags"], [*rows, ["one two", "O"]])
    table = sources.read(tmp_path / "a.csv")
    assert entities(table)[0] == [("EU", "ORG")]
    assert words(table) == ["EU", "rejects", "it", "'s"]
    assert reasons(table) == {"other_tags": 1}
    table_of(tmp_path / "new.csv", ["tokens"], [[words_cell]])
    new = sources.read_unlabelled(tmp_path / "new.csv", "text", RunColumns(schema=replace(table.schema, text_count=1)), target=TAGS)
    assert new.rows[0].text == ("EU rejects it 's",)


def test_plain_tags_in_a_cell_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    table_of(tmp_path / "a.csv", ["text", "tags"], [["we go home", "PRON VERB NOUN"], ["go home", "VERB NOUN"]] * 3)
    assert tags(sources.read(tmp_path / "a.csv", Columns(label="tags"), target=TAGS))[0] == ("PRON", "VERB", "NOUN")
    assert sources.read(tmp_path / "a.csv").task == "classification"


def test_a_run_reads_words_where_its_column_holds_them(tmp_path: Path) -> None:
    path = lines(tmp_path / "new.jsonl", [{"tokens": ["Ann", "Lee"]}, {"tokens": ["Bo", "'s"]}])
    table = sources.read_unlabelled(path, "text", RunColumns(schema=Schema(text=("tokens",), text_count=1)), target=TAGS)
    assert [row.text for row in table.rows] == [("Ann Lee",), ("Bo 's",)]
    (tmp_path / "new.conll").write_text(NAMES)
    table = sources.read_unlabelled(tmp_path / "new.conll", "text", RunColumns(schema=Schema(text_count=1)), target=TAGS)
    assert (len(table.rows), words(table)) == (3, ["EU", "rejects", "German", "call"])
    assert sources.read_unlabelled(tmp_path / "new.conll", "text", Columns()).layout != table.layout, (
        "only runs that predict tags look for them"
    )


def test_renaming_a_type_renames_its_tags() -> None:
    target = TaggedWords(("B-per", "I-per", "O"), (Entity(0, 7, "per"),))
    assert TAGS.renamed(target, {"per": "PER"}) == TaggedWords(("B-PER", "I-PER", "O"), (Entity(0, 7, "PER"),))
