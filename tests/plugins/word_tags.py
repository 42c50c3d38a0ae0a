"""One tag for each word of a text: token classification, as for names of people and places."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.evaluation import metrics
from pretune.evaluation.sums import CLASSES, Sums, cell_sums, ratio
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities.text import Text
from pretune.sources.target_type import ParsedLabels, TargetType
from pretune.tasks import Examples, Line, LossSettings, Passage, Space, Task
from pretune.types import Layout, Row

NONE = -100
"""Label of a position that begins no word: special tokens and the later pieces of a word."""


@dataclass(frozen=True, kw_only=True)
class Tags(TargetType):
    """A cell holds the tags of a text's words, in order, with spaces between them: 'O O place'."""

    def parse(self, values: list[Any], column: str) -> ParsedLabels:
        """Split each cell; an empty one is dropped."""
        out = ParsedLabels(type=self, values=[tuple(str(value or "").split()) for value in values])
        for index, tags in enumerate(out.values):
            if not tags:
                out.drop(index, "blank_label", f"has no tags in {column!r}")
        out.messages.append(f"{column!r} holds one tag for each word of the text.")
        return out

    def fault(self, row: Row) -> tuple[str, str] | None:
        """Refuse a row with more or fewer tags than words."""
        words, tags = len(words_of(row)), len(row.target) if isinstance(row.target, tuple) else 0
        return None if words == tags else ("other_tags", f"has {tags} tags for {words} words")


@dataclass(frozen=True, kw_only=True)
class WordTags(Task):
    """A tag for each word, read from the word's first token."""

    primary: ClassVar[str] = "macro_f1"
    reads: ClassVar[TargetType] = Tags()
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing",)

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> Space:
        """Return the tags of the training rows."""
        seen = {tag for row in rows if isinstance(row.target, tuple) for tag in row.target}
        return Space(classes=tuple(name for name in classes if name in seen))

    def encode(self, rows: Sequence[Row], space: Space, modality: Any) -> Labels:
        """Return the tag of each position (T_i,) of the tokenized texts; NONE where no word begins, or its tag is unknown."""
        index, out = {name: i for i, name in enumerate(space.classes)}, []
        for row in rows:
            assert isinstance(row.target, tuple)
            places, length = first_tokens(row, modality)
            tags = torch.full((length,), NONE)
            for word, place in places.items():
                tags[place] = index.get(row.target[word], NONE)
            out.append(tags)
        return Labels.of(Ragged.of(out))

    def truth(self, labels: Labels, space: Space) -> list[NDArray[Any]]:
        """Return each text's tags (T_i,)."""
        return [tags.numpy() for tags in split(labels["target"])]

    def outputs(self, space: Space) -> int:
        """One output a tag, at each position."""
        return len(space.classes)

    def loss(self, space: Space, labels: Labels, settings: LossSettings) -> Any:
        """Cross-entropy of the positions that have a tag; class weights are N / (C · n_c)."""
        weight = None
        if settings.class_weights:
            (tags,) = (one.values for one in labels.tensors.values() if isinstance(one, Ragged))
            counts = torch.bincount(tags[tags != NONE], minlength=len(space.classes)).clamp(min=1)
            weight = counts.sum() / (len(counts) * counts.float())

        def cross_entropy(outputs: Tensor, targets: Labels) -> Tensor:
            tags = targets["target"]
            assert isinstance(tags, Ragged)
            wanted = tags.padded(NONE, outputs.shape[1])
            return F.cross_entropy(outputs.flatten(0, 1), wanted.flatten(), weight=weight, ignore_index=NONE)

        return cross_entropy

    def decode(self, outputs: Outputs, space: Space) -> list[NDArray[Any]]:
        """Return each text's probabilities (T_i, C)."""
        return [one.double().softmax(1).numpy() for one in split(outputs)]

    def metrics(self, decoded: list[NDArray[Any]], truth: list[NDArray[Any]], space: Space) -> dict[str, Any]:
        """Return the metrics of words, and the share of texts in which all are right."""
        probabilities, tags, _ = flat(decoded, truth)
        found = metrics.classification(probabilities, tags, list(space.classes))
        kept = {key: found[key] for key in ("macro_f1", "accuracy", "balanced_accuracy", "log_loss", "per_class", "confusion")}
        whole = [bool((p.argmax(1) == t)[t != NONE].all()) for p, t in zip(decoded, truth, strict=True)]
        return {**kept, "text_accuracy": float(np.mean(whole))}

    def sums(self, decoded: list[NDArray[Any]], truth: list[NDArray[Any]], space: Space) -> list[Sums]:
        """Return the hits, words and predictions of each tag, summed over each text: the words of a text are resampled together."""
        probabilities, tags, text = flat(decoded, truth)
        words = cell_sums(tags, probabilities.argmax(1), len(space.classes))
        per_text = np.zeros((len(truth), words.shape[1]))
        np.add.at(per_text, text, words)
        wrong = np.bincount(text, weights=probabilities.argmax(1) != tags, minlength=len(truth))
        whole = np.stack([np.ones(len(truth)), wrong == 0], 1).astype(float)
        return [
            Sums(sums=per_text, statistics=CLASSES),
            Sums(sums=whole, statistics={"text_accuracy": ratio(1, 0)}, kinds={"text_accuracy": "hits"}),
        ]

    def floors(self, train: Examples, held_out: Examples, space: Space, model: Any) -> dict[str, dict[str, Any]]:
        """Return the most frequent tag for every word, and the most frequent tag of each word by itself."""
        counts = Counter(int(tag) for tags in train.truth for tag in tags if tag != NONE)
        share = np.array([counts[c] for c in range(len(space.classes))], dtype=float) / counts.total()
        by_word: dict[str, NDArray[Any]] = defaultdict(lambda: share.copy())
        for word, _, tag in words_in(train):
            by_word[word] += np.eye(len(space.classes))[tag]
        known = [np.tile(share, (len(tags), 1)) for tags in held_out.truth]
        for word, (text, place), _ in words_in(held_out):
            known[text][place] = by_word[word] / by_word[word].sum() if word in by_word else share
        most = [np.tile(share, (len(tags), 1)) for tags in held_out.truth]
        return {
            "majority": self.floor(
                f"always the most frequent tag in training, {space.classes[int(share.argmax())]}", most, held_out, space
            ),
            "lexicon": self.floor("the most frequent tag of each word in training", known, held_out, space),
        }

    def describe(self, decoded: list[NDArray[Any]], space: Space, rows: Sequence[Row] = (), modality: Any = None) -> list[dict[str, Any]]:
        """Return the tags of each text's words; a word that was cut off has the tag '?'."""
        out = []
        for row, probabilities in zip(rows, decoded, strict=True):
            places, _ = first_tokens(row, modality)
            tags = [
                space.classes[int(probabilities[places[word]].argmax())] if word in places else "?" for word in range(len(words_of(row)))
            ]
            sure = [float(probabilities[place].max()) for place in places.values()]
            words = [match.group() for match in words_of(row)]
            told = [{"word": word, "tag": tag} for word, tag in zip(words, tags, strict=True)]
            out.append({"prediction": " ".join(tags), "confidence": min(sure, default=0.0), "words": told})
        return out

    def shown(self, target: Any) -> str:
        """Return tags as the data have them."""
        return " ".join(target)

    def badness(self, row: Mapping[str, str]) -> float:
        """Return the share of words with a wrong tag."""
        pairs = list(zip(row["target"].split(), row["prediction"].split(), strict=True))
        return sum(true != told for true, told in pairs) / max(1, len(pairs))

    def compare(self, row: Mapping[str, str], text: str) -> list[Line]:
        """Return the words with their tags, as they are and as they are predicted."""
        tags = {"target": row["target"].split(), "prediction": row["prediction"].split()}
        other = {"target": ("missing", tags["prediction"]), "prediction": ("wrong", tags["target"])}
        return [
            Line(
                name=name,
                passages=tuple(
                    Passage(text=f"{word} ", mark="" if tag == "O" else "right" if tag == beside else other[name][0], label=tag)
                    for word, tag, beside in zip(text.split(), found, other[name][1], strict=False)
                ),
            )
            for name, found in tags.items()
        ]


