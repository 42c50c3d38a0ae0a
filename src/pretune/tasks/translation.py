"""Translation: a text in one language from a text in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from pretune.errors import MissingExtra
from pretune.evaluation import translation_scores
from pretune.evaluation.intervals import groups_of
from pretune.modalities.text import Text
from pretune.sources.table import Table
from pretune.sources.target_type import TargetType
from pretune.sources.translations import TRANSLATIONS, Translations
from pretune.tasks._base import Figures
from pretune.tasks._seq2seq import SequenceToSequence
from pretune.types import Row

_COMPARED = 50_000
"""Training texts at most among which the nearest is looked for."""


@dataclass(frozen=True, kw_only=True)
class Translation(SequenceToSequence):
    """A translation of each text, by an encoder-decoder."""

    reads: ClassVar[TargetType] = TRANSLATIONS
    backbone: ClassVar[str | None] = "scratch:transformer,units=piece,vocabulary=8000,width=256,layers=3,heads=4,dropout=0.1,max_tokens=128"

    source: str = ""
    """Language that is read, as files or columns call it: en; auto is as the data say."""
    target: str = ""
    """Language that is written: de; auto is the other one."""

    @property
    def target_type(self) -> TargetType:
        """Pairs of texts, in the direction that is set."""
        return Translations(task=super().target_type.task, source=self.source, target=self.target)

    def suited(self, target: TargetType) -> Self:
        """Return the task with the direction that was found in the data."""
        return replace(self, source=target.source, target=target.target) if isinstance(target, Translations) else self

    def render(self, table: Table, modality: Any, *, held_out: float = 0.0, answered: bool = True) -> Any:
        """Mark texts with their languages where the tokenizer has several, and do what is done for every task of this kind."""
        modality = super().render(table, modality, held_out=held_out, answered=answered)
        if not answered or not isinstance(modality, Text):
            return modality
        modality, sentence = modality.translating(self.source, self.target)
        table.messages += [sentence] if sentence else []
        return modality

    def absent(self) -> str:
        """Return a sentence where BLEU and chrF are not computed, and how to get them."""
        return translation_scores.absent()

    def text_metrics(self, rows: Sequence[Row], written: Sequence[str], train: Sequence[Row]) -> Figures:
        """Return BLEU and chrF with signatures and intervals, and those of copying the source and of the nearest training example."""
        references = [self.references(row) for row in rows]
        try:
            out = translation_scores.figures(written, references, groups=groups_of([row.group for row in rows]))
        except MissingExtra:
            return {}  # `absent` says so
        copied = [(row.text or ("",))[0] for row in rows]
        others = {"copy": ("the source as it is", copied)}
        if train:
            known = list(train[:_COMPARED])
            places = translation_scores.nearest(copied, [(row.text or ("",))[0] for row in known])
            others["nearest"] = ("the translation of the nearest training example", [str(known[place].target) for place in places])
        baselines = {
            name: {"what": what, **_scores(translation_scores.figures(texts, references, intervals=False))}
            for name, (what, texts) in others.items()
        }
        return {**out, "baselines": baselines}

    def summary(self, figures: Figures) -> list[str]:
        """Return a sentence with BLEU, chrF and what they are compared with."""
        if "bleu" not in figures:
            return []
        ends = figures.get("interval", {}).get("bleu")
        interval = f" (95 %: {ends[0]:.1f} to {ends[1]:.1f})" if ends else ""
        others = "; ".join(f"{one['what']} {one['bleu']:.2f}" for one in figures["baselines"].values())
        return [
            f"BLEU {figures['bleu']:.2f}{interval}, chrF {figures['chrf']:.1f} on {figures['examples']:,} examples of {figures['split']}. "
            f"BLEU of baselines: {others}. Signature {figures['bleu_signature']}."
        ]


def _scores(figures: Figures) -> Figures:
    return {name: figures[name] for name in ("bleu", "chrf")}
