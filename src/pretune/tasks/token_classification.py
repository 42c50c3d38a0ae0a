"""A tag for each word of a text: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretune.errors import DataError
from pretune.evaluation import entities, tagger
from pretune.evaluation.sums import CLASSES, Sums, ratio
from pretune.labels import Labels, Outputs, Ragged
from pretune.modalities import Modality
from pretune.modalities.text import Text
from pretune.models.learner import Loss
from pretune.sources.tags import OUTSIDE, TAGS, Entity, SchemeName, TaggedWords, Tags, entities_of, read_entities, written
from pretune.sources.target_type import TargetType
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Task
from pretune.tasks._marked import Line, Passage
from pretune.tasks._suggestion import Suggestion
from pretune.tasks._tags import NONE, TagSpace, TagTruth, counted, figures_of_tags, iob2, known_tags, tagged
from pretune.tasks._windows import pieces_of, rejoined
from pretune.tasks._words import WordPlaces, places_of, words_in
from pretune.types import Layout, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone

_LEAST_STEPS = 200
_SHIFTS = (0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0, -4.0, 0.5, 1.0)
"""What is tried as the weight of O, in nats."""


@dataclass(frozen=True, kw_only=True)
class TokenClassification(Task):
    """A tag for each word, predicted at its first token; entities are what IOB2 allows of the likeliest tags."""

    reads: ClassVar[TargetType] = TAGS
    space: ClassVar[type[Space]] = TagSpace
    layout: ClassVar[Layout] = "sequence"
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    suggests: ClassVar[Suggestion] = Suggestion(
        strategy="full", why="a probe on frozen features finds far fewer entities, F1 0.55 against 0.70 on tweets"
    )
    untuned: ClassVar[str] = "the probability of O counts as it is"
    scheme: SchemeName | None = None
    """How tags mark entities: iob1, iob2, bioes (also BILOU and BMES), io; none for plain tags, as parts of speech; auto recognises it."""

    @property
    def primary(self) -> str:  # ty: ignore[incompatible-property-override]
        """F1 of whole entities; of plain tags the mean F1 over tags."""
        return "macro_f1" if self.scheme == "none" else "entity_f1"

    @property
    def target_type(self) -> TargetType:
        """Tags of the scheme that is set."""
        kind = super().target_type
        assert isinstance(kind, Tags)
        return replace(kind, scheme=self.scheme)

    def suited(self, target: TargetType) -> TokenClassification:
        """Return the task with the scheme that the data were read by."""
        return replace(self, scheme=target.scheme) if isinstance(target, Tags) else self

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """More epochs of few texts: after fewer steps hardly any word is predicted as anything but O."""
        return {} if strategy == "linear_probe" else {"least_steps": _LEAST_STEPS}

    # --- targets -----------------------------------------------------------------------------

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> TagSpace:
        """Return the types of the training rows' entities with their IOB2 tags, or their plain tags.

        Raises:
            DataError: the training rows have no entity, or only one tag.
        """
        targets = [row.target for row in rows if isinstance(row.target, TaggedWords)]
        seen = {name for target in targets for name in target.names}
        kept = tuple(name for name in classes if name in seen)
        if self.scheme == "none":
            if len(kept) < 2:
                raise DataError(f"the training texts have only one tag ({', '.join(kept)}), so there is nothing to learn.")
            return TagSpace(classes=kept, tags=kept)
        if not kept:
            raise DataError("the training texts have no entity: every word has the tag O. Add texts with entities.")
        return TagSpace(classes=kept, tags=iob2(kept))

    def pieces(self, row: Row, modality: Modality) -> list[Row]:
        """Return a text in pieces of at most as many tokens as the network is shown, cut at ends of sentences."""
        return pieces_of(row, modality)

    def rejoined(self, row: Row, modality: Modality, pieces: Sequence[Row], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the words and entities of all pieces, by the characters of the whole text."""
        assert isinstance(modality, Text)
        return rejoined(modality.text_in(row), pieces, answers)

    def encode(self, rows: Sequence[Row], space: TagSpace, modality: Modality) -> Labels:
        """Return for each position (T_i,) its tag, `target`, and its word, `words`; how often each class (K,) is not shown, `lost`."""
        tag_of = {name: at for at, name in enumerate(space.tags)}
        tags, numbers, lost = [], [], torch.zeros(len(rows), len(space.classes), dtype=torch.float64)
        for row, counts in zip(rows, lost, strict=True):
            assert isinstance(row.target, TaggedWords)
            places = places_of(row, modality)
            words = known_tags(row.target, places, counts, space)
            out, number = np.full(places.length, NONE), np.zeros(places.length, np.int64)
            shown = places.leads
            out[places.first[shown]] = [tag_of.get(words[at], NONE) for at in shown]
            number[places.first[shown]] = shown
            tags.append(torch.from_numpy(out))
            numbers.append(torch.from_numpy(number))
        return Labels({"target": Ragged.of(tags), "words": Ragged.of(numbers), "lost": lost})

    def truth(self, labels: Labels, space: TagSpace) -> list[TagTruth]:
        """Return each text's tags, and what it has lost."""
        lost = labels["lost"]
        assert isinstance(lost, Tensor)
        parts = zip(_split(labels["target"]), _split(labels["words"]), lost.double().numpy(), strict=True)
        return [TagTruth(tags.numpy(), words.numpy(), gone) for tags, words, gone in parts]

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: TagSpace) -> int:
        """One output for each tag, at each position."""
        return len(space.tags)

    def loss(self, space: TagSpace, labels: Labels, settings: LossSettings) -> Loss:
        """Cross-entropy over the words that have a tag; class weights are N / (C · n_c)."""
        weight = None
        if settings.class_weights:
            tags = labels["target"]
            assert isinstance(tags, Ragged)
            counts = torch.bincount(tags.values[tags.values != NONE], minlength=len(space.tags)).clamp(min=1)
            weight = counts.sum() / (len(counts) * counts.float())

        def cross_entropy(outputs: Tensor, targets: Labels) -> Tensor:
            tags = targets["target"]
            assert isinstance(tags, Ragged)
            wanted = tags.padded(NONE, outputs.shape[1])
            weights = None if weight is None else weight.to(outputs.device)
            smoothing = settings.label_smoothing
            whole = F.cross_entropy(
                outputs.flatten(0, 1), wanted.flatten(), weights, ignore_index=NONE, reduction="sum", label_smoothing=smoothing
            )
            return whole / (wanted != NONE).sum().clamp(min=1)

        return cross_entropy

    def decode(self, outputs: Outputs, space: TagSpace) -> list[NDArray[np.float64]]:
        """Return each text's log-probabilities (T_i, C)."""
        return [one.double().log_softmax(1).numpy() for one in _split(outputs)]

    @property
    def tunes(self) -> bool:
        """Whether the weight of O is chosen after training: most words are O, so networks find too few entities."""
        return self.scheme != "none"

    def tuned(self, decoded: list[NDArray[Any]], truth: list[TagTruth], space: TagSpace) -> tuple[TagSpace, str]:
        """Return the space with what is added to the log-probability of O where the F1 of entities is best."""
        tried = {shift: self._f1(decoded, truth, replace(space, outside=shift)) for shift in _SHIFTS}
        best = max(_SHIFTS, key=lambda shift: (tried[shift], -abs(shift)))
        if tried[best] <= tried[0.0]:
            return space, "the probability of O counts as it is: no other weight finds entities better"
        figures = f"entity F1 {tried[best]:.3f} instead of {tried[0.0]:.3f}"
        return replace(space, outside=best), f"O is predicted where it is {np.exp(-best):.2g} times as likely as another tag: {figures}"

    def _f1(self, decoded: list[NDArray[Any]], truth: list[TagTruth], space: TagSpace) -> float:
        true, predicted = tagged(decoded, truth, space)
        lost = np.array([one.lost for one in truth])
        return entities.figures(counted(true, predicted, lost, space), space.classes)["entity_f1"] or 0.0

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: list[NDArray[Any]], truth: list[TagTruth], space: TagSpace) -> Figures:
        """Return the metrics of entities or of plain tags, and the share of words and of texts that are right."""
        true, predicted = tagged(decoded, truth, space)
        lost = np.array([one.lost for one in truth])
        right = sum(int((a == b).sum()) for a, b in zip(true, predicted, strict=True))
        words = sum(map(len, true))
        gone = lost.sum() if not space.marks else 0.0
        whole = [bool((a == b).all()) and not one.lost.any() for a, b, one in zip(true, predicted, truth, strict=True)]
        shared = {
            "token_accuracy": right / (words + gone) if words + gone else None,
            "text_accuracy": float(np.mean(whole)) if whole else None,
        }
        if space.marks:
            return entities.figures(counted(true, predicted, lost, space), space.classes) | shared
        return figures_of_tags(true, predicted, lost, space) | shared

    def sums(self, decoded: list[NDArray[Any]], truth: list[TagTruth], space: TagSpace) -> list[Sums]:
        """Return what is right, true and predicted in each text: the words of a text are resampled together."""
        true, predicted = tagged(decoded, truth, space)
        lost = np.array([one.lost for one in truth]).reshape(len(truth), -1)
        wrong = [bool((a != b).any()) or one.lost.any() for a, b, one in zip(true, predicted, truth, strict=True)]
        texts = np.stack([np.ones(len(truth)), ~np.array(wrong, dtype=bool)], 1).astype(float)
        counts = counted(true, predicted, lost, space)
        words = np.array([[len(a), (a == b).sum()] for a, b in zip(true, predicted, strict=True)], dtype=float).reshape(len(truth), 2)
        words[:, 0] += 0 if space.marks else lost.sum(1)
        main = entities.sums_of(counts, space.classes) if space.marks else Sums(sums=counts, statistics={"macro_f1": CLASSES["macro_f1"]})
        return [
            main,
            Sums(sums=words, statistics={"token_accuracy": ratio(1, 0)}),
            Sums(sums=texts, statistics={"text_accuracy": ratio(1, 0)}, kinds={"text_accuracy": "hits"}),
        ]

    def floors(self, train: Examples, held_out: Examples, space: TagSpace, model: Any) -> dict[str, Figures]:
        """Return the most frequent tag, the most frequent tag of each word, and a linear tagger."""
        space = replace(space, outside=0.0)  # which was chosen for the network
        texts, tags = _words_and_tags(train)
        counts = Counter(int(tag) for one in tags for tag in one if tag != NONE)
        share = np.array([counts[at] for at in range(len(space.tags))], dtype=float) / max(1, counts.total())
        lexicon: dict[str, NDArray[Any]] = defaultdict(lambda: np.zeros(len(space.tags)))
        for words, goal in zip(texts, tags, strict=True):
            for word, tag in zip(words, goal, strict=True):
                if tag != NONE:
                    lexicon[word.casefold()][tag] += 1
        test_words, _ = _words_and_tags(held_out)
        most = [np.tile(share, (len(words), 1)) for words in test_words]
        known = [np.array([lexicon.get(word.casefold(), share) for word in words]).reshape(-1, len(share)) for words in test_words]
        linear = tagger.fit(texts, tags, len(space.tags))
        what = f"logistic regression on {tagger.FEATURES}, fitted on {linear.words:,} words of training"
        return {
            "majority": self._floor(f"always the most frequent tag in training, {space.tags[int(share.argmax())]}", most, held_out, space),
            "lexicon": self._floor("the most frequent tag of each word in training", known, held_out, space),
            "linear tagger": self._floor(what, linear.probabilities(test_words), held_out, space),
        }

    def _floor(self, what: str, words: list[NDArray[Any]], held_out: Examples, space: TagSpace) -> Figures:
        """Return one baseline, of probabilities (W_i, C) of the words that are shown."""
        decoded = []
        for one, truth in zip(words, held_out.truth, strict=True):
            out = np.zeros((len(truth.tags), len(space.tags)))
            out[np.flatnonzero(truth.tags != NONE)] = np.log(np.clip(one / one.sum(1, keepdims=True), 1e-9, 1))
            decoded.append(out)
        return self.floor(what, decoded, held_out, space)

    # --- what people read --------------------------------------------------------------------

    def describe(
        self, decoded: list[NDArray[Any]], space: TagSpace, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return each text's words with their tags, and its entities, by their characters; a word that is not shown has the tag '?'."""
        assert modality is not None
        places = [places_of(row, modality) for row in rows]
        scores = [one[place.first[place.leads]] for one, place in zip(decoded, places, strict=True)]
        parts = zip(places, space.likeliest(scores), scores, strict=True)
        return [_described(place, path, one, space) for place, path, one in parts]

    def shown(self, target: Any) -> str:
        """Return entities as '0:5 LOC, 14:25 PER' by their characters, plain tags with spaces between them."""
        return str(target)

    def badness(self, row: Mapping[str, str]) -> float:
        """Return how many entities are wrong or missing; of plain tags the share of wrong ones."""
        if self.scheme != "none":
            true, predicted = set(read_entities(row["target"])), set(read_entities(row["prediction"]))
            return float(len(true ^ predicted))
        pairs = list(zip(row["target"].split(), row["prediction"].split(), strict=False))
        return sum(true != predicted for true, predicted in pairs) / max(1, len(pairs))

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return the text with the target's entities marked, and with those of the prediction."""
        text = row.get("text") or text
        if self.scheme == "none" or not text:
            return ()
        true, predicted = read_entities(row["target"]), read_entities(row["prediction"])
        return (
            Line(name="target", passages=_marked(text, true, {one: "right" if one in predicted else "missing" for one in true})),
            Line(name="prediction", passages=_marked(text, predicted, {one: "right" if one in true else "wrong" for one in predicted})),
        )


def _split(outputs: Outputs) -> tuple[Tensor, ...]:
    assert isinstance(outputs, Ragged)
    return outputs.split()


def _words_and_tags(examples: Examples) -> tuple[list[list[str]], list[NDArray[np.int64]]]:
    """Return the words of some texts that are shown and have a tag, and those."""
    texts, tags = [], []
    for row, truth in zip(examples.rows, examples.truth, strict=True):
        known, words = truth.tags != NONE, words_in(row)
        texts.append([words[at] for at in truth.words[known]])
        tags.append(truth.tags[known])
    return texts, tags


def _described(places: WordPlaces, path: NDArray[Any], scores: NDArray[Any], space: TagSpace) -> dict[str, Any]:
    """Return one text's prediction, JSON-ready."""
    leads = places.leads.tolist()
    tags = dict(zip(leads, (space.tags[at] for at in path), strict=True))
    sure = dict(zip(leads, np.exp(scores[np.arange(len(path)), path]).tolist(), strict=True))
    for at in np.flatnonzero(places.shared).tolist():
        tags[at], sure[at] = tags[at - 1].replace("B-", "I-", 1) if space.marks else tags[at - 1], sure[at - 1]
    words = [
        {"word": places.text[start:end], "tag": tags.get(at, "?"), "start": start, "end": end}
        for at, (start, end) in enumerate(places.words)
    ]
    confidence = min(sure.values(), default=0.0)
    if not space.marks:
        predicted = " ".join(tags.get(at, "?") for at in range(len(words)))
        return {"prediction": predicted, "confidence": confidence, "text": places.text, "words": words}
    found = entities_of([tags.get(at, OUTSIDE) for at in range(len(places.words))])
    spans = [Entity(places.words[one.start][0], places.words[one.end - 1][1], one.type) for one in found]
    listed = [
        {
            "start": span.start,
            "end": span.end,
            "type": span.type,
            "text": places.text[span.start : span.end],
            "confidence": min(sure[at] for at in range(one.start, one.end)),
        }
        for one, span in zip(found, spans, strict=True)
    ]
    return {"prediction": written(spans), "confidence": confidence, "text": places.text, "entities": listed, "words": words}


def _marked(text: str, found: Sequence[Entity], marks: Mapping[Entity, Any]) -> tuple[Passage, ...]:
    """Return a text cut at its entities."""
    passages, at = [], 0
    for one in found:
        passages += [Passage(text=text[at : one.start])] if one.start > at else []
        passages.append(Passage(text=text[one.start : one.end], mark=marks[one], label=one.type))
        at = one.end
    return (*passages, Passage(text=text[at:])) if at < len(text) else tuple(passages)
