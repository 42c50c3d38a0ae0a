"""The pages of --help: made from the verbs and from the settings' own fields; nothing heavy is imported for them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from pretune import registry
from pretune.cli.arguments import USAGE
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.declared import load
from pretune.described import Inside, Setting, component_settings, inner_settings, settings

_GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Data": (
        ("columns", "splits", "corpus"),
        ("also", "part", "corpus", "min_examples", "label", "text", "path", "split", "missing", "decimal"),
    ),
    "Model": (("inputs",), ("backbone", "strategy", "objective", "task", "head", "predictor", "extend")),
    "Training": (("training",), ("augment", "augmentations", "views", "optim", "schedule")),
    "Comparison with training from scratch": (("gain",), ()),
    "Sampling": ((), ("prompt", "count", "length", "temperature", "top_k", "top_p", "seed")),
    "Output and resources": (("place",), ("out", "format", "cache", "cache_size", "threads", "trust")),
}
"""Sections, and keys outside of them, by the heading that they are printed under."""
OTHER = "Other"
_WIDTH = 100


def overview() -> str:
    """Return the page `pretune --help` prints."""
    width = max(len(f"{name} {verb.takes}") for name, verb in VERBS.items())
    lines = [f"  {f'{name} {verb.takes}':<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "pretune: pretrain, then fine-tune, images, text and audio.",
            "",
            USAGE,
            "",
            *lines,
            "",
            "  --json      print one JSON object to stdout, everything else to stderr",
            "  --offline   never use the network",
            "  --version   print the version",
            "",
            "  pretune COMMAND --help   the settings of a command      pretune list NAME   those of a component",
            "  example: pretune finetune photos/ strategy=full epochs=3 time=10m",
        ]
    )


def page(verb: str) -> str:
    """Return a verb's page: what it takes and does, examples, and every setting it accepts."""
    known = VERBS[verb]
    lines = [usage(verb), "", _sentence(known.summary)]
    if known.examples:
        lines += ["", "Examples:", *(f"  {example}" for example in known.examples)]
    for heading, found in grouped(verb).items():
        lines += ["", f"{heading}:", *_entries(found)]
    inside = inside_settings(verb)
    if inside:
        first = next((one for one in inside if one.name), inside[0])
        both = " ".join([f"{first.key}={first.name}"] * bool(first.name) + [f"{first.prefix}.{first.settings[0].key}=…"])
        lines += ["", f"Settings of components (name the component too: {both}):"]
    for place in inside:
        lines += ["", *_component_lines(place)]
    return "\n".join(lines)


def usage(verb: str) -> str:
    """Return the usage line of a verb."""
    known, keys = VERBS[verb], keys_of(verb)
    recipe = " [recipe.toml]" if known.reads_recipes else ""
    return f"usage: pretune {verb} {known.takes}{recipe}{' [key=value …]' if keys else ''} [--json]{' [--offline]' if known.slow else ''}"


def inside_settings(verb: str) -> list[Inside]:
    """Return the sections and components that have settings a verb accepts."""
    cls, keys = settings_of(verb), keys_of(verb)
    return [inside for inside in inner_settings(cls) if inside.settings and inside.key in keys] if cls else []


def _component_lines(inside: Inside) -> list[str]:
    """Return the lines of one component; of those of which several may be named, there are too many for their meanings."""
    head = f"  {inside.key}={inside.name}" if inside.name else f"  {inside.key}"
    if not inside.several:
        return [head, *_entries(inside.settings, f"{inside.prefix}.")]
    words = ", ".join(f"{inside.prefix}.{setting.key}={setting.default}" for setting in inside.settings)
    return [f"{head} (pretune list {inside.name})", *textwrap.wrap(words, _WIDTH, initial_indent="      ", subsequent_indent="      ")]


def grouped(verb: str) -> dict[str, list[Setting]]:
    """Return the settings that a verb accepts by the heading that they belong under."""
    cls = settings_of(verb)
    accepted = set(keys_of(verb))
    out: dict[str, list[Setting]] = {heading: [] for heading in (*_GROUPS, OTHER)}
    for setting in settings(cls) if cls else ():
        if setting.key in accepted:
            out.setdefault(VERBS[verb].heading or _heading(setting), []).append(setting)
    return {heading: found for heading, found in out.items() if found}


def _heading(setting: Setting) -> str:
    for heading, (sections, names) in _GROUPS.items():
        if setting.section in sections or (not setting.section and setting.key in names):
            return heading
    return OTHER


def component_page(family: str, name: str) -> str:
    """Return the page `pretune list NAME` prints: what a component is, and its settings as they are written."""
    key = key_of(family)
    found = component_settings(load(family, name))
    lines = [f"{name} ({registry.singular(family)}): {registry.summary(family, name)}", ""]
    if key is not None:
        lines += [f"  choose it: {key}={name}", ""]
    return "\n".join([*lines, *(_entries(found, prefix_of(family, name)) or ["  It has no settings."])])


def key_of(family: str) -> str | None:
    """Return the setting that names a component of a family; None where none does."""
    keys = {"strategies": "strategy", "tasks": "task", "heads": "head", "objectives": "objective", "augmentations": "augmentations"}
    return keys.get(family)


def prefix_of(family: str, name: str) -> str:
    """Return what a component's settings are written with."""
    key = key_of(family)
    if key is None:
        return f"backbone=scratch:{name}," if family == "architectures" else ""
    return f"{key}.{name}." if key == family else f"{key}."


def _entries(found: Iterable[Setting], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for setting in found:
        head = f"  {prefix}{setting.key}={setting.default}"
        lines += textwrap.wrap(f"{head:<34} {setting.type}", _WIDTH, subsequent_indent=" " * 35, drop_whitespace=True) or [head]
        lines += textwrap.wrap(setting.doc, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
