"""Classes that a model which makes things is conditioned on, and which of them it is asked for."""

from __future__ import annotations

from typing import Any

from pretune.errors import SettingError, did_you_mean
from pretune.objectives._sampling import Wanted


def asked(classes: tuple[str, ...], wanted: Wanted) -> list[str | None]:
    """Return the class of each sample: the prompt, else one class after the other; None where none are known.

    Raises:
        SettingError: the prompt is no class of these.
    """
    if not classes:
        if wanted.prompt:
            raise SettingError(f"this model was trained without labels, so it cannot be asked for {wanted.prompt!r}; leave the prompt out.")
        return [None] * wanted.count
    if wanted.prompt and wanted.prompt not in classes:
        raise SettingError(f"no class is called {wanted.prompt!r}. {did_you_mean(wanted.prompt, classes)}")
    return [wanted.prompt or classes[number % len(classes)] for number in range(wanted.count)]


def tell_classes(learner: Any, classes: tuple[str, ...]) -> None:
    """Set what a learner that may be conditioned on classes is conditioned on: before training, and before weights are loaded."""
    if hasattr(learner, "classes"):
        learner.classes = classes
