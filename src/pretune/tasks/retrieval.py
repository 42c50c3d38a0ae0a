"""Sentence embeddings: texts that belong together are close, so that a query finds its passage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.config import Within
from pretune.data.together import Together
from pretune.errors import DataError, SettingError
from pretune.evaluation import retrieval
from pretune.evaluation.retrieval import NEGATIVE, PASSAGE, QUERY, TEXT, TRUTH
from pretune.labels import Labels, Outputs
from pretune.models.heads import Head
from pretune.models.heads.projection import Projection
from pretune.sources.related import RELATED, Related
from pretune.sources.target_type import TargetType
from pretune.tasks._base import Examples, Figures, LossSettings, Space, Suggestion, Task
from pretune.tasks._contrast import RetrievalLearner, contrastive_loss
from pretune.tasks._marked import Line, Passage
from pretune.tasks._related_findings import related_findings
from pretune.types import Finding, Row

if TYPE_CHECKING:
    from pretune.backbones import Backbone
    from pretune.modalities import Modality
    from pretune.models import Model, SupervisedLearner
    from pretune.models.learner import Loss

_ROLES = {"query": QUERY, "passage": PASSAGE, "negative": NEGATIVE, "text": TEXT}
_SHOWN = 3
"""Nearest texts that the report shows of a query."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpace(Space):
    """Embeddings have no classes."""

    def __str__(self) -> str:
        return "embeddings compared by cosine"


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """Embeddings of length one, trained by the other texts of a batch: multiple negatives ranking."""

    primary: ClassVar[str] = "mrr"
    reads: ClassVar[TargetType] = RELATED
    space: ClassVar[type[Space]] = EmbeddingSpace
    modalities: ClassVar[frozenset[str]] = frozenset({"text"})
    suggests: ClassVar[Suggestion] = Suggestion(
        strategy="full",
        why="embeddings mean something before training, so no probe comes first; strategy=linear_probe trains a projection in seconds",
        settings={"probe_first": False},
    )
    selects: ClassVar[bool] = True
    batch: ClassVar[int | None] = 128
    unread: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    measures_start: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    temperature: Annotated[float, Within(0.001, 1)] = 0.05
    """By which similarities are divided in the loss; sentence-transformers calls 1 / temperature the scale (20)."""

    # --- targets -----------------------------------------------------------------------------

    def fit(self, rows: Sequence[Row], classes: tuple[str, ...]) -> EmbeddingSpace:
        """Return the space, where something in training belongs together.

        Raises:
            DataError: no two texts of training do, or all do.
        """
        targets = [row.target for row in rows if isinstance(row.target, Related)]
        labels = [target.label for target in targets if target.role == "text"]
        pairs = {target.pair for target in targets if target.role == "passage"}
        if labels and (len(set(labels)) < 2 or len(set(labels)) == len(labels)):
            what = "are all of one class" if len(set(labels)) < 2 else "have a class each of their own"
            raise DataError(f"the training texts {what}, so there is nothing to learn. Give at least two classes with two texts each.")
        if not labels and len(pairs) < 2:
            raise DataError(f"the training split has {len(pairs)} pair(s) that belong together; at least two are needed.")
        return EmbeddingSpace()

    def encode(self, rows: Sequence[Row], space: EmbeddingSpace, modality: Modality) -> Labels:
        """Return the role, wording, wording of its query, record, class and grade of each text, as numbers (N,)."""
        out: NDArray[Any] = np.full(len(rows), -1, dtype=TRUTH)
        out["grade"] = -np.inf
        wordings: dict[str, int] = {}
        pairs: dict[str, int] = {}
        labels: dict[str, int] = {}
        queries: dict[str, int] = {}
        for one, row in zip(out, rows, strict=True):
            target, wording = row.target, _wording(row)
            assert isinstance(target, Related)
            one["role"], one["text"] = _ROLES[target.role], wordings.setdefault(wording, len(wordings))
            if target.label:
                one["label"] = labels.setdefault(target.label, len(labels))
            if target.pair:
                one["pair"] = pairs.setdefault(target.pair, len(pairs))
            if target.role == "query":
                queries[target.pair] = int(one["text"])
            if target.grade is not None:
                one["grade"] = target.grade
        out["anchor"] = [queries.get(row.target.pair, -1) if isinstance(row.target, Related) else -1 for row in rows]
        return Labels({name: torch.from_numpy(np.ascontiguousarray(out[name])) for name in TRUTH.names or ()})

    def findings(self, rows: Sequence[Row], space: EmbeddingSpace) -> list[Finding]:
        """Return what pairs show before training."""
        return related_findings(rows, {row.id: _wording(row) for row in rows})

    def truth(self, labels: Labels, space: EmbeddingSpace) -> NDArray[Any]:
        """Return what each text belongs to, (N,) of `TRUTH`."""
        out: NDArray[Any] = np.zeros(labels.size, dtype=TRUTH)
        for name in TRUTH.names or ():
            tensor = labels[name]
            assert isinstance(tensor, Tensor)
            out[name] = tensor.cpu().numpy()
        return out

    def together(self, labels: Labels) -> Together:
        """Keep the texts of a record in one batch, and two of a class; no two records of one query or class there, where it can be."""
        truth = self.truth(labels, EmbeddingSpace())
        of_class = truth["role"] == TEXT
        if of_class.any():
            return Together(unit=truth["label"], most=2, key=truth["label"])
        return Together(unit=truth["pair"], key=np.where(truth["role"] == QUERY, truth["text"], truth["anchor"]))

    # --- the network -------------------------------------------------------------------------

    def outputs(self, space: EmbeddingSpace) -> int:
        """One embedding; it is as wide as the features."""
        return 1

    def loss(self, space: EmbeddingSpace, labels: Labels, settings: LossSettings) -> Loss:
        """Cross-entropy of finding what belongs to a text among the texts of its batch."""
        return lambda outputs, targets: contrastive_loss(outputs, targets, self.temperature)

    def head(self, asked: Head | None) -> Head:
        """Return the projection, which begins as the identity.

        Raises:
            SettingError: another head is named.
        """
        if asked is not None and not isinstance(asked, Projection):
            raise SettingError("task=retrieval takes head=projection. Leave head out.")
        return Projection()

    def suggested(self, strategy: str, backbone: Backbone) -> dict[str, Any]:
        """Return small steps, as the start is good already."""
        if strategy == "linear_probe":
            return {"lr": 1e-3, "epochs": 30, "weight_decay": 0.1}
        return {"lr": 5e-5, "epochs": 3} if strategy == "full" else {"lr": 3e-4, "epochs": 3} if strategy == "lora" else {}

    def learner(self, model: Model, loss: Loss) -> SupervisedLearner:
        """Return a learner whose batches stay whole."""
        return RetrievalLearner(model, loss)

    def decode(self, outputs: Outputs, space: EmbeddingSpace) -> NDArray[np.float32]:
        """Return embeddings (N, D) of length one."""
        assert isinstance(outputs, Tensor)
        return torch.nn.functional.normalize(outputs.float(), dim=-1).numpy()

    # --- evaluation --------------------------------------------------------------------------

    def metrics(self, decoded: NDArray[Any], truth: NDArray[Any], space: EmbeddingSpace) -> Figures:
        """Return MRR, nDCG@10 and recall of queries over all passages, or of texts over all others."""
        return retrieval.figures(decoded, truth)

    def intervals(
        self, decoded: NDArray[Any], truth: NDArray[Any], space: EmbeddingSpace, groups: NDArray[Any] | None = None
    ) -> dict[str, tuple[float, float]]:
        """Return intervals over resampled queries."""
        return retrieval.intervals(decoded, truth, groups)

    def floors(self, train: Examples, held_out: Examples, space: EmbeddingSpace, model: Any) -> dict[str, Figures]:
        """Return random embeddings, and the cosine of TF-IDF vectors with the weights of training."""
        from pretune.modalities.text import Text

        random = np.random.default_rng(0).normal(size=(len(held_out), 64))
        random = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
        tfidf, _ = Text().fit_baseline_features([_text(row) for row in train.rows])
        features = tfidf.features([_text(row) for row in held_out.rows])
        what = {"random": ("random embeddings", random), "tf-idf": (f"cosine of {tfidf.words}, weighted by training", features)}
        return {name: {"what": words, **retrieval.means(retrieval.ranked(rows, held_out.truth))} for name, (words, rows) in what.items()}

    # --- what people read --------------------------------------------------------------------

    def describe(
        self, decoded: NDArray[Any], space: EmbeddingSpace, rows: Sequence[Row] = (), modality: Modality | None = None
    ) -> list[dict[str, Any]]:
        """Return the embedding of each text; of held-out rows what each query found, and nothing of texts that search nothing."""
        if not all(isinstance(row.target, Related) for row in rows):
            return [{"embedding": [round(float(number), 7) for number in one]} for one in decoded]
        assert modality is not None
        truth = self.truth(self.encode(rows, space, modality), space)
        found = retrieval.ranked(decoded, truth)
        out: list[dict[str, Any]] = [{} for _ in rows]
        for at, query in enumerate(found.queries):
            near = list(zip(found.nearest[at], found.similarity[at], found.hits[at], strict=True))[:_SHOWN]
            right = rows[query].target if near[0][2] else rows[near[0][0]].target
            out[query] = {
                "prediction": str(right),
                "confidence": float(near[0][1]),
                "rank": float(found.first[at]),
                "text": _text(rows[query]),
                "nearest": json.dumps(
                    [[bool(hit), round(float(sim), 4), _text(rows[place])] for place, sim, hit in near], ensure_ascii=False
                ),
                "belongs": _text(rows[found.best[at]]),
            }
        return out

    def badness(self, row: Mapping[str, str]) -> float:
        """Return one less the reciprocal rank of the first text that belongs to it."""
        return 0.0 if row["prediction"] == row["target"] else 1 - 1 / float(row.get("rank") or 2)

    def compare(self, row: Mapping[str, str], text: str) -> Sequence[Line]:
        """Return the query, the nearest texts marked right or wrong, and the text that belongs to it where it is not among them."""
        if not row.get("nearest"):
            return ()
        near = json.loads(row["nearest"])
        lines = [Line(name="query", passages=(Passage(text=row.get("text") or text),))]
        for place, (hit, similarity, other) in enumerate(near, 1):
            passage = Passage(text=other, mark="right" if hit else "wrong", label=f"{similarity:.2f}")
            lines.append(Line(name=f"nearest {place}", passages=(passage,)))
        if not any(hit for hit, *_ in near):
            name = f"rank {float(row['rank']):g}"
            lines.append(Line(name=name, passages=(Passage(text=row.get("belongs") or "", mark="missing"),)))
        return lines


def _text(row: Row) -> str:
    return (row.text or ("",))[0]


def _wording(row: Row) -> str:
    """Return what texts are equal by: their words without letter case and white space; of a file its id."""
    return " ".join(_text(row).casefold().split()) if row.text else row.id
