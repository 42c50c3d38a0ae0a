"""What a number may be, as a note on a setting's type: a range, a duration, bytes."""

import re
from dataclasses import dataclass
from typing import Any

from pretune.errors import SettingError


@dataclass(frozen=True)
class Within:
    """The closed range of a number; `above=True` excludes the lower end."""

    low: float | None = None
    high: float | None = None
    above: bool = False

    def __contains__(self, value: float) -> bool:
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        return (self.high is None or value <= self.high) and value == value

    def __str__(self) -> str:
        left = "(-inf" if self.low is None else f"{'(' if self.above else '['}{self.low:g}"
        return f"in {left}, {'inf)' if self.high is None else f'{self.high:g}]'}"


@dataclass(frozen=True)
class Duration:
    """Seconds; text may carry a unit: 90, 90s, 10m, 1.5h, 2d."""


@dataclass(frozen=True)
class Bytes:
    """Bytes; text may carry a unit: 500M, 2G."""


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def with_unit(value: Any, where: str, note: Duration | Bytes) -> float | int:
    """Return seconds or bytes from a number or a text with a unit.

    Raises:
        SettingError: it is no such amount, or not above 0.
    """
    units = _UNITS if isinstance(note, Duration) else _SIZES
    match = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]?)[a-zA-Z]*\s*", str(value))
    unit = match[2].lower() if match else ""
    example = "90s, 10m or 1.5h" if isinstance(note, Duration) else "500M or 2G"
    if not match or (unit and unit not in units) or match[1].count(".") > 1 or match[1] == "." or float(match[1]) <= 0:
        raise SettingError(f"{where} must be an amount such as {example}; got {value!r}.")
    amount = float(match[1]) * units.get(unit, 1)
    return amount if isinstance(note, Duration) else int(amount)
