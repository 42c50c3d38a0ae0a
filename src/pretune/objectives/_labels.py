"""Classes that a model which makes things is conditioned on, and which of them it is asked for."""

from __future__ import annotations

from pretune.errors import SettingError, did_you_mean
from pretune.objectives._base import PretextLearner
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


class KnowsClasses(PretextLearner):
    """A learner with parts that depend on which classes there are."""

    _classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; set before training, and before weights are loaded."""
        return self._classes

    @classes.setter
    def classes(self, names: tuple[str, ...]) -> None:
        self.make_for(names)
        self._classes = names

    def make_for(self, names: tuple[str, ...]) -> None:
        """Make the parts that depend on the classes; there may be none."""
        raise TypeError(f"{type(self).__name__} must define make_for(names)")


def set_classes(learner: PretextLearner, classes: tuple[str, ...]) -> None:
    """Set which classes there are, for a learner that asks."""
    if isinstance(learner, KnowsClasses):
        learner.classes = classes
