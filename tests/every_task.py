"""Tiny data and tiny networks for each registered task: what tests that hold for every task run on."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import box_data, spoken_data

TEXT = "backbone=scratch:transformer,width=16,layers=1,heads=2"
GPT = "backbone=scratch:gpt,width=16,layers=1,heads=2,max_tokens=48,units=character"
SPEECH = "backbone=scratch:audiolstm,units=8,layers=1,mels=20"
IMAGE = ("backbone=scratch:cnn,width=8,depth=1", "image_size=32")
SAME = ("strategy=scratch", "batch_size=8", "precision=float32", "threads=1", "seed=1")
NAMES = ("anna", "jack", "mary", "omar", "paul", "rosa")
PLACES = ("paris", "rome", "lima", "oslo", "cairo", "delhi")
THINGS = ("ship", "lamp", "door", "book", "coat", "bird")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task with data that it learns from in a second."""

    write: Callable[[Path], None]
    """Writes the training data into the working folder."""
    data: str
    """Their path."""
    settings: tuple[str, ...]
    """Network and what else the task needs."""
    inputs: Callable[[Path, bool], str]
    """Writes three inputs without labels under a folder, the second bad or left out, and returns their path."""
    named: bool = False
    """Whether the same data are another task's where nobody names this one."""


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def split(number: int) -> str:
    """Return the split of an example: each fourth is held out."""
    return "val" if number % 4 == 0 else "train"


def sentence(number: int) -> tuple[str, str, str]:
    """Return a text that no other number has, with the person and the place in it."""
    draw = random.Random(number)
    name, place = draw.choice(NAMES), draw.choice(PLACES)
    return f"we met {name} in {place} on day {number}", name, place


def classified(home: Path) -> None:
    """Write texts of two classes."""
    rows = [[sentence(i)[0], "ab"[sentence(i)[1] < "l"], split(i)] for i in range(48)]
    table(home / "data.csv", ["text", "label", "split"], rows)


def labelled(home: Path) -> None:
    """Write texts with any number of labels."""
    found = [sentence(i) for i in range(48)]
    labels = [[name for name, there in (("early", name < "l"), ("south", place < "m")) if there] for _, name, place in found]
    lines(home / "data.jsonl", [{"text": found[i][0], "labels": labels[i], "split": split(i)} for i in range(48)])


def counted(home: Path) -> None:
    """Write texts with numbers."""
    rows = [[sentence(i)[0], NAMES.index(sentence(i)[1]) + 0.25 + i / 100, split(i)] for i in range(48)]
    table(home / "data.csv", ["text", "score", "split"], rows)


def tagged(home: Path) -> None:
    """Write texts with spans."""
    records = []
    for i in range(48):
        text, name, place = sentence(i)
        spans = [[text.index(word), text.index(word) + len(word), kind] for word, kind in ((name, "PER"), (place, "LOC"))]
        records.append({"text": text, "entities": spans, "split": split(i)})
    lines(home / "data.jsonl", records)


def related(home: Path) -> None:
    """Write queries and their passages."""
    pairs = [(f"{name} {thing}", i) for i, (name, thing) in enumerate((a, b) for a in NAMES for b in THINGS)]
    rows = [[f"how is {what} made", f"a guide to {what} number {i}", split(i)] for what, i in pairs]
    table(home / "data.csv", ["anchor", "positive", "split"], rows)


def prompted(home: Path) -> None:
    """Write prompts with answers."""
    found = [sentence(i) for i in range(48)]
    lines(
        home / "data.jsonl",
        [{"prompt": text[:30], "completion": f"{name} {i}", "split": split(i)} for i, (text, name, _) in enumerate(found)],
    )


def preferred(home: Path) -> None:
    """Write prompts with a preferred answer and a rejected one."""
    found = [sentence(i) for i in range(48)]
    records = [
        {"prompt": text[:30], "chosen": f"{name} {i}", "rejected": f"{place} {i}", "split": split(i)}
        for i, (text, name, place) in enumerate(found)
    ]
    lines(home / "data.jsonl", records)


def translated(home: Path) -> None:
    """Write texts with their translations."""
    found = [sentence(i) for i in range(48)]
    lines(home / "data.jsonl", [{"en": text, "de": f"{place} {name}", "split": split(i)} for i, (text, name, place) in enumerate(found)])


def summarised(home: Path) -> None:
    """Write documents with summaries."""
    records = []
    for i in range(48):
        text, name, place = sentence(i)
        records.append(
            {"document": f"{text}. We show that {name} is in {place}. It was late.", "summary": f"{name} is in {place}", "split": split(i)}
        )
    lines(home / "data.jsonl", records)


