"""The texts of a corpus that are nearest to a query, by the embeddings of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pretune.deploy.predictor import Predictor
from pretune.errors import SettingError
from pretune.sources import sources
from pretune.sources.table import RunColumns
from pretune.types import Row

_COUNT = 10


@dataclass(frozen=True, kw_only=True)
class SearchedTexts:
    """Texts with their embeddings."""

    rows: list[Row]
    embedded: NDArray[np.float32]
    """(N, D) of length one."""

    @classmethod
    def read(cls, model: Predictor, path: Path) -> Self:
        """Return the embedded texts of a file; of a table of pairs, those of the column that was searched in training."""
        schema = replace(model.schema, text=model.schema.text[::-1])
        rows = sources.read_unlabelled(path, model.name, RunColumns(schema=schema), target=model.task.target_type).rows
        return cls.embed(rows, model.predict(rows))

    @classmethod
    def embed(cls, rows: Iterable[Row], answers: Iterable[Mapping[str, Any]]) -> Self:
        """Return the texts that could be read, given the run's answers for them.

        Raises:
            SettingError: the run gives no embeddings, or none of the texts could be read.
        """
        pairs = [(row, answer) for row, answer in zip(rows, answers, strict=True) if "error" not in answer]
        if not pairs or "embedding" not in pairs[0][1]:
            why = "is for runs of task=retrieval, whose predictions are embeddings" if pairs else "has no text that can be read"
            raise SettingError(f"corpus= {why}. Leave it out, or name another file.")
        return cls(rows=[row for row, _ in pairs], embedded=np.array([answer["embedding"] for _, answer in pairs], dtype=np.float32))

    def search(self, answers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield, for each query, the id of the nearest text as `prediction`, its cosine, and the ten nearest; errors as they are."""
        for answer in answers:
            if "embedding" not in answer:
                yield answer
                continue
            similarity = self.embedded @ np.array(answer["embedding"], dtype=np.float32)
            order = np.argsort(-similarity, kind="stable")[:_COUNT]
            near = [{"id": self.rows[at].id, "text": (self.rows[at].text or ("",))[0], "cosine": float(similarity[at])} for at in order]
            yield {"id": answer["id"], "prediction": near[0]["id"], "confidence": near[0]["cosine"], "nearest": near}
