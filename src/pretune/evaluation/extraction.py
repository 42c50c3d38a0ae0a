"""Summaries that need no network: the first sentences of a text, and the sentences that a linear model chooses.

The model scores each sentence by features that extraction has long used (H. P. Edmundson, "New Methods in Automatic Extracting", 1969;
J. Kupiec et al., "A Trainable Document Summarizer", 1995): where it stands, how long it is, how near it is to the whole text in TF-IDF, and
its own words ("we show", "in this paper"). It is fitted on how well each sentence of the training texts would do as the summary, by ROUGE.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import linear, overlap
from pretune.evaluation.linear import LinearModel
from pretune.evaluation.sentences import clauses, has_no_spaces, sentences
from pretune.modalities import BaselineFeatures, Modality

UnitName = Literal["sentences", "clauses"]
UNITS: dict[str, Callable[[str], list[str]]] = {"sentences": sentences, "clauses": clauses}
MOST = 5
"""Sentences of a summary at most."""
_TEXTS = 2_000
"""Training texts at most that the model is fitted on."""
_CANDIDATES = 40_000
"""Sentences at most of these, about."""
_FIRST = 200
"""Sentences of one text that are looked at: its first."""
_HELD_OUT = 4
"""One in so many training texts chooses between sentences and clauses, and how many of them."""
_FEWEST = 8
"""Training texts below which nothing is learned."""
_DENSE = 0.1
"""Weight of the standardised dense features beside rows of TF-IDF of length 1."""
_EPSILON = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Texts with the summaries that people wrote for them."""

    texts: Sequence[str]
    references: Sequence[Sequence[str]]
    """Of each text one or more."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Pairs:
        """Return some of them."""
        return Pairs(texts=[self.texts[at] for at in places], references=[self.references[at] for at in places])


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The first sentences of a text as its summary."""

    count: int
    """How many."""

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"the first {f'{self.count} sentences' if self.count > 1 else 'sentence'} of the text"

    def summaries(self, texts: Sequence[str]) -> list[str]:
        """Return the first sentences of each text; the text itself where it has none."""
        return [joined(sentences(text)[: self.count]) or text.strip() for text in texts]


