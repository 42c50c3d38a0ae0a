"""Where long audio is cut: at its quietest places, so that no word is cut in two where there is a pause.

M. Bain et al., "WhisperX: Time-Accurate Speech Transcription of Long-Form Audio", 2023, cut where voice activity is least; here energy
stands for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELL, _PAUSE = 0.01, 0.2
"""Seconds over which energy is summed, and of the pause that is looked for."""
_SILENT = 2**-14
"""Range of samples up to which they are silence, as in a file that is refused for it."""


def pieces(array: NDArray[np.floating], most: int, rate: int) -> list[tuple[int, int]]:
    """Return begin and end of pieces of at most `most` samples, in order; digital silence is in none of them.

    A piece ends at the quietest place of its second half, so it lasts half as long as it might at least.

    Args:
        array: (T,) samples.
        most: samples of a piece.
        rate: samples a second.
    """
    begins = [0]
    while len(array) - begins[-1] > most:
        begin = begins[-1]
        last = min(begin + most, len(array) - most // 4)  # what is left over is no stub
        begins.append(_quietest(array, begin + most // 2, last, rate))
    found = list(zip(begins, [*begins[1:], len(array)], strict=True))
    return [(begin, end) for begin, end in found if float(np.ptp(array[begin:end])) > _SILENT] or found[:1]


def _quietest(array: NDArray[np.floating], low: int, high: int, rate: int) -> int:
    """Return the middle of the pause with the least energy between two places; of several alike the last."""
    cell = max(1, round(_CELL * rate))
    count = (high - low) // cell
    if count < 1:
        return high
    cells = array[low : low + count * cell].astype(np.float32).reshape(count, cell)
    wide = min(count, round(_PAUSE / _CELL))
    weights = np.hanning(wide + 2)[1:-1]  # what is in the middle counts most, so that a shorter pause lies there too
    energies = np.convolve(np.einsum("ct,ct->c", cells, cells, dtype=np.float64), weights, "valid")
    last = len(energies) - 1 - int(np.argmin(energies[::-1]))
    return low + last * cell + wide * cell // 2
