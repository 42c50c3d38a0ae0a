"""What stands under the examples of a training batch."""

from collections.abc import Sequence


def shares(row: Sequence[float], names: Sequence[str]) -> str:
    """Return the classes of an example, or of a mixture of two with their shares: '0.70 cat + 0.30 dog'."""
    ranked = sorted(((share, name) for share, name in zip(row, names, strict=True) if share > 0.005), reverse=True)[:3]
    return " + ".join(name if share > 0.995 else f"{share:.2f} {name}" for share, name in ranked) or "no label"