def lead(train: Pairs) -> Lead:
    """Return the lead with as many sentences as are best on training texts by ROUGE-1; one of none."""
    few = train.take(range(min(len(train), _TEXTS)))
    scores = {count: overlap.rouge(Lead(count=count).summaries(few.texts), few.references)[:, 0].mean() for count in range(1, MOST + 1)}
    best = max(scores, key=lambda count: (scores[count], -count)) if len(few) else 1
    return Lead(count=best)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A linear model that chooses sentences, or clauses."""

    unit: UnitName
    count: int
    """How many are chosen."""
    modality: Modality
    """Whose classical features describe the words."""
    words: BaselineFeatures
    """TF-IDF of the words of a sentence, fitted on training sentences."""
    frequencies: Frequencies
    bins: Floats
    """(K,) lengths in words between which a sentence is counted as of one size."""
    mean: Floats
    """(D,) of the dense features in training."""
    deviation: Floats
    """(D,)."""
    model: LinearModel
    fitted: int
    """Training texts that it was fitted on."""

    @property
    def what(self) -> str:
        """What it is, for people."""
        chosen = f"{self.count} {self.unit}" if self.count > 1 else self.unit[:-1]
        features = f"position, length, centrality and {self.words.words}"
        return f"the best {chosen} of the text by a linear model of {features}, fitted on {self.fitted:,} training texts"

    def summaries(self, texts: Sequence[str]) -> list[str]:
        """Return the chosen sentences of each text in their order; the text itself where it has none."""
        parts = [UNITS[self.unit](text)[:_FIRST] for text in texts]
        scores = iter(np.split(self.scores(parts), np.cumsum([len(one) for one in parts])[:-1]) if parts else [])
        return [chosen(one, next(scores), self.count) or text.strip() for one, text in zip(parts, texts, strict=True)]

    def scores(self, parts: Sequence[Sequence[str]]) -> Floats:
        """Return the score of each sentence (S,) of all texts."""
        if not any(parts):
            return np.zeros(0)
        return self.model.scores(self._features(parts))[:, 0]

    def _features(self, parts: Sequence[Sequence[str]]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        dense = (dense_features(parts, self.frequencies, self.bins) - self.mean) / self.deviation
        words = self.words.features([one for text in parts for one in text])
        return hstack([csr_matrix(_DENSE * dense), words], format="csr")

    # --- saving ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what `arrays` does not hold, JSON-ready."""
        return {"unit": self.unit, "count": self.count, "fitted": self.fitted, "words": self.words.settings()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its numbers, by name."""
        own = {"bins": self.bins, "mean": self.mean, "deviation": self.deviation, "weight": self.model.weight, "bias": self.model.bias}
        return own | self.frequencies.arrays() | {f"words.{name}": array for name, array in self.words.arrays().items()}

    @classmethod
    def read(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], modality: Modality) -> Extractor:
        """Return the extractor that was saved.

        Raises:
            KeyError: a part of it is missing.
            ValueError: its parts make no sense together.
        """
        unit, count, fitted = settings["unit"], settings["count"], settings["fitted"]
        if unit not in UNITS or not (isinstance(count, int) and 1 <= count <= MOST) or not isinstance(fitted, int):
            raise ValueError(f"it chooses {count!r} {unit!r}")
        own = {name.removeprefix("words."): array for name, array in arrays.items() if name.startswith("words.")}
        words = modality.load_baseline_features(settings["words"], own)
        bins, mean, deviation = (arrays[name].astype(np.float64) for name in ("bins", "mean", "deviation"))
        weight, bias = arrays["weight"], arrays["bias"]
        width = len(mean) + (words.width or 0)
        dense = dense_features([["a"]], Frequencies.read(arrays), bins).shape[1] if bins.ndim == 1 else -1
        if (
            mean.shape != (dense,)
            or deviation.shape != (dense,)
            or weight.shape != (width, 1)
            or bias.shape != (1,)
            or (deviation <= 0).any()
        ):
            raise ValueError(f"its shapes do not fit {width} columns")
        return cls(
            unit=unit,
            count=count,
            modality=modality,
            words=words,
            frequencies=Frequencies.read(arrays),
            bins=bins,
            mean=mean,
            deviation=deviation,
            model=LinearModel(weight=weight, bias=bias),
            fitted=fitted,
        )


def fit(train: Pairs, modality: Modality, seed: int = 0) -> Extractor | None:
    """Return the extractor of some training texts; None where there are too few, or the texts have one sentence each.

    One in four of them chooses between sentences and clauses, and how many; then it is fitted on all.

    Args:
        train: texts with their summaries.
        modality: of texts; its classical features describe words.
        seed: of the sample, where there are many texts.
    """
    if len(train) < _FEWEST:
        return None
    order = np.random.default_rng(seed).permutation(len(train))[:_TEXTS]
    counted = np.cumsum([len(sentences(train.texts[at])[:_FIRST]) for at in order])
    train = train.take(order[: max(_FEWEST, int(np.searchsorted(counted, _CANDIDATES)))])
    if all(len(clauses(text)) < 2 for text in train.texts):
        return None
    held_out = np.arange(len(train)) % _HELD_OUT == 0
    trial, asked = train.take(np.flatnonzero(~held_out)), train.take(np.flatnonzero(held_out))
    tried: dict[tuple[UnitName, int], float] = {}
    strengths: dict[UnitName, float] = {}
    for unit in _worth(train):
        model, strengths[unit] = _fitted(trial, unit, modality)
        parts = [UNITS[unit](text)[:_FIRST] for text in asked.texts]
        scores = np.split(model.scores(parts), np.cumsum([len(one) for one in parts])[:-1])
        for count in range(1, MOST + 1 if unit == "sentences" else 2):
            summaries = [chosen(one, own, count) for one, own in zip(parts, scores, strict=True)]
            tried[unit, count] = float(overlap.rouge(summaries, asked.references).mean())
    unit, count = max(tried, key=lambda one: (tried[one], -one[1]))
    found, _ = _fitted(train, unit, modality, strengths[unit])
    return replace(found, count=count)


def _worth(train: Pairs) -> tuple[UnitName, ...]:
    """Return what may be chosen: clauses only where summaries are shorter than sentences."""
    words = overlap.Words()
    of_summaries = np.median([len(words.tokenize(one)) for own in train.references for one in own])
    of_sentences = np.median([len(words.tokenize(one)) for text in train.texts[:200] for one in sentences(text)[:_FIRST]] or [0])
    return ("sentences", "clauses") if of_summaries < 0.8 * of_sentences else ("sentences",)


def _fitted(train: Pairs, unit: UnitName, modality: Modality, strength: float | None = None) -> tuple[Extractor, float]:
    """Return a model of one unit, fitted on how well each would do as the summary, and the inverse penalty, chosen where none is given."""
    from scipy.sparse import csr_matrix, hstack

    tokenize = overlap.Words().tokenize
    parts = [UNITS[unit](text)[:_FIRST] for text in train.texts]
    listed = [one for text in parts for one in text]
    owner = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
    references = [[tokenize(one) for one in own] for own in train.references]
    worth = np.array([overlap.quick_rouge(tokenize(one), references[at]) for one, at in zip(listed, owner, strict=True)])
    frequencies = Frequencies.of(train.texts)
    bins = _bins([len(one) for own in references for one in own])
    dense = dense_features(parts, frequencies, bins)
    mean, deviation = dense.mean(0), np.maximum(dense.std(0), _EPSILON)
    words, rows = modality.fit_baseline_features(listed)
    x = hstack([csr_matrix(_DENSE * (dense - mean) / deviation), rows], format="csr")
    linear_fit = linear.fit_linear("squared", x, worth[:, None], owner % linear.FOLDS, strength)
    extractor = Extractor(
        unit=unit,
        count=1,
        modality=modality,
        words=words,
        frequencies=frequencies,
        bins=bins,
        mean=mean,
        deviation=deviation,
        model=linear_fit.model,
        fitted=len(train),
    )
    return extractor, linear_fit.strength


def chosen(parts: Sequence[str], scores: Floats, count: int) -> str:
    """Return the sentences with the highest scores, in their order."""
    return joined([parts[at] for at in sorted(np.argsort(-scores, kind="stable")[:count])])


def joined(parts: Sequence[str]) -> str:
    """Return sentences as one text, with a space between two where their script has it."""
    gaps = ("" if has_no_spaces(before[-1:] + after[:1]) else " " for before, after in itertools.pairwise(parts))
    return "".join(itertools.chain(parts[:1], *zip(gaps, parts[1:], strict=True)))


# --- features ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """In how many training texts each word occurs."""

    keys: NDArray[np.int64]
    """(W,) hashes of the words, rising."""
    idf: NDArray[np.float32]
    """(W,) inverse document frequencies."""
    unknown: float
    """That of a word of no training text."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Frequencies:
        """Count the words of some texts; those of one text only are as unknown ones."""
        tokenize = overlap.Words().tokenize
        counts = Counter(_key(word) for text in texts for word in set(tokenize(text)))
        kept = sorted(key for key, count in counts.items() if count > 1)
        total = len(texts)
        idf = np.log((1 + total) / (1 + np.array([counts[key] for key in kept], dtype=float))) + 1
        return cls(keys=np.array(kept, np.int64), idf=idf.astype(np.float32), unknown=float(np.float32(np.log(1 + total) + 1)))

    def weights(self) -> dict[int, float]:
        """Return the inverse document frequency of each known word's hash."""
        return dict(zip(self.keys.tolist(), self.idf.tolist(), strict=True))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return them by name."""
        return {"frequencies.keys": self.keys, "frequencies.idf": self.idf, "frequencies.unknown": np.array([self.unknown], np.float32)}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]]) -> Frequencies:
        """Return what `arrays` gave.

        Raises:
            ValueError: the arrays do not fit each other.
        """
        keys, idf, unknown = (arrays[f"frequencies.{name}"] for name in ("keys", "idf", "unknown"))
        if keys.ndim != 1 or keys.shape != idf.shape or unknown.shape != (1,):
            raise ValueError("its word frequencies do not fit each other")
        return cls(keys=keys.astype(np.int64), idf=idf.astype(np.float32), unknown=float(unknown[0]))


def _key(word: str) -> int:
    """Return a hash of a word that is the same in every process."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def _bins(lengths: Sequence[int]) -> Floats:
    """Return lengths that tell sentences of the size of summaries from others."""
    low, quarter, half, more, high = np.quantile(lengths, [0.05, 0.25, 0.5, 0.75, 0.95]) if lengths else np.ones(5)
    return np.unique(np.round([low / 2, low, quarter, half, more, high, 1.5 * high, 2.5 * high]))


def dense_features(parts: Sequence[Sequence[str]], frequencies: Frequencies, bins: Floats) -> Floats:
    """Return what is known of each sentence but its words, (S, D): place, length, nearness to the text, to its first sentence."""
    idf = frequencies.weights()
    rows = [row for text in parts for row in _of_text(text, idf, frequencies.unknown, bins)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1)


def _of_text(parts: Sequence[str], idf: Mapping[int, float], unknown: float, bins: Floats) -> list[list[float]]:
    tokenize, last = overlap.Words().tokenize, max(1, len(parts) - 1)
    words = [[_key(word) for word in tokenize(one)] for one in parts]
    counts = Counter(key for one in words for key in one)
    whole = {key: (1 + np.log(count)) * idf.get(key, unknown) for key, count in counts.items()}
    length = float(np.sqrt(sum(value**2 for value in whole.values()))) + _EPSILON
    first, out = set(words[0]) if words else set(), []
    for at, one in enumerate(words):
        own = {key: (1 + np.log(count)) * idf.get(key, unknown) for key, count in Counter(one).items()}
        size = float(np.sqrt(sum(value**2 for value in own.values()))) + _EPSILON
        near = sum(value * whole[key] for key, value in own.items()) / size / length
        place, many = at / last, max(1, len(one))
        out.append(
            [
                *(float(at == k) for k in range(4)),
                *(float(len(parts) - 1 - at == k) for k in range(4)),
                *(place, place**2, abs(place - 0.5)),
                float(np.log1p(len(one))),
                *(float(low <= len(one)) for low in bins),
                *(near, near**2, near * float(np.log1p(len(one)))),
                sum(counts[key] > 1 for key in one) / many,
                sum(idf.get(key, unknown) for key in one) / many,
                sum(key in first for key in own) / max(1, len(own)),
                float(any(character.isdigit() for character in parts[at])),
            ]
        )
    return out
