"""Delimited files as programs and people export them: lines above the header, delimiters at the end, quotes of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pretune.errors import DataError
from pretune.sources import sources
from pretune.sources.readers.dispatch import read_records
from pretune.sources.readers.quoting import Quoting, divide
from pretune.sources.table import Columns, Table
from tests.data_files import messages_of, reasons

LABELS = ("bad", "good")


def sentence(i: int) -> str:
    return f"the {('cold', 'nice')[i % 2]} meal number {i} was served today"


def read(tmp_path: Path, content: str, name: str = "r.csv", **named: str) -> Table:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return sources.read(path, Columns(**named))


def body(line: Callable[[int], str] = lambda i: f"{sentence(i)},{LABELS[i % 2]}\n", count: int = 20) -> str:
    return "".join(map(line, range(count)))


def check(table: Table, count: int = 20) -> None:
    """All texts with their labels, and nothing else."""
    assert [row.text for row in table.rows] == [(sentence(i),) for i in range(count)]
    assert [row.target for row in table.rows] == [LABELS[i % 2] for i in range(count)]


# --- the header ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "words"),
    [
        ("Export of 2024-01-01,\n,\ntext,label\n", "above the header ignored ('Export of 2024-01-01')"),
        ("My reviews\n\ntext,label\n", "1 line above the header ignored"),
        ("Report:,Sales\nDate:,2024-01-01\n\ntext,label\n", "2 lines above the header ignored"),
        ("# exported by me, today\n# two columns\ntext,label\n", "2 lines above the header ignored"),
        ("#text,label\n", "text is 'text'"),
        ('"sep=,"\ntext,label\n', "separated by commas (sep=)"),
        ("Bericht\nKommentar,Bewertung\n", "text is 'Kommentar', label is 'Bewertung'"),
    ],
)
def test_lines_above_the_header(tmp_path: Path, above: str, words: str) -> None:
    table = read(tmp_path, above + body())
    check(table)
    assert words in messages_of(table)
    assert table.rows[0].id == f"r.csv:{above.count(chr(10)) + 1}", "numbered as in the file"


def test_titles_over_unknown_names(tmp_path: Path) -> None:
    above = "Bericht:;Umsatz\nDatum:;1.1.2024\nKommentar;Bewertung;Quelle\n"
    table = read(tmp_path, above + body(lambda i: f"{sentence(i)};{LABELS[i % 2]};web{i}\n"))
    check(table)
    assert table.columns == {"text": "Kommentar", "label": "Bewertung"}


@pytest.mark.parametrize("sep", [";", "|", "^", "\t"])
def test_a_sep_line_names_any_delimiter(tmp_path: Path, sep: str) -> None:
    table = read(tmp_path, f"\ufeffsep={sep}\r\nKommentar{sep}Bewertung\r\n" + body(lambda i: f"{sentence(i)}{sep}{LABELS[i % 2]}\r\n"))
    check(table)
    assert table.columns == {"text": "Kommentar", "label": "Bewertung"}


@pytest.mark.parametrize("sign", ["::", "||", " ||| ", "~", "^", "\x01"])
def test_rare_delimiters(tmp_path: Path, sign: str) -> None:
    table = read(tmp_path, f"text{sign}label\n" + body(lambda i: f"{sentence(i)}{sign}{LABELS[i % 2]}\n"))
    check(table)
    assert table.columns == {"text": "text", "label": "label"}


def test_a_sign_that_nobody_knows_can_be_named(tmp_path: Path) -> None:
    content = "text!label\n" + body(lambda i: f"{sentence(i)}!{LABELS[i % 2]}\n")
    with pytest.raises(DataError, match="in a first line: sep=X"):
        read(tmp_path, content)
    check(read(tmp_path, "sep=!\n" + content))


@pytest.mark.parametrize("every", [1, 3])
def test_texts_that_begin_with_a_hash_are_no_comments(tmp_path: Path, every: int) -> None:
    table = read(tmp_path, body(lambda i: f"{'#' * (i % every == 0)}{sentence(i)},{LABELS[i % 2]}\n"))
    assert [row.text for row in table.rows] == [("#" * (i % every == 0) + sentence(i),) for i in range(20)]


def test_a_header_between_the_data_is_left_out_and_said(tmp_path: Path) -> None:
    table = read(tmp_path, "text,label\n" + body(count=10) + "Text , Label\n" + body(lambda i: f"{sentence(i + 10)},{LABELS[i % 2]}\n", 10))
    check(table)
    assert reasons(table) == {"repeated_header": 1}
    assert "repeated header line" in messages_of(table)


# --- delimiters at the end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "end"), [("text,label", ","), ("text,label", ",,"), ("text,label,", ""), ("text,label,", ","), ("text,label", ", ")]
)
def test_a_delimiter_at_the_end_of_a_line_shifts_nothing(tmp_path: Path, header: str, end: str) -> None:
    table = read(tmp_path, header + "\n" + body(lambda i: f"{sentence(i)},{LABELS[i % 2]}{end}\n"))
    check(table)
    assert not table.ledger


def test_row_names_are_found_and_columns_without_name_refused(tmp_path: Path) -> None:
    check(read(tmp_path, "text,label\n" + body(lambda i: f"{i + 1},{sentence(i)},{LABELS[i % 2]}\n")))
    with pytest.raises(DataError, match=r"most lines have 3 fields, and the header names 2 .* Put quotes around"):
        read(tmp_path, "text,label\n" + body(lambda i: f"{sentence(i)}, really,{LABELS[i % 2]}\n"))


# --- quotes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (r"a \"so\", he said", 'a "so", he said'),
        ('a \\"so\\" and ""so"" too', 'a "so" and "so" too'),
        ('a 12" screen', 'a 12" screen'),
        ('a 12", wide', 'a 12", wide'),
        ('a 12" screen\nwith two lines', 'a 12" screen\nwith two lines'),
        ('a ""so"", he said', 'a "so", he said'),
        ("in C:\\dir\\", "in C:\\dir\\"),
    ],
)
@pytest.mark.parametrize("sep", [",", ";"])
def test_quotes_inside_quoted_fields(tmp_path: Path, written: str, read_as: str, sep: str) -> None:
    lines = body(lambda i: f'"{sentence(i)} {written if i % 4 == 0 else i}"{sep}"{LABELS[i % 2]}"\n')
    table = read(tmp_path, f'"text"{sep}"label"\n{lines}')
    assert table.classes == LABELS
    assert [row.text for row in table.rows] == [(f"{sentence(i)} {read_as if i % 4 == 0 else i}",) for i in range(20)]


@pytest.mark.parametrize(("mark", "gap"), [('"', " "), ("'", "")])
def test_spaces_before_quotes_and_single_quotes(tmp_path: Path, mark: str, gap: str) -> None:
    def line(text: str, label: str) -> str:
        return f"{mark}{text}{mark},{gap}{mark}{label}{mark}\n"

    table = read(tmp_path, line("text", "label") + body(lambda i: line(sentence(i), LABELS[i % 2])))
    check(table)
    assert table.columns == {"text": "text", "label": "label"}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('"a 12" b","c"', ['a 12" b', "c"]),
        ('"a 12", b","c"', ['a 12", b', "c"]),
        ('"a" he said,c', ['"a" he said', "c"]),
        ('a,"b" c', ["a", '"b" c']),
        ('"a,b', ['"a', "b"]),
        ('"a" b', None),
    ],
)
def test_a_line_with_stray_quotes_is_divided_by_its_width(line: str, fields: list[str] | None) -> None:
    assert divide(line, Quoting(delimiter=","), 2) == fields


# --- columns of one name -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["label", "Label"])
def test_columns_of_one_name_are_asked_for_where_they_differ(tmp_path: Path, name: str) -> None:
    content = f"text,label,{name}\n" + body(lambda i: f"{sentence(i)},{'xy'[i // 2 % 2]},{LABELS[i % 2]}\n")
    second = "label.1" if name == "label" else name
    with pytest.raises(DataError, match=rf"columns .*label=label.* or label={second}"):
        read(tmp_path, content)
    assert read(tmp_path, content, label="label").classes == ("x", "y")
    check(read(tmp_path, content, label=second))


def test_copies_of_a_column_are_one(tmp_path: Path) -> None:
    table = read(tmp_path, "text,label,label\n" + body(lambda i: f"{sentence(i)},{LABELS[i % 2]},{LABELS[i % 2]}\n"))
    check(table)
    assert "hold the same; one is read" in messages_of(table)


def test_quotes_after_a_comma_and_a_space_inside_a_field_are_text(tmp_path: Path) -> None:
    """Nothing is said of spaces that were ignored, and none are."""
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"He said, ""no"" to her",a\n"plain",b\n' + '"so, ""yes""",a\n')
    records = read_records(path)
    assert records.column("text") == ['He said, "no" to her', "plain", 'so, "yes"']
    assert not any("spaces" in message for message in records.messages)
    path.write_text('text, label\n"one, two", "a"\n"three", "b, c"\n')
    spaced = read_records(path)
    assert [*spaced.columns, *spaced.column("label")] == ["text", "label", "a", "b, c"]
    assert any("the spaces after its delimiters were ignored" in message for message in spaced.messages)
