"""Spans of characters as annotation tools write them: [start, end, label], or objects with those fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pretune.sources.tags import Entity

_START = ("start", "start_offset", "start_char", "begin", "from", "start_idx", "start_index", "start_pos")
_END = ("end", "end_offset", "end_char", "stop", "to", "end_idx", "end_index", "end_pos")
_LABEL = ("label", "type", "entity", "entity_type", "entity_group", "tag", "labels", "category", "class", "ner")
_TEXT = ("text", "word", "surface", "surface_form", "mention", "value", "span")

Found = tuple[Entity, str | None]
"""A span, and the text that it is said to hold."""


def is_spans(values: Sequence[Any]) -> bool:
    """Return whether a column holds lists of spans, some of them empty."""
    lists = [value for value in values if isinstance(value, list)]
    filled = [found for value in lists if value and (found := spans_in(value))]
    return bool(filled) and len(filled) >= 0.5 * sum(bool(value) for value in lists) and len(lists) >= 0.5 * len(values)


def spans_in(value: Any) -> list[Found] | None:
    """Return the spans of a cell: of Label Studio's results the first annotator's; None where one is no span."""
    if value is None:
        return []
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], dict) and isinstance(value[0].get("result"), list):
        value = next((one["result"] for one in value if not one.get("was_cancelled")), [])
    found = [_span(one) for one in value]
    return None if None in found else [one for one in found if one is not None]


def _span(one: Any) -> Found | None:
    if isinstance(one, dict):
        inner = one.get("value")
        return _of_fields({**one, **inner} if isinstance(inner, dict) else one)
    if not isinstance(one, list | tuple):
        return None
    places = [part for part in one if isinstance(part, int) and not isinstance(part, bool)]
    names = [part for part in one if isinstance(part, str)]
    return (Entity(places[0], places[1], names[0]), None) if len(one) == 3 and len(places) == 2 and names and names[0] else None


def _of_fields(one: dict[str, Any]) -> Found | None:
    start, end, label = (next((one[key] for key in keys if one.get(key) is not None), None) for keys in (_START, _END, _LABEL))
    if isinstance(label, list):
        label = label[0] if len(label) == 1 else None
    if isinstance(start, bool) or not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str | int) or label == "":
        return None
    messages = next((one[key] for key in _TEXT if isinstance(one.get(key), str)), None)
    return Entity(start, end, str(label)), messages


def fault_of_text(found: Sequence[Found], text: str) -> tuple[str, str] | None:
    """Return why spans do not lie where they say: the text there is another than the file has beside them."""
    for span, messages in found:
        there = text[max(0, span.start) : max(0, span.end)]
        if messages is not None and span.end <= len(text) and messages.split() != there.split():
            return (
                "other_text",
                f"says that its span {span.start}:{span.end} ({span.type}) is {messages[:40]!r}, but the text there is {there[:40]!r}",
            )
    return None
