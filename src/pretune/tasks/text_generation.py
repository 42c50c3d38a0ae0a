"""Writing on: language-model fine-tuning on plain text, and instruction tuning on prompts with answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pretune.evaluation import overlap
from pretune.evaluation.wording import words
from pretune.sources.conversation import TEXT_GENERATION
from pretune.sources.target_type import TargetType
from pretune.tasks import _answer_baselines
from pretune.tasks._base import Figures
from pretune.tasks._language_task import LanguageTask
from pretune.tasks._rendering import Answer
from pretune.tasks._repeated_prompts import repeated_prompts
from pretune.types import Finding, Row


@dataclass(frozen=True, kw_only=True)
class TextGeneration(LanguageTask):
    """Prediction of the next token; of prompts with answers, only the answers' tokens are learned."""

    reads: ClassVar[TargetType] = TEXT_GENERATION

    def findings(self, rows: Sequence[Row], space: Any) -> list[Finding]:
        """Return which prompts are answered in several ways, and which of the held-out ones are trained on."""
        return repeated_prompts(rows)

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return how near the written answers come to those that people gave, and how near answers do that need no network."""
        figures = super().text_metrics(rows, written, train)
        targets = [row.target for row in rows if isinstance(row.target, Answer)]
        known = [(one.prompt, one.answer) for row in train if isinstance(one := row.target, Answer) and one.answer is not None]
        if not figures or not known:
            return figures
        references = [target.references for target in targets]
        prompts, answers = zip(*known, strict=True)
        similar = _answer_baselines.nearest(prompts, answers, [target.prompt for target in targets])
        constant = [_answer_baselines.constant(answers)] * len(targets)
        figures["baselines"] = {
            "constant": {"what": "the most frequent training answer", **overlap.figures(constant, references)},
            "nearest": {"what": "the answer to the most similar training prompt", **overlap.figures(similar, references)},
        }
        return figures

    def summary(self, figures: Figures) -> list[str]:
        """Return a sentence with what answers are compared by, beside that of answers which need no network."""
        name = next((name for name in ("rougeL", "chrf", "exact_match") if name in figures), None)
        if name is None or "baselines" not in figures:
            return []
        others = "; ".join(f"{one['what']} {one[name]:.3f}" for one in figures["baselines"].values())
        return [f"{words(name)} of {figures['examples']:,} written answers ({figures['split']}): {figures[name]:.3f}. Baselines: {others}."]