def spoken(home: Path) -> None:
    """Write clips with transcripts."""
    spoken_data.manifest(home, 32)


def spoken_to_a_decoder(home: Path) -> None:
    """Write clips with transcripts, and a network that writes what is said in them."""
    spoken(home)
    spoken_data.whisper(home / "whisper")


def boxed(home: Path) -> None:
    """Write images with boxes."""
    box_data.write_voc(home / "shapes", 24)
    for part in ("train", "val"):
        path = home / "shapes" / "ImageSets" / "Main" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{number:03d}\n" for number in range(24) if split(number) == part))


def texts(folder: Path, bad: bool) -> str:
    """Write texts, of which the second is empty."""
    table(folder / "new.csv", ["text"], [["we met anna in rome"], *([[""]] if bad else []), ["we met nobody"]])
    return str(folder / "new.csv")


def queries(folder: Path, bad: bool) -> str:
    """Write texts that search, of which the second is empty."""
    table(folder / "new.csv", ["anchor"], [["how is rosa ship made"], *([[""]] if bad else []), ["a bird"]])
    return str(folder / "new.csv")


def prompts(folder: Path, bad: bool) -> str:
    """Write prompts, of which the second is empty."""
    lines(folder / "new.jsonl", [{"prompt": text} for text in ("we met anna", *([""] if bad else []), "we met")])
    return str(folder / "new.jsonl")


def sentences(folder: Path, bad: bool) -> str:
    """Write sentences to translate, of which the second is empty."""
    lines(folder / "new.jsonl", [{"en": text} for text in ("we met anna", *([""] if bad else []), "we met")])
    return str(folder / "new.jsonl")


def documents(folder: Path, bad: bool) -> str:
    """Write documents, of which the second is empty."""
    found = ("We met anna. It was late.", *([""] if bad else []), "We saw that it rains, all day.")
    lines(folder / "new.jsonl", [{"document": text} for text in found])
    return str(folder / "new.jsonl")


def clips(folder: Path, bad: bool) -> str:
    """Write clips, of which the second is none."""
    spoken_data.write(folder, ["lo hi", "hi", "hi lo"])
    (folder / "001.wav").write_bytes(b"RIFF nothing") if bad else (folder / "001.wav").unlink()
    return str(folder)


def images(folder: Path, bad: bool) -> str:
    """Write images, of which the second is none."""
    for number in (0, 2):
        box_data.scene(100 + number)[0].save(folder / f"{number}.png")
    if bad:
        (folder / "1.png").write_bytes(b"\xff\xd8\xff nothing")
    return str(folder)


CASES: dict[str, Case] = {
    "classification": Case(write=classified, data="data.csv", settings=(TEXT,), inputs=texts),
    "multilabel": Case(write=labelled, data="data.jsonl", settings=(TEXT,), inputs=texts),
    "regression": Case(write=counted, data="data.csv", settings=(TEXT, "task=regression"), inputs=texts),
    "token_classification": Case(write=tagged, data="data.jsonl", settings=(TEXT,), inputs=texts),
    "retrieval": Case(write=related, data="data.csv", settings=(TEXT,), inputs=queries),
    "text_generation": Case(
        write=prompted, data="data.jsonl", settings=(GPT, "task=text_generation", "task.max_new_tokens=4"), inputs=prompts
    ),
    "dpo": Case(write=preferred, data="data.jsonl", settings=(GPT, "task=dpo", "task.max_new_tokens=4"), inputs=prompts),
    "translation": Case(
        write=translated,
        data="data.jsonl",
        settings=(TEXT, "task=translation", "task.beams=2", "task.max_new_tokens=4", "head=decoder", "head.layers=1"),
        inputs=sentences,
    ),
    "summarisation": Case(
        write=summarised,
        data="data.jsonl",
        settings=(GPT.replace("48", "120"), "task.max_new_tokens=4", "task=summarisation"),
        inputs=documents,
    ),
    "speech_recognition": Case(write=spoken, data="metadata.csv", settings=(SPEECH, "augment=none"), inputs=clips),
    "speech_seq2seq": Case(
        write=spoken_to_a_decoder,
        data="metadata.csv",
        settings=("backbone=transformers:whisper", "task=speech_seq2seq"),
        inputs=clips,
        named=True,
    ),
    "detection": Case(write=boxed, data="shapes", settings=IMAGE, inputs=images),
}
"""By the task's name; a new task adds one."""
