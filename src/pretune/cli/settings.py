"""The page of all settings, made from the recipe's own fields."""

from __future__ import annotations

import textwrap

from pretune import config


def recipe_page() -> str:
    """Return every key of a recipe with type, default and meaning."""
    from pretune.recipe import Recipe

    return _page(Recipe)


def pretraining_page() -> str:
    """Return every key of a pretraining recipe with type, default and meaning."""
    from pretune.pretraining import Pretraining

    return _page(Pretraining)


_BESIDE = f"""
  {"out=generated":<32} path
      Folder of the audio files or images; where it is named, of texts too. Numbering goes on after the files that are there.
  {"trust=":<32} module
      Modules of your own that the run's network may be built by."""


def generating_page() -> str:
    """Return every setting of generating with type, default and meaning."""
    from pretune.objectives._sampling import Wanted

    return _page(Wanted) + _BESIDE


def _page(recipe: type) -> str:
    lines = []
    for setting in config.settings(recipe):
        if setting.key == "data":
            continue
        head = f"  {setting.key}={setting.default}"
        lines.append(f"{head:<34} {setting.type}")
        lines += textwrap.wrap(setting.doc, 96, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
