"""Names that others chose hide nothing where a person reads them: terminal, tables, JSON, shell lines, names of files."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretune.cli import main
from pretune.cli.terminal import Terminal
from pretune.commands import resume_line
from pretune.errors import DataError
from pretune.printable import file_name, json_text, path_word, printable, shell_word
from pretune.recipe import Recipe
from pretune.training.run_dir import RunDir, to_csv
from tests import saved_runs

HOSTILE = {
    "\x1b[2Jgone": "\\x1b[2Jgone",
    "photo\u202egpj.exe": "photo\\u202egpj.exe",
    "two\nlines\r\t": "two\\nlines\\r\\t",
    "\x9b31mC1\x7f": "\\x9b31mC1\\x7f",
    "\u2066isolated\u2069": "\\u2066isolated\\u2069",
    "zero\u200bwidth\ufeff": "zero\\u200bwidth\\ufeff",
    "line\u2028paragraph\u2029": "line\\u2028paragraph\\u2029",
    "soft\u00adhyphen": "soft\\xadhyphen",
    "no utf-8 \udcff": "no utf-8 \\xff",
    "tags \U000e0041": "tags \\U000e0041",
}
ORDINARY = ["cat.jpg", "C:\\photos\\x1b", "Ünïcode", "東京　駅", "می‌خواهم", "👩‍🌾", "a b", "-1.5", "=1+1", "a,b;c\"d'e", ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_seen_is_written_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = HOSTILE[name]
    assert printable(name) == shown
    assert str(DataError(f"{name}: is wrong")) == f"{shown}: is wrong"
    terminal = Terminal(stdout=True)
    terminal.say(name)
    terminal.warn(name)
    assert capsys.readouterr().out == f"{shown}\n! {shown}\n"
    assert to_csv(["id", name], [{"id": name, name: 0.5}]) == "".join(f"{line}\n" for line in (f"id,{shown}", f"{shown},0.5"))
    for indent in (None, 1):
        text = json_text({"name": [name]}, indent=indent)
        assert json.loads(text) == {"name": [name]}
        assert printable(text, keep="\n") == text


@pytest.mark.parametrize("name", ORDINARY)
def test_what_can_be_seen_stays_as_it_is(name: str) -> None:
    assert printable(name) == name
    assert next(csv.reader(io.StringIO(to_csv([name or "x"], [])))) == [name or "x"]
    assert json_text([name]) == json.dumps([name], ensure_ascii=False)


def test_what_a_model_writes_keeps_its_lines() -> None:
    assert printable("one\n\ttwo \x1b[1m", keep="\n\t") == "one\n\ttwo \\x1b[1m"


@pytest.mark.parametrize("name", [*HOSTILE, *ORDINARY, "it's", "$(touch ran) `ls`", "\\'\x1b"])
def test_a_shell_line_is_readable_and_pasted_it_is_the_same_name(name: str) -> None:
    word = shell_word(name)
    assert printable(word) == word
    out = subprocess.run(
        ["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    ).stdout
    assert out == name.encode("utf-8", "surrogateescape" if name != "tags" else "strict")


def test_a_path_is_no_option_and_the_line_that_resumes_is_printable() -> None:
    assert path_word("-rf") == "./-rf"
    assert path_word("a b") == "'a b'"
    line = resume_line(Recipe.from_settings("-\x1bdata", label="\u202e"), Path("out;ls"))
    assert line == r"pretune finetune $'./-\x1bdata' $'label=\xe2\x80\xae' 'out=out;ls' resume=true"


@pytest.mark.parametrize("name", ["../../../x", "/etc/passwd", "a/b\\c", "..", ".hidden", "x" * 300, "é" * 90, "\x1b\u202e", "", "con: \0"])
def test_the_name_of_a_file_stays_in_its_folder(name: str) -> None:
    part = file_name(name)
    assert "/" not in part
    assert not part.startswith(".")
    assert len(part.encode()) <= 100
    assert (Path("folder") / f"{part}-000.png").parent == Path("folder")


def test_files_of_a_run_hold_hostile_names(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    told = {name: [name] for name in HOSTILE}
    folder.write_json("metrics.json", told)
    assert folder.read_json("metrics.json") == told
    folder.append_events([{"event": "warned", "phase": "p", "step": 1, "message": name} for name in HOSTILE])
    assert [event["message"] for event in folder.events()] == list(HOSTILE)
    for name in ("metrics.json", "events.jsonl"):
        text = (tmp_path / name).read_text()
        assert printable(text, keep="\n") == text


# --- through the command line ---------------------------------------------------------------------------


def test_predictions_show_hostile_names_and_json_keeps_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved_runs.classifier(home / "run", names=["an\x1bt", "be\u202ee"])
    photos = saved_runs.photos(home / "photos", names=["x"], each=1)
    (photos / "x" / "0.png").rename(photos / "x" / "\x1b[31m\u202egnp.png")
    (photos / "x" / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    assert main(["predict", str(run), str(photos)]) == 0
    out, err = capsys.readouterr()
    assert printable(out, keep="\n") == out
    assert printable(err, keep="\n") == err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["id"] for row in rows} == {"x/\\x1b[31m\\u202egnp.png", "x/\\xff.png"}
    assert {"p_an\\x1bt", "p_be\\u202ee"} <= rows[0].keys()
    assert main(["predict", str(run), str(photos), "--json"]) == 0
    out = capsys.readouterr().out
    assert printable(out, keep="\n") == out
    assert {row["id"] for row in json.loads(out)["predictions"]} == {"x/\x1b[31m\u202egnp.png", "x/\\xff.png"}


def test_a_terminal_without_a_letter_shows_its_number(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved_runs.classifier(home / "run", names=["Ameise", "東京"])
    photos = saved_runs.photos(home / "photos", names=["é"], each=1)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["predict", str(run), str(photos)]) == 0
    text = out.buffer.getvalue()
    assert b"p_\\u6771\\u4eac" in text
    assert b"\\xe9/0.png" in text


@pytest.mark.parametrize("as_json", [False, True])
def test_a_refusal_shows_hostile_names(home: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    assert main(["audit", "no\x1bsuch\u202efolder", *(["--json"] if as_json else [])]) == 2
    out, err = capsys.readouterr()
    assert "no\\x1bsuch\\u202efolder" in err
    assert printable(out + err, keep="\n") == out + err


def test_generated_files_stay_in_their_folder_and_keep_earlier_ones(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = home / "a" / "b" / "c"
    inside.mkdir(parents=True)
    os.chdir(inside)
    outside = str(home / "outside")
    run = saved_runs.painter(home / "run", names=["../../../x", outside, "plain"])
    before = {path for path in home.rglob("*") if inside not in path.parents}
    assert main(["generate", str(run), "count=3", "out=made"]) == 0
    first = {path: path.read_bytes() for path in (inside / "made").iterdir()}
    assert len(first) == 3
    assert {path for path in home.rglob("*") if inside not in path.parents} == before
    (inside / "made" / "x-003.png").symlink_to(home / "elsewhere")
    assert main(["generate", str(run), "count=3", "seed=1", "out=made"]) == 0
    assert {path: path.read_bytes() for path in first} == first
    assert len(list((inside / "made").iterdir())) == 7
    monkeypatch.setattr("pretune.cli.generate._first_number", lambda _: 0)  # as where two processes begin at once
    assert main(["generate", str(run), "count=3", "seed=2", "out=made"]) == 0
    assert {path: path.read_bytes() for path in first} == first
    assert len(list((inside / "made").iterdir())) == 10
    assert not (home / "elsewhere").exists()
    capsys.readouterr()
    (inside / "file").touch()
    assert main(["generate", str(run), "out=file"]) == 2
    assert "out=file is a file" in capsys.readouterr().err
