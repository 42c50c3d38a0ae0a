"""The README's commands, taken from its text and typed at the real command line, on data made on the spot; the guides' settings."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
from pathlib import Path

import pytest

from pretune import recipe
from pretune.cli.main import parse
from tests.audio_files import write_tones
from tests.command_line import pretune
from tests.data_files import sentences, table_of
from tests.test_flows import folder, picture

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def commands(about: str, page: Path = README) -> list[list[str]]:
    """Return the words of a page's pretune commands that name some data, in order."""
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^(?:\.venv/bin/)?pretune (.*)$", fenced, re.MULTILINE)
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if any(re.search(rf"\b{about}\b", word) for word in words)]


def typed(words: list[str]) -> str:
    return pretune(*words).stdout


def score(run: Path) -> float:
    return json.loads((run / "metrics.json").read_text())["primary"]["value"]


def told(out: str) -> list[str]:
    return [row["prediction"] for row in csv.DictReader(out.splitlines())]


def test_photos(home: Path) -> None:
    folder(home / "photos" / "train", 12)
    folder(home / "photos" / "test", 6)
    (home / "new_photos").mkdir()
    for name, kind in (("a", "disc"), ("b", "square")):
        picture(kind, 500).save(home / "new_photos" / f"{name}.png")
    audit, finetune, predict, evaluate = (words for words in commands("photos|new_photos") if "=" not in " ".join(words))
    assert "disc" in typed(audit)
    typed(finetune)
    assert (home / predict[1] / "report.html").exists(), "the run is called what the README says"
    assert len(told(typed(predict))) == 2
    assert score(home / predict[1]) >= 0.7
    typed(evaluate)


def test_texts(home: Path) -> None:
    table_of(home / "reviews.csv", ["review", "verdict"], sentences(30))
    table_of(home / "new_reviews.csv", ["review"], [["a nice cake"], ["the coffee was cold"]])
    finetune, predict = commands("reviews|new_reviews")
    typed(finetune)
    assert told(typed(predict)) == ["good", "bad"]
    assert score(home / predict[1]) >= 0.8


def test_sounds(home: Path) -> None:
    write_tones(home / "clips", 12)
    write_tones(home / "new", 1, seed=7)
    (home / "new" / "low").rename(home / "new_clips")
    finetune, predict = commands("clips|new_clips")
    typed(finetune)
    assert told(typed(predict)) == ["low"]
    assert score(home / predict[1]) >= 0.8


def test_a_corpus(home: Path) -> None:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "the", "tree"]
    lines = [" ".join(words[(i * 7 + k) % len(words)] for k in range(9)) for i in range(120)]
    draw = random.Random(0)  # what resembles the posts that are held out is not learned from
    others = [a + b for a in ("ba", "ko", "mi", "tu", "re", "sal") for b in ("nd", "rk", "le", "mp", "st")]
    (home / "corpus.txt").write_text(".\n".join(" ".join(draw.choices(words + others, k=9)) for _ in range(120)))
    (home / "posts.csv").write_text("text,label\n" + "".join(f"{line},{'cat' if 'cat' in line else 'none'}\n" for line in lines))
    pretrain, generate, finetune, gain = commands("corpus|corpus-causal-001")
    small = ["max_tokens=16", "epochs=1", "backbone=scratch:gpt,width=16,layers=1,heads=2"]
    typed([*pretrain, *small])
    assert typed(generate).startswith("The cat")
    typed(finetune)
    assert "pretrained" in typed([*gain, *small, "seeds=1", "then_epochs=1", "--json"])


PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("words", [words for page in PAGES for words in commands("finetune", page)], ids=" ".join)
def test_every_setting_that_is_shown_exists(words: list[str]) -> None:
    given = parse(words)
    assert recipe.read_recipe(given.words[0], given.recipes, given.settings).data == given.words[0]
