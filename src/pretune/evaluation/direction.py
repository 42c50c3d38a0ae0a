"""Which metrics are better when they are smaller; imports nothing, so that a list of runs needs no numpy."""

from __future__ import annotations

_ERRORS = frozenset({"mae", "rmse", "median_ae", "log_loss", "ece", "loss", "perplexity", "wer", "cer"})
_ERROR_ENDINGS = ("_error", "_loss", "_distance")


def is_error(name: str) -> bool:
    """Return whether a metric is minimised; as in scikit-learn, names that end in _error, _loss or _distance are."""
    return name in _ERRORS or name.endswith(_ERROR_ENDINGS)
