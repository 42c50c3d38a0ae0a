"""What is wrong with written texts as a whole, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MANY = 0.3
"""Share of written texts with one fault from which it is reported."""


def faults_of(found: Mapping[str, Iterable[bool]], count: int) -> list[str]:
    """Return a sentence on each fault that a good part of the texts have.

    Args:
        found: what a fault is and what to do, as "are empty: …", and which texts have it.
        count: the texts that there are.
    """
    counts = {words: sum(flags) for words, flags in found.items()}
    return [f"{some} of {count} written texts {words}." for words, some in counts.items() if some > _MANY * count]
