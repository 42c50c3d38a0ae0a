"""Where the splits of a data folder lie."""

from pathlib import Path


def test_folder(data):
    """Return test/, or val/ where there is no test/: the split that is the score."""
    return next(Path(data, name) for name in ("test", "val") if Path(data, name).is_dir())
