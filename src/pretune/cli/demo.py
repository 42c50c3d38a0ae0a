"""pretune demo: the main job on real photos, with pretrained features and with random ones."""

from __future__ import annotations

from typing import Any

from pretune.cli.arguments import Arguments
from pretune.cli.opening import opened


def main(arguments: Arguments) -> dict[str, Any]:
    """Write the photos' crops, train twice, compare; return both accuracies."""
    with opened() as terminal:
        from pretune import demo

        return {**demo.run(demo.photo_paths(), terminal), "run": str(demo.FOLDER / "pretrained")}