def words_of(row: Row) -> list[re.Match[str]]:
    """Return the words of a row's text."""
    return list(re.finditer(r"\S+", row.text[0] if row.text else ""))


def first_tokens(row: Row, modality: Text) -> tuple[dict[int, int], int]:
    """Return the position of each word's first token, of those that were not cut off, and how many positions there are."""
    spans = modality.spans(row.text[0] if row.text else "")
    places: dict[int, int] = {}
    for number, word in enumerate(words_of(row)):
        inside = np.flatnonzero((spans[:, 0] < word.end()) & (spans[:, 1] > word.start()))
        if len(inside):
            places[number] = int(inside[0])
    return places, len(spans)


def words_in(examples: Examples) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Yield the tagged words of some examples: the word, its text and position, and its tag."""
    for text, (row, tags) in enumerate(zip(examples.rows, examples.truth, strict=True)):
        for word, place in zip(words_of(row), np.flatnonzero(tags != NONE), strict=False):
            yield word.group().casefold(), (text, int(place)), int(tags[place])


def split(outputs: Outputs) -> tuple[Tensor, ...]:
    """Return what belongs to each text."""
    assert isinstance(outputs, Ragged)
    return outputs.split()


def flat(decoded: list[NDArray[Any]], truth: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return probabilities (W, C) and tags (W,) of all tagged words, and the text (W,) that each is of."""
    tagged = [tags != NONE for tags in truth]
    text = np.repeat(np.arange(len(truth)), [int(one.sum()) for one in tagged])
    probabilities = np.concatenate([p[one] for p, one in zip(decoded, tagged, strict=True)])
    return probabilities, np.concatenate([t[one] for t, one in zip(truth, tagged, strict=True)]), text
