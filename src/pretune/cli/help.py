"""The pages of --help: made from the verbs and from the settings' own fields; nothing heavy is imported for them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from pretune import registry
from pretune.cli.arguments import USAGE
from pretune.cli.verbs import VERBS, keys_of, settings_of
from pretune.declared import load
from pretune.described import Setting, component_settings, inner_settings, settings

_GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Data": (("columns", "splits", "corpus"), ("task", "also", "part", "label", "text", "path", "split", "missing", "decimal")),
    "Model": (("inputs",), ("backbone", "strategy", "objective", "head", "extend")),
    "Training": (("training",), ("augment", "augmentations", "views", "optim", "schedule")),
    "Comparison with training from scratch": (("gain",), ()),
    "Sampling": ((), ("prompt", "count", "length", "temperature", "top_k", "top_p", "seed")),
    "Output and resources": (("place",), ("out", "cache", "cache_size", "threads", "trust")),
}
"""Sections, and keys outside of them, by the heading that they are printed under."""
_OTHER = "Other"
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
    cls = settings_of(verb)
    usage = f"usage: pretune {verb} {known.takes}{' [recipe.toml]' if 'data' in _keys(cls) else ''}{' [key=value …]' if cls else ''}"
    lines = [f"{usage} [--json]", "", _sentence(known.summary)]
    if known.examples:
        lines += ["", "Examples:", *(f"  {example}" for example in known.examples)]
    for heading, found in grouped(verb).items():
        lines += ["", f"{heading}:", *_entries(found)]
    inside = list(inner_settings(cls)) if cls else []
    inside = [one for one in inside if one[0] in keys_of(verb)]
    if any(found for *_, found in inside):
        lines += ["", "Settings of components (write the component first: strategy=lora strategy.rank=4):"]
        for key, name, prefix, found in inside:
            if found:
                lines += ["", f"  {f'{key}={name}' if name else key}", *_entries(found, f"{prefix}.")]
    return "\n".join(lines)


def _keys(cls: type | None) -> list[str]:
    return [setting.key for setting in settings(cls)] if cls else []


def grouped(verb: str) -> dict[str, list[Setting]]:
    """Return the settings that a verb accepts by the heading that they belong under."""
    cls = settings_of(verb)
    accepted = set(keys_of(verb))
    out: dict[str, list[Setting]] = {heading: [] for heading in (*_GROUPS, _OTHER)}
    for setting in settings(cls) if cls else ():
        if setting.key in accepted:
            out[_heading(setting)].append(setting)
    return {heading: found for heading, found in out.items() if found}


def _heading(setting: Setting) -> str:
    for heading, (sections, names) in _GROUPS.items():
        if setting.section in sections or (not setting.section and setting.key in names):
            return heading
    return _OTHER


def component_page(family: str, name: str) -> str:
    """Return the page `pretune list NAME` prints: what a component is, and its settings as they are written."""
    key = _key_of(family)
    found = component_settings(load(family, name))
    lines = [f"{name} ({registry.singular(family)}): {registry.summary(family, name)}"]
    if key is None:
        prefix = f"backbone=scratch:{name}," if family == "architectures" else ""
        return "\n".join([*lines, *([""] if found else []), *_entries(found, prefix)])
    lines += ["", f"  choose it: {key}={name}"]
    prefix = f"{key}.{name}." if key == family else f"{key}."
    return "\n".join([*lines, *([""] if found else ["  It has no settings."]), *_entries(found, prefix)])


def _key_of(family: str) -> str | None:
    """Return the setting that names a component of a family; None where none does."""
    keys = {"strategies": "strategy", "tasks": "task", "heads": "head", "objectives": "objective", "augmentations": "augmentations"}
    return keys.get(family)


def _entries(found: Iterable[Setting], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for setting in found:
        head = f"  {prefix}{setting.key}={setting.default}"
        lines += textwrap.wrap(f"{head:<34} {setting.type}", _WIDTH, subsequent_indent=" " * 35, drop_whitespace=True) or [head]
        lines += textwrap.wrap(setting.doc, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
