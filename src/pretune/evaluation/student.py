"""How much wider than the normal distribution Student's t is: what few examples or few seeds cost."""

from __future__ import annotations

import math
from statistics import NormalDist


def student(degrees: int, level: float = 0.95) -> float:
    """Return by how many standard errors Student's t reaches to both sides of its middle, for `degrees` >= 1 of freedom.

    Exact for 1 and 2 degrees; above, Fisher and Cornish's expansion (1960), to 0.2 % at the usual levels.
    """
    p = (1 + level) / 2
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) * (2 / (4 * p * (1 - p))) ** 0.5
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))
