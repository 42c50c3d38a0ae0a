"""What pairs of texts show before training: passages that many queries share, and queries worded like their passage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pretune.sources.related import Related
from pretune.types import Finding, Row

_COMMON = 0.05
"""Share of the training pairs with one passage from which batches lack negatives."""
_ITEMS = 300


def related_findings(rows: Sequence[Row], wordings: Mapping[str, str]) -> list[Finding]:
    """Return what pairs show; texts of classes show nothing.

    Args:
        rows: of all splits.
        wordings: what each row's text is compared by, by id.
    """
    pairs: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if isinstance(row.target, Related) and row.target.role in ("query", "passage"):
            pairs[row.target.pair][row.target.role] = row
    whole = [(both["query"], both["passage"]) for both in pairs.values() if len(both) == 2]
    return [*_same(whole, wordings), *_common([pair for pair in whole if pair[0].split == "train"], wordings)] if whole else []


def _same(pairs: Sequence[tuple[Row, Row]], wordings: Mapping[str, str]) -> list[Finding]:
    same = [query for query, passage in pairs if wordings[query.id] == wordings[passage.id]]
    if not same:
        return []
    what = f"{len(same)} of {len(pairs)} pairs have the same text on both sides (the first: {same[0].id})"
    message = f"{what}: they are neither learned nor scored."
    return [Finding(kind="same_text", severity="warning", message=message, items=tuple(row.id for row in same[:_ITEMS]))]


def _common(pairs: Sequence[tuple[Row, Row]], wordings: Mapping[str, str]) -> list[Finding]:
    """Report a passage of so many queries that a batch hardly has others to tell it from: equal passages are no negatives."""
    counts = Counter(wordings[passage.id] for _, passage in pairs)
    if not counts:
        return []
    wording, count = counts.most_common(1)[0]
    if count < 3 or count < _COMMON * len(pairs):
        return []
    message = (
        f"{count} of {len(pairs)} training pairs have the passage {wording[:60]!r} ({len(counts)} different passages in all). Equal "
        "passages are no negatives of each other, so batches have fewer negatives. Where passages are names of classes, classify instead."
    )
    items = [passage.id for _, passage in pairs if wordings[passage.id] == wording]
    return [Finding(kind="common_passage", severity="warning", message=message, items=tuple(items[:_ITEMS]))]
