"""report.html: one self-contained page about a run, made from nothing but the run folder's files.

The page has no scripts and loads nothing; images and audio are embedded. Which sections it has depends on
which files and figures exist, never on the modality.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pretune import saved
from pretune.deploy import _pretraining, _sections
from pretune.deploy.run_files import Files, read_run_files
from pretune.printable import printable
from pretune.training.run_dir import write_atomic

if TYPE_CHECKING:
    import jinja2

    from pretune.tasks import Task

_TEMPLATES = Path(__file__).parent / "_report"


def write(run: Path, task: Task | None = None) -> Path:
    """Write `report.html` into a finished run's folder and return its path.

    Args:
        run: the folder; metrics.json must be there, everything else is shown where it exists.
        task: the run's task, where it is at hand; else the one installed under its name shows predictions.

    Raises:
        DataError: the folder has no metrics.json: this run is not finished; or a file of it is damaged.
    """
    path = run / "report.html"
    files = read_run_files(run, task)
    with saved.reading(run / "metrics.json"):
        page = render(files)
    write_atomic(path, page.encode("utf-8", errors="backslashreplace"))
    return path


def render(files: Files) -> str:
    """Return the page."""
    if files.metrics["task"] == "pretraining":
        return _template("pretraining").render(_pretraining.build(files))
    return _template("page").render(_sections.build(files))


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.html.j2")


def visible(value: Any) -> Any:
    """Return text with control characters, direction marks and undecodable bytes written out, so that no name can hide or disturb."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
