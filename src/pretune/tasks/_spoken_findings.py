"""What the transcripts of the splits show before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pretune.tasks._spoken import SpeechSpace, split
from pretune.types import Finding, Row

_KNOWN = 0.2
"""Share of held-out transcripts that training has word for word, from which that is worth a sentence."""
_SHOWN = 8
_ITEMS = 300


def spoken_findings(rows: Sequence[Row], space: SpeechSpace, texts: Mapping[str, str], task: str) -> list[Finding]:
    """Return what some transcripts show.

    Args:
        rows: of all splits.
        space: the units.
        texts: transcript of each row as it is learned and scored, by id.
        task: name of the task, which stands before settings of it that are advised: where the data alone named it, they need it.
    """
    return [*_normalised(rows, texts, task), _units(rows, space, texts, task), *_unknown(rows, space, texts), *_known(rows, texts)]


def written_findings(rows: Sequence[Row], texts: Mapping[str, str], task: str) -> list[Finding]:
    """Return what some transcripts show where a decoder writes them, which can write every word."""
    return [*_normalised(rows, texts, task), *_known(rows, texts)]


def _normalised(rows: Sequence[Row], texts: Mapping[str, str], task: str) -> list[Finding]:
    changed = [row for row in rows if str(row.target) != texts[row.id]]
    if not changed:
        return []
    message = (
        f"transcripts are learned and scored in lower case and without punctuation, {str(changed[0].target)[:60]!r} as "
        f"{texts[changed[0].id][:60]!r}; task={task} task.text=written keeps them as they are."
    )
    return [Finding(kind="normalised_text", severity="note", message=message)]


def _units(rows: Sequence[Row], space: SpeechSpace, texts: Mapping[str, str], task: str) -> Finding:
    words = Counter(word for row in rows if row.split == "train" for word in texts[row.id].split())
    other = "characters" if space.units == "words" else "words"
    message = (
        f"the network writes {space.units} ({len(space.symbols)} different): the training transcripts hold {words.total():,} words, "
        f"{len(words):,} different; task={task} task.units={other} writes {other} instead."
    )
    return Finding(kind="units", severity="note", message=message)


def _unknown(rows: Sequence[Row], space: SpeechSpace, texts: Mapping[str, str]) -> list[Finding]:
    """Name what only held-out transcripts hold: no output stands for it, so it is always an error."""
    known = set(space.symbols)
    held = [row for row in rows if row.split != "train"]
    lost = {row.id: [piece for piece in split(texts[row.id], space.units) if piece not in known] for row in held}
    counts = Counter(piece for pieces in lost.values() for piece in pieces)
    if not counts:
        return []
    shown = ", ".join(f"{piece!r} ({count})" for piece, count in counts.most_common(_SHOWN)) + (" …" if len(counts) > _SHOWN else "")
    hit = [item for item, pieces in lost.items() if pieces]
    message = (
        f"{len(counts)} {space.units} of val or test do not occur in the training transcripts and cannot be recognised: {shown}; "
        f"{len(hit)} of {len(held)} held-out transcripts hold one."
    )
    return [Finding(kind="unknown_units", severity="warning", message=message, items=tuple(hit[:_ITEMS]))]


def _known(rows: Sequence[Row], texts: Mapping[str, str]) -> list[Finding]:
    """Say how many held-out transcripts are among those of training: the score then tells little of other sentences."""
    train = {texts[row.id] for row in rows if row.split == "train"}
    out = []
    for part in ("val", "test"):
        held = [row.id for row in rows if row.split == part]
        hit = [item for item in held if texts[item] in train]
        if len(hit) > _KNOWN * len(held) and hit:
            message = (
                f"{len(hit)} of {len(held)} {part} transcripts are also in train, word for word: the score says little about sentences "
                "that training does not have."
            )
            out.append(Finding(kind="known_transcripts", severity="note", message=message, items=tuple(hit[:_ITEMS])))
    return out
