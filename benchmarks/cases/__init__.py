"""What is compared: one file per case, each with a CASE."""

from benchmarks.cases._base import Bench, Case, Contestant, Measure

__all__ = ["Bench", "Case", "Contestant", "Measure"]
