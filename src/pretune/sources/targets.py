"""From the values of a label column to targets: classes, sets of classes, or numbers.

Names stay as written: '10' never becomes 10.0, 'Circle' and 'circle' stay two classes (letter case may
mean something: 'Polish' and 'polish'); the audit reports the pair. White space around a name (no-break
and zero-width spaces included) never means anything, so it is cut, and reported.
"""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

from pretune.errors import DataError
from pretune.sources import label_lists
from pretune.sources.column import as_text
from pretune.sources.missing import may_be_missing, missing_words
from pretune.sources.names import composed, names_in
from pretune.sources.notation import Notation, may_be_grouped, notation_of
from pretune.sources.numbers import finite, is_measured, number, outliers
from pretune.sources.readers.records import Value
from pretune.sources.reading import FOUND, Reading
from pretune.sources.target_type import NUMBER, ONE_CLASS, SEVERAL_CLASSES, ParsedLabels, Problem, TargetType
from pretune.sources.vocabulary import QUANTITY, plain
from pretune.types import Finding, Target

_EDGE = re.compile(r"^[\s\u200b\u200c\u200d\u2060\ufeff]+|[\s\u200b\u200c\u200d\u2060\ufeff]+$")
_INNER = re.compile(r"\s+")
_DIGITS = 300
_ABSURD = 1000.0
_FAR = 20.0


