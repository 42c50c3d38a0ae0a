"""Writing on: language-model fine-tuning on plain text, and instruction tuning on prompts with answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pretune.sources.conversation import TEXT_GENERATION
from pretune.sources.target_type import TargetType
from pretune.tasks._language_task import LanguageTask


@dataclass(frozen=True, kw_only=True)
class TextGeneration(LanguageTask):
    """Prediction of the next token; of prompts with answers, only the answers' tokens are learned."""

    reads: ClassVar[TargetType] = TEXT_GENERATION
