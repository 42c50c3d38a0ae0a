"""What to do about a result, out of what was not done yet and can apply: one table for every sentence of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pretune.evaluation.wording import duration

Trouble = Literal["baseline", "gap", "unfinished", "capacity", "imbalance", "overconfident", "underconfident"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a run was, as far as advice depends on it."""

    strategy: str = ""
    from_scratch: bool = False
    """Whether the network began with randomly initialised weights."""
    classes: bool = True
    """Whether the task's loss is one over classes."""
    modality: str = ""
    given: frozenset[str] = frozenset()
    """Settings that the person gave, as they are written: 'class_weights', 'patience'."""
    augment: str = ""
    """Name of the augmentation preset that was used."""
    probe_was_better: bool | None = None
    """Whether the head alone, before the rest was trained, was better on the split that selects; None where it was not measured."""

    unknown_tokens: str = ""
    """What was found of tokens that the tokenizer does not know, where they are many."""

    model: str = "network"
    """Which model the figures are of: 'network' or 'baseline'."""
    compared: str = ""
    """How the two compare on examples that are not the score's, as a clause; empty where they were not compared."""
    chosen: bool = True
    """Whether the run chose the model, not the person."""
    baseline_saved: bool = False
    """Whether the run can predict with the baseline."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What strategies would take on this machine, about, by name."""

    solved: bool = False
    """Whether the head was solved, which takes no epochs and has no weight decay of the person's."""

    peaked: bool | None = None
    """Whether what selects was better earlier in the training; None where nothing selects, or it was evaluated too seldom to know."""

    @property
    def penalised(self) -> bool:
        """Whether the model was solved with a penalty that cross-validation chose."""
        return self.solved or self.model == "baseline"

    @property
    def trains(self) -> bool:
        """Whether training steps were taken."""
        return self.strategy != "direct" and not self.solved and self.model == "network"

    @property
    def has_classes(self) -> bool:
        """Whether the loss that the model was trained with is one over classes, and can be weighted."""
        return self.classes and self.model == "network"


Applies = Callable[[Context], bool]

_OPENS = {"direct": 0, "linear_probe": 0, "partial": 1, "lora": 1}
"""How much of a pretrained network learns, of strategies that leave some of it."""


def _opens_more(strategy: str) -> Applies:
    level = {"partial": 1, "full": 2}[strategy]
    return lambda c: not c.from_scratch and c.strategy in _OPENS and _OPENS[c.strategy] < level


_MORE_AUGMENTED = {"": "medium", "none": "light", "light": "medium", "medium": "strong"}


def _augmentable(c: Context) -> bool:
    augmented = c.modality in ("", "image", "audio") and c.strategy in ("full", "partial", "lora", "scratch")
    return augmented and c.model == "network" and c.augment in _MORE_AUGMENTED


def _above_a_probe(c: Context) -> bool:
    """Whether more than the head of a pretrained network was trained."""
    return not c.from_scratch and c.strategy in ("full", "partial", "lora")


def _trains(c: Context) -> bool:
    return c.trains


def _always(c: Context) -> bool:
    return True


_TABLE: dict[Trouble, tuple[tuple[str, Applies], ...]] = {
    "baseline": (
        ("a backbone whose tokenizer knows this language", lambda c: bool(c.unknown_tokens)),
        ("strategy=full", _opens_more("full")),
        ("strategy=partial", _opens_more("partial")),
        ("strategy=linear_probe, which scored better here", lambda c: _above_a_probe(c) and bool(c.probe_was_better)),
        ("a pretrained backbone", lambda c: c.from_scratch),
        ("more epochs", lambda c: c.strategy in ("scratch", "full") or (c.from_scratch and c.trains)),
        ("another backbone", lambda c: not c.from_scratch),
        ("more training examples", _always),
    ),
    "gap": (
        ("stronger augmentation (augment={augment})", _augmentable),
        ("a larger weight_decay", _trains),
        ("fewer epochs", lambda c: c.trains and "patience" not in c.given and bool(c.peaked)),
        (
            "patience=3 (it sets training examples aside to stop by, and keeps the best weights)",
            lambda c: c.trains and "patience" not in c.given and c.peaked is None,
        ),
        ("a pretrained backbone", lambda c: c.from_scratch and c.model == "network"),
        ("another backbone", lambda c: c.penalised and not c.from_scratch and c.model == "network"),
        ("strategy=linear_probe", lambda c: _above_a_probe(c) and c.model == "network" and c.probe_was_better is not False),
    ),
    "unfinished": (("raise epochs or time", _trains),),
    "capacity": (
        ("a backbone whose tokenizer knows this language", lambda c: bool(c.unknown_tokens)),
        ("strategy=full", _opens_more("full")),
        ("strategy=partial", _opens_more("partial")),
        ("more epochs", lambda c: c.strategy in ("scratch", "full") or (c.from_scratch and c.trains)),
        ("a higher lr", _trains),
        ("a larger backbone", _always),
        ("checking the labels", _always),
    ),
    "imbalance": (
        ("class_weights=true", lambda c: c.strategy != "direct" and c.has_classes and "class_weights" not in c.given),
        ("more examples of the small classes", _always),
    ),
    "overconfident": (
        ("label_smoothing=0.1", lambda c: c.strategy != "direct" and c.has_classes and "label_smoothing" not in c.given),
        ("fewer epochs", lambda c: c.trains and "patience" not in c.given),
    ),
    "underconfident": (
        ("more epochs", _trains),
        ("no label_smoothing", lambda c: c.trains and c.has_classes and "label_smoothing" in c.given),
    ),
}


def cures(trouble: Trouble, context: Context) -> list[str]:
    """Return what can be done about a trouble, most promising first: nothing that was done already, nothing that cannot apply."""
    stronger = _MORE_AUGMENTED.get(context.augment, "")
    return [text.format(augment=stronger) + _cost(text, context) for text, applies in _TABLE[trouble] if applies(context)]


def _cost(text: str, context: Context) -> str:
    """Return how long a strategy would take, in brackets, where that is known."""
    seconds = context.seconds.get(text.removeprefix("strategy="))
    return "" if seconds is None else f" (about {duration(seconds)})"


def listed(cures: list[str], joint: str = "or") -> str:
    """Return a list as people write it: a, b or c."""
    if len(cures) < 2:
        return "".join(cures)
    return f"{', '.join(cures[:-1])} {joint} {cures[-1]}"