def natural(name: str) -> tuple[object, ...]:
    """Return a sort key under which 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    if re.fullmatch(r"-\d+", name):
        return (_place(name),)
    return tuple(_place(part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def _place(digits: str) -> tuple[object, ...]:
    """Return where a whole number stands among others; Python reads no more than some thousand digits."""
    if len(digits) < _DIGITS:
        return (0, int(digits), "")
    return (0, math.copysign(math.inf, -digits.startswith("-")), digits)


def classes_of(targets: list[Target]) -> tuple[str, ...]:
    """Return the class names in natural order; () for numbers."""
    return tuple(sorted({name for target in targets for name in names_in(target)}, key=natural))


def clean(name: str) -> str:
    """Return a class name in the Unicode form NFC, without white space around it and with single spaces inside."""
    return composed(_INNER.sub(" ", _EDGE.sub("", name)))


def parse(
    values: list[Value], column: str, *, target: TargetType | None = None, names: list[str] | None = None, reading: Reading = FOUND
) -> ParsedLabels:
    """Return the targets of one column.

    Args:
        values: as read, None where missing.
        column: its name, for messages.
        target: the type that is wanted; None infers it.
        names: class names that `named` has put for integers; those it left stand for none.
        reading: what is known of the way it is written.

    Raises:
        DataError: a value may be read in two ways; the message gives the setting for each.
    """
    if target is not None and (own := target.parse(values, column)) is not None:
        return own
    if names:
        known = parse([None if _unnamed(value) else value for value in values], column, target=target, reading=reading)
        return _with_names(values, names, known, column)
    return as_wanted(_parsed(values, column, target, reading), target)


def as_wanted(out: ParsedLabels, target: TargetType | None) -> ParsedLabels:
    """Give targets the type that is wanted where they are of its form: it names the task."""
    if target is not None and target.form == out.type.form:
        out.type = target
    return out


def _parsed(values: list[Value], column: str, target: TargetType | None, reading: Reading) -> ParsedLabels:
    """Return the targets by the common rules."""
    form = None if target is None else target.form
    lists = label_lists.as_lists(values)
    if lists is not None and form != "number" and label_lists.are_multi_hot(lists):
        return _from_places(lists, column)
    if lists is not None and form != "number":
        return _from_lists([None if names is None else [clean(name) for name in names] for names in lists], column)
    strings = _strings(values)
    if form != "number" and (flags := label_lists.joined_flags(strings)) is not None:
        return _from_places(flags, column)
    sure = [text for text in strings if text and not may_be_missing(text) and text not in ("-", "?")]
    kind = label_lists.integers(sure, column) if form is None else None
    if form == "number" or (form is None and kind != "lists" and _are_measured(sure, column, reading)):
        return _numbers(strings, column, reading, inferred=form is None)
    missing = missing_words(strings, column, reading.missing, reading.classes)
    present = [text for text in strings if text and text not in missing]
    separator = None if form == "class" else "," if kind == "lists" else label_lists.separator(present, forced=form == "classes")
    if separator or form == "classes":
        return _separated(strings, column, separator, missing)
    return _names(values, strings, column, missing, inferred=form is None)


def _are_measured(strings: list[str], column: str, reading: Reading) -> bool:
    """Return whether a column without a named task holds measured numbers; what is grouped, has a unit or decimal commas is measured."""
    notation = notation_of(strings, reading.decimal)
    if notation == Notation():
        return is_measured(strings, quantity=plain(column) in QUANTITY)
    found = [value for text in strings if (value := notation.number(text)) is not None]
    return bool(found) and is_measured([f"{value:g}" for value in found], quantity=True) and len(found) >= 0.8 * len(strings)


def named(value: Value, names: list[str]) -> Value:
    """Return the class that a number stands for (of a list, those of its numbers); numbers that stand for none stay, -1 is no label."""
    if isinstance(value, list | tuple):
        return [named(one, names) for one in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None if value == -1 else value


def _unnamed(value: Value) -> list[int]:
    """Return the numbers that stand for no class."""
    return [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, int) and not isinstance(one, bool)]


def _with_names(values: list[Value], names: list[str], out: ParsedLabels, column: str) -> ParsedLabels:
    """Report that numbers stand for names, and drop those that stand for none."""
    shown = ", ".join(names[:6]) + (f", … ({len(names)} in all)" if len(names) > 6 else "")
    out.messages.insert(0, f"the numbers in {column!r} stand for the class names that the table gives: {shown}.")
    for index, value in enumerate(values):
        if _unnamed(value):
            out.drop(index, "unknown_label", f"has the label {_unnamed(value)[0]}, but the table names {len(names)} classes, from 0 on")
    return out


def _strings(values: list[Value]) -> list[str]:
    """Return values as cleaned text; floats that are all whole lose their '.0' (integers beside missing values)."""
    floats = [value for value in values if isinstance(value, float) and value == value]
    whole = bool(floats) and all(value == round(value) for value in floats if abs(value) != float("inf")) and len(set(floats)) > 1
    return [str(int(v)) if whole and isinstance(v, float) and finite(v) else clean(as_text(v)) for v in values]


# --- one class -----------------------------------------------------------------------------------


def _names(values: list[Value], strings: list[str], column: str, missing: frozenset[str], *, inferred: bool) -> ParsedLabels:
    out = ParsedLabels(type=ONE_CLASS, values=list(strings))
    for index, text in enumerate(strings):
        if not text:
            out.drop(index, "blank_label", "has no label")
        elif text in missing:
            out.drop(index, "na_label", f"has the label {text!r}, which was read as a missing label (missing=blank keeps it as a class)")
    present = {text for text in strings if text and text not in missing}
    kept = sorted(filter(may_be_missing, present))
    if kept:
        out.messages.append(f"the label {kept[0]!r} is about as frequent as the others and is a class; missing={kept[0]} drops it.")
    _mention_spaces(out, values, strings)
    if all(re.fullmatch(r"[+-]?\d+\.0+", text) for text in present) and present:
        out.values = [text.partition(".")[0] if isinstance(text, str) else None for text in out.values]
        out.messages.append(f"the numbers in {column!r} are whole and are read as classes, without their '.0'.")
    elif inferred and all(re.fullmatch(r"[+-]?\d+", text) for text in present):
        out.messages.append(f"the integers in {column!r} are read as classes; task=regression reads them as numbers.")
    return out


def _mention_spaces(out: ParsedLabels, values: list[Value], strings: list[str]) -> None:
    """Report labels that differed only in white space or Unicode form and were merged."""
    odd = Counter((value, text) for value, text in zip(values, strings, strict=True) if isinstance(value, str) and text and value != text)
    merged = {text for _, text in odd if any(value == text for value in values)} if odd else set()
    if merged:
        variants = ", ".join(
            f"{ascii(value) if not value.isascii() else repr(value)} ({n})" for (value, text), n in odd.most_common(5) if text in merged
        )
        message = (
            f"labels that differ in white space or Unicode form only are one: {variants} became {', '.join(map(repr, sorted(merged)[:5]))}."
        )
        out.findings.append(Finding(kind="label_spaces", severity="note", message=message, items=tuple(sorted(merged))))


# --- several classes -----------------------------------------------------------------------------


def _from_lists(lists: list[list[str] | None], column: str) -> ParsedLabels:
    out = ParsedLabels(type=SEVERAL_CLASSES, values=[])
    for index, names in enumerate(lists):
        out.values.append(_set(names) if names is not None else None)
        if names is None:
            out.problems[index] = Problem("dropped", "blank_label", "has no label")
    out.messages.append(f"{column!r} holds lists: several labels per example (multilabel).")
    return out


def _from_places(lists: list[list[str] | None], column: str) -> ParsedLabels:
    """Read lists of 0 and 1, one place for each class; the classes are called by the number of their place."""
    out = ParsedLabels(type=SEVERAL_CLASSES, values=[])
    for index, flags in enumerate(lists):
        out.values.append(None if flags is None else tuple(str(place) for place, flag in enumerate(flags) if flag in label_lists.ONES))
        if flags is None:
            out.problems[index] = Problem("dropped", "blank_label", "has no label")
    out.messages.append(
        f"{column!r} holds lists of 0 and 1, one place for each class (multilabel); the classes are called 0, 1, 2 … by place."
    )
    return out


def _set(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}, key=natural))


def _separated(strings: list[str], column: str, separator: str | None, missing: frozenset[str]) -> ParsedLabels:
    out = ParsedLabels(type=SEVERAL_CLASSES, values=[])
    for index, text in enumerate(strings):
        lost = not text or text in missing
        out.values.append(None if lost else _set([clean(part) for part in text.split(separator)] if separator else [text]))
        if lost:
            out.problems[index] = Problem("dropped", "blank_label", "has no label")
    if separator:
        out.messages.append(
            f"{column!r} holds several labels per example, separated by {label_lists.SEPARATORS[separator]} (multilabel); "
            "task=classification keeps each cell whole."
        )
    return out


def parse_flags(columns: dict[str, list[Value]], *, target: TargetType | None = None) -> ParsedLabels:
    """Return the targets of several 0/1 columns, whose names are the classes.

    Exactly one 1 in every row makes it single-label classification.
    """
    names = list(columns)
    rows = [[as_text(value).casefold() for value in values] for values in zip(*columns.values(), strict=True)]
    blank_is_zero = not any(cell in ("0", "0.0", "false") for row in rows for cell in row)
    sets = [_flags(row, names, blank_is_zero) for row in rows]
    single = not (target is not None and target.several) and all(chosen is None or len(chosen) == 1 for chosen in sets)
    out = ParsedLabels(type=ONE_CLASS if single else SEVERAL_CLASSES, values=[])
    for index, chosen in enumerate(sets):
        out.values.append(None if chosen is None else chosen[0] if single else chosen)
        if chosen is None:
            out.problems[index] = Problem("dropped", "blank_label", f"has a label column that is neither 0 nor 1 ({', '.join(names)})")
    many = "exactly one 1 per row: one class each" if single else "several labels per example (multilabel)"
    out.messages.append(f"the columns {', '.join(names)} hold 0 and 1: {many}.")
    return as_wanted(out, target)


def _flags(row: list[str], names: list[str], blank_is_zero: bool) -> tuple[str, ...] | None:
    known = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False} | ({"": False} if blank_is_zero else {})
    if any(cell not in known for cell in row):
        return None
    return _set([name for name, cell in zip(names, row, strict=True) if known[cell]])


# --- numbers -------------------------------------------------------------------------------------


def _numbers(strings: list[str], column: str, reading: Reading, *, inferred: bool) -> ParsedLabels:
    """Read numbers; what is none, or absurdly far from all others, is dropped and named.

    Raises:
        DataError: the sign in '1,234' may be a decimal one or not; or the unit is another than in training.
    """
    notation = _notation([text for text in strings if text], column, reading)
    mixed = notation.decimal == "point" and not notation.grouped and not notation.unit and reading.decimal is None
    parsed = [number(text) if mixed else notation.number(text) for text in strings]
    out = ParsedLabels(type=NUMBER, values=[value if finite(value) else None for value in parsed], notation=notation)
    sure = notation.grouped or reading.decimal is not None
    usual = notation.decimal == "comma" and (sure or sum("," in text for text in strings) > len(strings) / 2)
    for index, (text, value) in enumerate(zip(strings, parsed, strict=True)):
        if not finite(value):
            shown = repr(text) if text else "a blank"
            out.problems[index] = Problem("dropped", "no_finite_number", f"has {shown} for {column}, which is not a finite number")
        elif "," in text and not usual and not sure:
            out.problems[index] = Problem("repaired", "decimal_comma", f"has {text!r} for {column}; it was read as {value:g}")
    out.messages += _notation_messages(notation, strings, column, usual=usual)
    _judge_outliers(out, strings, column)
    if inferred:
        out.messages.append(f"{column!r} holds measured numbers: regression. task=classification reads them as classes.")
    return out


def _notation(strings: list[str], column: str, reading: Reading) -> Notation:
    notation = notation_of([text for text in strings if not may_be_missing(text)], reading.decimal)
    if notation.unclear:
        value = notation.unclear
        whole, fraction = re.sub(r"[.,]", "", value), value.replace(",", ".")
        point, comma = (whole, fraction) if "," in value else (fraction, whole)
        raise DataError(
            f"{column!r} holds numbers such as {value!r}, which may be {whole} or {fraction}. "
            f"Say which sign is the decimal one: decimal=point ({value} is {point}) or decimal=comma ({value} is {comma})."
        )
    if reading.unit is not None and notation.unit and reading.unit and notation.unit != reading.unit:
        raise DataError(
            f"{column!r} is in {notation.unit!r} here, and the run was trained on {reading.unit!r}. Convert it, or remove the unit."
        )
    return notation


def _notation_messages(notation: Notation, strings: list[str], column: str, *, usual: bool) -> list[str]:
    example = next((text for text in strings if notation.grouped and re.search(r"\d[.,'’\s]\d{3}", text)), None)
    value = notation.number(example) if example else None
    messages = [f"the numbers in {column!r} have thousands separators: {example!r} is {value:.10g}."] if value is not None else []
    messages += [f"the commas in {column!r} were read as decimal points."] if usual and not notation.grouped else []
    present = [text for text in strings if text]
    if notation == Notation() and may_be_grouped(present):
        whole = present[0].replace(".", "")
        messages.append(f"{present[0]!r} in {column!r} was read as {float(present[0]):g}; decimal=comma reads it as {whole}.")
    return messages + ([f"{column!r} is in {notation.unit!r}; the unit was removed."] if notation.unit else [])


def _judge_outliers(out: ParsedLabels, strings: list[str], column: str) -> None:
    """Drop values that would drown all others, name those that are merely far away."""
    index = np.array([i for i, value in enumerate(out.values) if value is not None], dtype=int)
    values = np.array([out.values[i] for i in index], dtype=float)
    absurd = set(outliers(values, _ABSURD).tolist())
    for at in absurd:
        words = (
            f"has {strings[index[at]]!r} for {column}, an outlier more than {_ABSURD:g} times the usual spread away; "
            "with it nothing else could be learned"
        )
        out.drop(int(index[at]), "absurd_outlier", words)
    far = [strings[index[at]] for at in outliers(values, _FAR) if at not in absurd]
    if far:
        shown = ", ".join(far[:5])
        message = (
            f"{len(far)} outlier(s) in {column!r} lie more than {_FAR:g} times the usual spread away: {shown}. They are used; check them."
        )
        out.findings.append(Finding(kind="outlier", severity="warning", message=message, items=tuple(far[:100])))
