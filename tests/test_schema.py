"""The columns of the training data, looked for again when a run predicts or is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pretune.errors import DataError, PretuneError, SettingError
from pretune.sources import sources
from pretune.sources.schema import Schema
from pretune.sources.table import Columns, RunColumns, Table
from pretune.training.run_dir import RunDir
from tests.data_files import messages_of, put, sentences, table_of

LONG = "a long text that says nothing at all about it, again and again and again"


def trained(path: Path, **named: str) -> Schema:
    """What a run trained on `path` remembers, saved and read back."""
    table = sources.read(path, Columns(**named))
    return Schema.from_json(table.schema.to_json(), table.classes)


def predicted(file: Path, schema: Schema, *, modality: str = "text", **named: str) -> Table:
    return sources.read_unlabelled(file, modality, RunColumns(schema=schema, **named))


def evaluated(file: Path, schema: Schema, *, modality: str = "text", **named: str) -> Table:
    return sources.read(file, RunColumns(schema=schema, **named), modality=modality, learn=False)


@pytest.fixture
def titles(tmp_path: Path) -> Schema:
    """Trained on `title` and `label`."""
    return trained(table_of(tmp_path / "train.csv", ["title", "label"], sentences()))


@pytest.fixture
def pairs(tmp_path: Path) -> Schema:
    """Trained on pairs."""
    rows = [["a short premise", *row] for row in sentences()]
    return trained(table_of(tmp_path / "pairs.csv", ["premise", "hypothesis", "label"], rows))


def test_the_column_of_the_training_data_is_read_and_not_the_longest(tmp_path: Path, titles: Schema) -> None:
    table = predicted(table_of(tmp_path / "new.csv", ["id", "Title", "body"], [[1, "a nice meal", LONG]]), titles)
    assert table.rows[0].text == ("a nice meal",)
    assert "text is 'Title' as in training" in messages_of(table)
    path = table_of(tmp_path / "eval.csv", ["category", "body", "title", "label"], [["x", LONG, *row] for row in sentences()])
    table = evaluated(path, titles)
    assert table.columns == {"text": "title", "label": "label"}


def test_a_missing_column_is_refused_with_what_there_is_and_the_cure(tmp_path: Path, titles: Schema) -> None:
    path = table_of(tmp_path / "new.csv", ["id", "headline", "url"], [[1, "a nice meal", "http://x.org/" + "y" * 90]])
    with pytest.raises(DataError, match=r"column 'title', and it has no column 'title' \(columns: id, headline, url\).*text=COLUMN"):
        predicted(path, titles)
    assert predicted(path, titles, text="headline").rows[0].text == ("a nice meal",)
    path = table_of(tmp_path / "eval.csv", ["title", "mood"], sentences())
    with pytest.raises(DataError, match=r"its label from column 'label'.*columns: title, mood.*label=COLUMN"):
        evaluated(path, titles)
    assert evaluated(path, titles, label="mood").columns["label"] == "mood"


def test_pairs_are_read_as_pairs_or_not_at_all(tmp_path: Path, titles: Schema, pairs: Schema) -> None:
    assert pairs.text_count == 2
    path = table_of(tmp_path / "new.csv", ["hypothesis", "id", "premise"], [["a nice meal", 1, "it was good"]])
    assert predicted(path, pairs).rows[0].text == ("it was good", "a nice meal")
    one = table_of(tmp_path / "one.csv", ["premise"], [["it was good"]])
    with pytest.raises(DataError, match="no column 'hypothesis'"):
        predicted(one, pairs)
    with pytest.raises(DataError, match=r"reads pairs of texts.*text=FIRST,SECOND"):
        predicted(one, pairs, text="premise")
    (tmp_path / "lines.txt").write_text("one text\nanother text\n")
    put(tmp_path / "folder", "a.txt", content=b"one text")
    for path in (tmp_path / "lines.txt", tmp_path / "folder"):
        with pytest.raises(DataError, match="reads pairs of texts"):
            predicted(path, pairs)
    with pytest.raises(DataError, match="reads one text per example"):
        predicted(tmp_path / "new.csv", titles, text="premise,hypothesis")
    with pytest.raises(SettingError, match=r"holds no file names\. For text in the table itself: text=premise"):
        predicted(tmp_path / "new.csv", titles, path="premise")


def test_lines_with_commas_are_texts_and_not_a_table(tmp_path: Path, titles: Schema) -> None:
    (tmp_path / "lines.txt").write_text("a nice meal, really\na cold meal, sadly\n" * 5)
    assert predicted(tmp_path / "lines.txt", titles).rows[0].text == ("a nice meal, really",)
    (tmp_path / "single.txt").write_text("a nice meal")
    assert predicted(tmp_path / "single.txt", titles).rows[0].text == ("a nice meal",)
    (tmp_path / "table.txt").write_text("title,body\n" + f"a nice meal,{LONG.replace(',', '')}\n" * 5)
    assert predicted(tmp_path / "table.txt", titles).rows[0].text == ("a nice meal",)


def test_tables_without_a_header_are_known_by_their_places(tmp_path: Path, titles: Schema) -> None:
    rows = [[label, i, f"{text}, number {i}, with more words"] for i, (text, label) in enumerate(sentences())]
    schema = trained(table_of(tmp_path / "train.csv", None, rows), label="column1")  # type: ignore[arg-type]
    assert (schema.text, schema.width) == (("column3",), 3)
    assert predicted(table_of(tmp_path / "same.csv", None, rows), schema).rows[0].text == (rows[0][2],)
    narrow = table_of(tmp_path / "narrow.csv", None, [row[1:] for row in rows])
    with pytest.raises(DataError, match=r"it has no header line.*text=COLUMN"):
        predicted(narrow, schema)
    assert predicted(narrow, schema, text="column2").rows[0].text == (rows[0][2],)
    with pytest.raises(DataError, match="it has no header line"):
        predicted(narrow, titles)
    only = table_of(tmp_path / "only.csv", None, [[f"the {i}th text of them all, read alone"] for i in range(5)])
    assert len(predicted(only, titles).rows) == 5


def test_files_are_found_by_name_or_where_only_one_column_holds_them(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i}.jpg" for i in range(8)), *(f"m{i}.png" for i in range(8)))
    schema = trained(table_of(tmp_path / "train.csv", ["photo", "label"], [[f"{i}.jpg", "ab"[i % 2]] for i in range(8)]))
    both = table_of(tmp_path / "new.csv", ["path", "photo"], [[f"m{i}.png", f"{i}.jpg"] for i in range(8)])
    assert [row.id for row in predicted(both, schema, modality="image").rows][:2] == ["0.jpg", "1.jpg"]
    renamed = table_of(tmp_path / "renamed.csv", ["id", "shot"], [[i, f"{i}.jpg"] for i in range(8)])
    assert "'shot' is its only column of files" in messages_of(predicted(renamed, schema, modality="image"))
    two = table_of(tmp_path / "two.csv", ["shot", "mask"], [[f"{i}.jpg", f"m{i}.png"] for i in range(8)])
    with pytest.raises(DataError, match=r"no column 'photo' \(columns: shot, mask\).*path=COLUMN"):
        predicted(two, schema, modality="image")
    assert predicted(two, schema, modality="image", path="mask").rows[0].id == "m0.png"
    texts = table_of(tmp_path / "texts.csv", ["title"], [["a nice meal"]])
    with pytest.raises(DataError, match="no column 'photo'"):
        predicted(texts, schema, modality="image")
    with pytest.raises(SettingError, match="the examples are images"):
        predicted(texts, schema, modality="image", text="title")


def test_a_run_of_folders_finds_its_classes_in_a_table(tmp_path: Path) -> None:
    put(tmp_path / "train", *(f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(4)))
    schema = trained(tmp_path / "train")
    assert schema.content == ()
    rows = [[f"train/cat/{i}.jpg", "raw", "cat"] for i in range(4)] + [["train/dog/1.jpg", "web", "dog"]]
    path = table_of(tmp_path / "a.csv", ["file", "category", "what"], rows)  # type: ignore[arg-type]
    assert evaluated(path, schema, modality="image").columns["label"] == "what"
    path = table_of(tmp_path / "b.csv", ["file", "guess", "what"], [[row[0], row[2], row[2]] for row in rows])
    with pytest.raises(DataError, match="label=guess or label=what"):
        evaluated(path, schema, modality="image")


def test_the_label_column_goes_before_folders(tmp_path: Path) -> None:
    names = [f"photos/{c}/{i}.jpg" for c in ("indoor", "outdoor") for i in range(4)]
    put(tmp_path, *names)
    table_of(tmp_path / "labels.csv", ["file", "label"], [[name, "ab"[i % 2]] for i, name in enumerate(names)])
    schema = trained(tmp_path, label="label")
    assert schema.label == ("label",)
    assert {row.target for row in evaluated(tmp_path, schema, modality="image").rows} == {"a", "b"}


def test_old_runs_take_what_their_audit_lists(tmp_path: Path) -> None:
    schema = Schema.from_columns({"text": "title", "label": "label"})
    path = table_of(tmp_path / "new.csv", ["title", "body"], [["a nice meal", LONG]])
    assert predicted(path, schema).rows[0].text == ("a nice meal",)
    nothing = Schema.from_columns({})
    with pytest.raises(DataError, match="text=body or text=title"):
        predicted(path, nothing)
    table = predicted(table_of(tmp_path / "one.csv", ["id", "body"], [[i, f"{LONG} {i}"] for i in range(4)]), nothing)
    assert "does not record a text column; body of one.csv was read" in messages_of(table)


@pytest.mark.parametrize("settings", [{"txt": "a"}, {"group": "a"}])
def test_unknown_settings_of_evaluate_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    from pretune import api

    with pytest.raises(PretuneError, match="evaluate has no setting"):
        api.evaluate(tmp_path, tmp_path, **settings)


def test_a_saved_run_reads_its_columns_and_says_so(home: Path) -> None:
    import pretune as pt
    from pretune import api
    from pretune.runner.reporter import Noted, Silent

    rows = sentences()
    settings: dict[str, Any] = {"backbone": "scratch:textcnn", "strategy": "scratch", "epochs": 1, "threads": 1, "out": "run"}
    run = pt.finetune(table_of(home / "train.csv", ["title", "label"], rows), **settings)
    path = table_of(home / "new.csv", ["id", "body", "title", "label"], [[i, LONG, *row] for i, row in enumerate(rows)])
    alone = table_of(home / "alone.csv", ["title"], [row[:1] for row in rows])
    messages_of = Noted(Silent())
    answers = [row["probabilities"] for row in api.predict(run.path, path, reporter=messages_of)]
    assert answers == [row["probabilities"] for row in run.predict(alone)]
    assert answers != [row["probabilities"] for row in run.predict(path, text="body")]
    assert messages_of.notes == ["new.csv: text is 'title' as in training; not used: id, body, label."]
    assert run.evaluate(path)["columns"] == {"text": "title", "label": "label"}
    with pytest.raises(DataError, match="has no examples of part=test"):
        run.evaluate(path, part="test")
    saved = RunDir(run.path).read_json("model.json")
    RunDir(run.path).write_json("model.json", {key: value for key, value in saved.items() if key != "schema"})  # as it was before
    assert answers == [row["probabilities"] for row in run.predict(path)]
