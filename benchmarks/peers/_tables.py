"""Reads the TSV files of a data folder: text, tab, label."""

from pathlib import Path


def read_split(data, name):
    """Return the texts and labels of train.tsv or test.tsv."""
    lines = [line.rsplit("\t", 1) for line in Path(data, f"{name}.tsv").read_text(encoding="utf-8").splitlines()]
    return [text for text, _ in lines], [label for _, label in lines]
