"""Which of a file's tensors are a network's: found by the network's own names, whatever a training tool put before them.

Self-supervised and distributed training save a network inside others: MoCo under `module.encoder_q.`, SimCLR under
`backbone.`, DINO as dictionaries `teacher` and `student`, Lightning under `state_dict` and `model.`, timm with a moving average
in `state_dict_ema`. No list of tools is needed: a prefix is what stands before the network's names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pretune.backbones._states import State
from pretune.errors import SettingError

_COMMON = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.")
"""Taken off where a network's own names are not known."""
_COUNTER = "num_batches_tracked"
_AVERAGES = frozenset(("ema", "teacher", "averaged", "swa"))
_FOLLOWERS = frozenset(("student", "momentum", "target", "k", "key"))
_WHY = ("it is the average that such trainings evaluate", "the other only follows it in training", "")
_SHOWN = 3


def fit(state: State, own: Mapping[str, Tensor], head: tuple[str, ...] = ()) -> State:
    """Return the state with the names that a network knows.

    Of several sets of weights that fit, a moving average (`ema`, `teacher`) is taken before what it averages, and what is trained
    before what follows it (`momentum`, `encoder_k`); the source says which. Tensors of other networks and of heads are left out.

    Args:
        state: as it was read.
        own: the network's tensors by name.
        head: beginnings of names of the network's classifier, which a file may lack.

    Raises:
        SettingError: several sets fit and nothing tells which is meant, or the one that was named is not there.
    """
    found = state.found or state.tensors
    body = [name for name in own if not name.startswith(head) and not name.endswith(_COUNTER)]
    counts = _counted(found, body)
    _check_entry(state, counts)
    if state.entry is not None:
        counts = {prefix: count for prefix, count in counts.items() if _is_below(prefix, state.entry)}
    whole = _fitting([prefix for prefix, count in counts.items() if count == len(body)], found, own, body)
    prefix, why = _chosen(state, whole, found, body) if whole else (_nearest(counts, len(body)), "")
    if prefix is None:
        return _without_common(state)
    inside = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    tops = {name.partition(".")[0] for name in own}
    kept = {name: tensor for name, tensor in inside.items() if name.partition(".")[0] in tops or name.startswith(head)}
    unused = [] if not whole else [name for name in found if name.removeprefix(prefix) not in kept or not name.startswith(prefix)]
    return replace(state, tensors=kept if whole else inside, source="; ".join([_named(state, prefix), *why, *_left(unused)]))


def _counted(found: Iterable[str], body: Iterable[str]) -> dict[str, int]:
    """Return each beginning of the file's names that leaves a name of the network, and how many it leaves."""
    known, out = set(body), Counter()
    for name in found:
        place = 0
        while True:
            if name[place:] in known:
                out[name[:place]] += 1
            place = name.find(".", place) + 1
            if not place:
                break
    return dict(out)


def _check_entry(state: State, counts: Mapping[str, int]) -> None:
    if state.entry is None or any(_is_below(prefix, state.entry) for prefix in counts):
        return
    known = ", ".join(repr(prefix.rstrip(".")) for prefix, _ in sorted(counts.items(), key=lambda item: -item[1])[:6] if prefix)
    there = f"It holds {known}" if known else "No part of it holds names of this network"
    raise SettingError(f"entry={state.entry}: {state.source} holds no such weights. {there}.")


def _is_below(prefix: str, entry: str) -> bool:
    return f"{prefix}.".startswith(f"{entry.rstrip('.')}.")


def _fitting(prefixes: list[str], found: Mapping[str, Tensor], own: Mapping[str, Tensor], body: list[str]) -> list[str]:
    """Return the prefixes under which most tensors have the network's shapes (position tables may differ)."""
    same = {prefix: sum(found[prefix + name].shape == own[name].shape for name in body) for prefix in prefixes}
    return [prefix for prefix in prefixes if same[prefix] == max(same.values())]


def _nearest(counts: Mapping[str, int], size: int) -> str | None:
    """Return the prefix that leaves most of the network's names, half of them at least."""
    prefix, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return prefix if count and 2 * count >= size else None


# --- one of several ----------------------------------------------------------------------------------


def _rank(prefix: str) -> int:
    words = set(re.split(r"[^a-z]+", prefix.lower()))
    return 0 if words & _AVERAGES else 2 if words & _FOLLOWERS else 1


def _chosen(state: State, whole: list[str], found: Mapping[str, Tensor], body: list[str]) -> tuple[str, list[str]]:
    """Return the set of weights to take, and a sentence on the others."""
    best = [prefix for prefix in whole if _rank(prefix) == min(map(_rank, whole))]
    first, others = best[0], [prefix for prefix in whole if prefix != best[0]]
    if any(not _equal(first, other, found, body) for other in best[1:]):
        names = [prefix.rstrip(".") for prefix in best]
        shown, spellings = (
            ", ".join(map(repr, names[:_SHOWN])),
            " or ".join(f"backbone={state.id or '…'},entry={n}" for n in names[:_SHOWN]),
        )
        raise SettingError(
            f"{state.source} holds {len(best)} sets of weights that fit this network ({shown}), and nothing tells which is meant. "
            f"Write {spellings}."
        )
    if not others:
        return first, []
    names = ", ".join(repr(prefix.rstrip(".")) for prefix in others[:_SHOWN])
    reason = _WHY[0] if _rank(first) == 0 else _WHY[1] if any(_rank(other) == 2 for other in others) else "they are equal"
    return first, [f"taken rather than {names}, as {reason}; entry={others[0].rstrip('.')} takes the other"]


def _equal(first: str, other: str, found: Mapping[str, Tensor], body: list[str]) -> bool:
    return all(torch.equal(found[first + name], found[other + name]) for name in body)


# --- what is said ------------------------------------------------------------------------------------


def _named(state: State, prefix: str) -> str:
    """Return the file and what was taken off: the entry, then the beginning of the names."""
    path = state.source.partition(" (its entry ")[0]
    entry = max((entry for entry in state.entries if prefix.startswith(f"{entry}.")), key=len, default="")
    rest = prefix.removeprefix(f"{entry}.") if entry else prefix
    details = [f"its entry {entry!r}"] * bool(entry) + [f"prefix {rest!r} taken off"] * bool(rest)
    return f"{path} ({'; '.join(details)})" if details else path


def _left(unused: list[str]) -> list[str]:
    if not unused:
        return []
    tops = dict.fromkeys(".".join(name.split(".")[:2]) if len(name.split(".")) > 2 else name for name in unused)
    shown = ", ".join(list(tops)[:_SHOWN])
    return [f"{len(unused)} other tensors not used ({shown}{' …' if len(tops) > _SHOWN else ''})"]


def _without_common(state: State) -> State:
    """Return the state with usual prefixes taken off that all its names share: for names that a library converts itself."""
    tensors, removed = state.tensors, []
    while prefix := next((p for p in _COMMON if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        removed.append(f"prefix {prefix!r} taken off")
    return replace(state, tensors=tensors, source="; ".join([state.source, *removed]))
