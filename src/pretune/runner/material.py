"""What a pretraining run learns from: views of a corpus or of unlabelled items, and the floors its loss is measured against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretune import backbones, config, registry
from pretune.auditing import duplicates
from pretune.augmentations import BatchAugmentation, ViewAugmentation, preset
from pretune.backbones import Backbone, Builder
from pretune.corpus import corpus as corpora
from pretune.corpus.corpus import Corpus
from pretune.corpus.resemblance import Excluded
from pretune.corpus.tokens import BlockView, kept, made_by, tokenized
from pretune.data import splits
from pretune.data.augmented import AugmentedView
from pretune.data.dataset import StoreView, View
from pretune.data.views import Stacked
from pretune.errors import DataError, SettingError
from pretune.evaluation import ngram
from pretune.labels import Labels
from pretune.modalities.text import Text
from pretune.objectives import Objective, Suggested
from pretune.pretraining import Pretraining
from pretune.runner.deadline import Deadline
from pretune.runner.fingerprint import Fingerprint, of_network, of_rows
from pretune.runner.inputs import fitted_to_small
from pretune.runner.prepare import reading, report_ledger, threads
from pretune.runner.reporter import Reporter
from pretune.sources import sources
from pretune.sources.table import Table
from pretune.storage.cache import Cache
from pretune.storage.cells import unpack
from pretune.storage.ingest import Ingested, ingest
from pretune.storage.store import StoreWriter
from pretune.types import LedgerEntry, NotUsed, Row
from pretune.unread import given, refuse


@dataclass(kw_only=True)
class Material:
    """Two parts to learn from and to measure on."""

    backbone: Backbone
    fingerprint: Fingerprint
    """All that is learned from and measured on, and the network before training."""
    train: View
    held: View
    ledger: list[LedgerEntry]
    counts: dict[str, Any]
    """What there is of each part: blocks and tokens, or items."""
    floors: dict[str, float] = field(default_factory=dict)
    """Losses, in the units of the objective's, that need no network."""
    per_character: float | None = None
    """Of what writes texts: tokens a character of the held part, which turns nats per token into nats per character."""
    unknown: float = 0.0
    """Share of the held-out tokens that the tokenizer does not know."""
    classes: tuple[str, ...] = ()
    """Names of the labels that the views carry."""


def text_material(
    recipe: Pretraining,
    objective: Objective,
    backbone: Backbone,
    cache: Cache,
    reporter: Reporter,
    exclude: Excluded,
    deadline: Deadline | None = None,
) -> Material:
    """Return blocks of a corpus of texts; a fresh network gets a tokenizer made from it, and a table of its size."""
    paths = [Path(recipe.data), *map(Path, recipe.corpus.also)]
    _refuse_unread(recipe, paths)
    seed = recipe.training.seed
    reporter.progress("reading the corpus", 0, 0)
    parts = [
        corpora.read_corpus(path, recipe.columns, validation_fraction=recipe.corpus.held, seed=seed, exclude=exclude.documents)
        for path in paths
    ]
    ledger = [entry for part in parts for entry in part.ledger]
    damage = {part.damage for part in parts}
    _tell(reporter, [line for part in parts for line in part.messages], ledger, damage)
    backbone = _with_tokenizer(recipe, objective, backbone, parts, cache, reporter)
    text = backbone.modality
    assert isinstance(text, Text)
    told = reading("character", reporter, deadline)
    streams = {part: tokenized(parts, part, text, cache, told) for part in ("train", "held")}
    length, stride = objective.block(text)
    views = {part: BlockView(stream, length, stride, moving=part == "train", seed=seed, name=part) for part, stream in streams.items()}
    held, writes = streams["held"], _writes(objective)
    if held.unknown:
        reporter.warn(f"{held.unknown:,} of the {len(held):,} held-out tokens are unknown to the tokenizer.")
    counts = {
        part: {"blocks": len(views[part]), "tokens": len(s), "characters": s.characters, "documents": s.documents}
        for part, s in streams.items()
    }
    floors = {"unigram": unigram(streams["train"].counts, held.counts, () if writes else text.special)}
    if writes:
        floors["trigram"] = ngram.trigram(streams["train"].ids, held.ids, text.size)
    return Material(
        backbone=backbone,
        fingerprint={
            "the texts": config.digest([part.digest for part in parts]),
            "the splits": config.digest([[stream.documents, stream.counts.tolist()] for stream in streams.values()]),
            "the network's weights": of_network(backbone),
        },
        train=views["train"],
        held=views["held"],
        ledger=ledger,
        counts=counts,
        floors=floors,
        unknown=held.unknown / max(1, len(held)),
        per_character=len(held) / max(1, held.characters) if writes else None,
    )


def _refuse_unread(recipe: Pretraining, paths: Sequence[Path]) -> None:
    """Refuse settings that a corpus of texts has no use for, and a corpus that is named twice."""
    stream = NotUsed("a corpus of texts, of which only text= and split= are columns")
    refuse(given(recipe), dict.fromkeys(("label", "path", "group", "missing", "merge_classes"), stream))
    named = [key for key in ("text", "split") if getattr(recipe.columns, key) is not None]
    if named and not any(corpora.has_columns(path) for path in paths):
        raise SettingError(f"{', '.join(named)} would not be read: {', '.join(map(str, paths))} has no columns. Leave it out.")
    if recipe.augment not in (None, "none"):
        raise SettingError(f"augment={recipe.augment} would not be used: texts that are read as a stream are not augmented. Leave it out.")
    real = [path.resolve() for path in paths]
    twice = next((path for path, other in zip(paths, real, strict=True) if real.count(other) > 1), None)
    if twice is not None:
        raise SettingError(f"{twice} is named twice in data and also=; its text would be learned from twice. Name it once.")


def _tell(reporter: Reporter, said: list[str], ledger: list[LedgerEntry], warned: Collection[str] = ()) -> None:
    """Say what was found in the data, warn of some of it, and name what was dropped."""
    for line in said:
        (reporter.warn if line in warned else reporter.say)(line)
    report_ledger(ledger, reporter)


def unigram(train: np.ndarray, held: np.ndarray, unscored: Sequence[int] = ()) -> float:
    """Return the held-out nats per token of token frequencies alone, one added to each count; `unscored` ids are left out."""
    train, held = np.delete(train, unscored), np.delete(held, unscored)
    log_p = np.log((train + 1) / (train + 1).sum())
    return float(-(held * log_p).sum() / max(1, held.sum()))


def _writes(objective: Objective) -> bool:
    """Tell whether an objective writes texts: it predicts every token, and its tokenizer keeps all of a text."""
    return objective.verbatim


def _with_tokenizer(
    recipe: Pretraining, objective: Objective, backbone: Backbone, parts: list[Corpus], cache: Cache, reporter: Reporter
) -> Backbone:
    """Make a tokenizer where none came with the weights, and build the fresh network anew with a table of its size.

    What hides tokens needs one to hide them behind: a tokenizer without one gets it, and the table a row.
    """
    text = backbone.modality
    assert isinstance(text, Text)
    wanted = {key: value for key in ("units", "vocabulary") if (value := getattr(recipe.corpus, key)) is not None}
    if text.tokenizer:
        if wanted:
            raise SettingError(f"{', '.join(wanted)} cannot be chosen: {backbone.builder.id} comes with its own tokenizer.")
        return backbone if _writes(objective) else backbones.retokenized(backbone, text.with_mask().tokenizer)
    writes, own = _writes(objective), "units" in backbone.builder.settings
    wanted = wanted if own else {"units": "piece"} | wanted
    reporter.progress("training the tokenizer", 0, 0)
    made = _learned(replace(text, **wanted, verbatim=writes), parts, cache, masked=not writes)
    reporter.say(f"tokenizer trained on the training split: {made.size:,} {made.units}s")
    told = {"vocabulary": made.size, "units": made.units, "separator": made.separator}
    settings = {key: told.get(key, value) for key, value in backbone.builder.settings.items()}
    torch.manual_seed(recipe.training.seed)
    fresh = backbones.build(Builder(id=backbone.builder.id, settings=settings))
    fresh.modality = replace(made, vocabulary=made.size)
    return fresh


def _learned(text: Text, parts: list[Corpus], cache: Cache, *, masked: bool) -> Text:
    """Return the text settings with a tokenizer made from the training parts, from the cache where it was made before."""
    versions = {key: text.working()[key] for key in ("format", "tokenizers")}
    chosen = {"units": text.units, "vocabulary": text.vocabulary, "verbatim": text.verbatim, "masked": masked}

    def make(path: Path) -> None:
        pieces = (piece for part in parts for piece, _ in part.train())
        writer = StoreWriter(path)
        try:
            writer.append(np.frombuffer(text.learned_from(pieces, masked=masked).tokenizer.encode(), np.uint8), {})
            writer.close()
        finally:
            writer.discard()

    key = config.digest({"corpora": [part.parted for part in parts], "made_by": made_by(), **versions, **chosen})
    return replace(text, tokenizer=kept(cache, "tokenizers", key, make).flat.tobytes().decode())


def item_material(
    recipe: Pretraining,
    objective: Objective,
    suggested: Suggested,
    backbone: Backbone,
    cache: Cache,
    reporter: Reporter,
    exclude: Excluded,
    deadline: Deadline | None = None,
) -> Material:
    """Return views of single items; of labelled data only the training part is looked at.

    Raises:
        RequestError: reading them takes longer than the run may.
    """
    kind = registry.name_of(backbone.modality)
    _refuse_unread_of_items(recipe, objective, kind)
    tables = [_table(Path(path), kind, recipe, objective) for path in (recipe.data, *recipe.corpus.also)]
    absent = [key for key in ("text", "path") if not any(key in table.columns for table in tables)]
    refuse(given(recipe), dict.fromkeys(absent, NotUsed(f"{recipe.data}, whose examples have no such column ({tables[0].layout})")))
    rows = [row for table in tables for row in table.rows if row.split in (None, "train")]
    said = [line for table in tables for line in table.messages] + _left_out(tables, rows)
    ledger = [entry for table in tables for entry in table.ledger]
    unit = backbone.modality.unit
    unpack(rows, cache)
    backbone, line = fitted_to_small(backbone, rows, named=recipe.backbone, inputs=recipe.inputs, seed=recipe.training.seed)
    said += [line] if line else []
    backbone = objective.fitted(backbone)
    backbone.modality, line = backbone.modality.fitted_to(rows)
    said += [line] if line else []
    done = ingest(rows, backbone.modality, cache, threads=threads(recipe), progress=reading(unit, reporter, deadline))
    targets, classes = _targets(done.rows, objective)
    positions, copies = _once(done, targets)
    ledger += done.ledger + copies
    found = [finding.message for table in tables for finding in table.findings]
    _tell(reporter, [*said, *found, *done.notes], ledger, found)
    out = _left_as_held(done, exclude)[positions]
    if out.any():
        resemble = ", or resemble some" if exclude.documents is not None else ""
        reporter.say(f"{out.sum():,} {unit}(s) are left out: they are held-out items of the task that follows{resemble}.")
    what = f"different usable {unit}s under {recipe.data}"
    twins = duplicates.find(done).near
    parts = _drawn(positions[~out], done.rows, recipe, what, twins, least=objective.views)
    backbone.modality, line = backbone.modality.windowed(done.store.lengths[parts["train"]], done.store.lengths)
    if line:
        reporter.say(line)
    labels = config.digest(None if targets is None else [targets.tolist(), classes])
    views = {part: _view(done, places, backbone, targets, recipe, suggested, objective, part) for part, places in parts.items()}
    return Material(
        backbone=backbone,
        fingerprint=of_rows(done.rows, done.hashes, parts) | {"the labels": labels, "the network's weights": of_network(backbone)},
        train=views["train"],
        held=views["held"],
        ledger=ledger,
        counts={part: {"items": len(places)} for part, places in parts.items()},
        classes=classes,
    )


def _refuse_unread_of_items(recipe: Pretraining, objective: Objective, kind: str) -> None:
    """Refuse settings that an objective over single items has no use for."""
    name = registry.name_of(objective)
    whole = NotUsed(f"objective={name}: a tokenizer is trained by objectives that predict tokens")
    unread = dict.fromkeys(("units", "vocabulary"), whole)
    if not objective.requires_targets:
        unread |= dict.fromkeys(("missing", "merge_classes"), NotUsed(f"objective={name}, which reads no labels"))
    if recipe.augment not in (None, "none", "views") and not preset(recipe.augment, kind):
        unread["augment"] = NotUsed(f"the modality {kind}: this preset is empty there", "set augment=none")
    refuse(given(recipe), unread)


def _left_as_held(done: Ingested, exclude: Excluded) -> np.ndarray:
    """Return which items (N,) are held-out items of a later task; texts also where they resemble one."""
    out = np.array([known in exclude.hashes for known in done.hashes], bool)
    if exclude.documents is not None and len(done.rows):
        found = exclude.documents.found([corpora.documents_of(row)[:1] for row in done.rows])
        out |= np.array([bool(codes.any()) for codes in found])
    return out


def _table(path: Path, kind: str, recipe: Pretraining, objective: Objective) -> Table:
    """Read labelled data where labels are learned from and there are any, else whatever of this modality is there."""
    if not objective.requires_targets:
        return sources.read_items(path, kind, recipe.columns)
    try:
        return sources.read(path, recipe.columns, modality=kind, learn=False)
    except DataError:
        return sources.read_items(path, kind, recipe.columns)


def _left_out(tables: list[Table], rows: list[Row]) -> list[str]:
    lost = sum(len(table.rows) for table in tables) - len(rows)
    return [f"{lost:,} items of the parts val and test are left alone; the {len(rows):,} others are learned from."] if lost else []


def _once(done: Ingested, targets: torch.Tensor | None) -> tuple[np.ndarray, list[LedgerEntry]]:
    """Return the positions of items without copies (equal bytes; where labels are learned from, equal labels too), and the copies."""
    kinds = [0] * len(done.rows) if targets is None else targets.tolist()
    first: dict[tuple[str, int], int] = {}
    places = [first.setdefault(key, place) for place, key in enumerate(zip(done.hashes, kinds, strict=True))]
    copies = [
        LedgerEntry(item=done.rows[i].id, action="dropped", reason="copy", detail=f"equals {done.rows[place].id} byte for byte")
        for i, place in enumerate(places)
        if i != place
    ]
    return np.array(sorted(first.values()), np.int64), copies


def _drawn(
    positions: np.ndarray, rows: list[Row], recipe: Pretraining, what: str, twins: Sequence[Sequence[int]] = (), least: int = 1
) -> dict[str, np.ndarray]:
    """Return the positions for training and those held out, `least` of each, at random; groups and near-duplicates stay together."""
    count = max(least, round(len(positions) * recipe.corpus.held))
    units = splits.kept_together(rows, positions.tolist(), twins)
    order = np.random.default_rng(recipe.training.seed).permutation(len(units))
    cut = int(np.searchsorted(np.cumsum([len(units[unit]) for unit in order]), count)) + 1
    if sum(len(units[unit]) for unit in order[cut:]) < least:
        grouped = " in groups and sets of duplicates that stay whole" if len(units) < len(positions) else ""
        raise DataError(f"{what}: {len(positions)}{grouped}. That is too few to learn from and to hold some out; add data.")
    parts = {"train": order[cut:], "held": order[:cut]}
    found = {part: np.sort([place for unit in chosen for place in units[unit]]) for part, chosen in parts.items()}
    # Held-out examples lie in no order: where the time allows measuring only the first, they stand for all.
    return found | {"held": np.random.default_rng(recipe.training.seed).permutation(found["held"])}


def _targets(rows: list[Row], objective: Objective) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Return each item's class and the classes' names, where the objective wants them and every item has one."""
    if not objective.requires_targets or not all(isinstance(row.target, str) for row in rows):
        return None, ()
    names = tuple(sorted({str(row.target) for row in rows}))
    places = {name: place for place, name in enumerate(names)}
    return torch.tensor([places[str(row.target)] for row in rows]), names


def _view(
    done: Ingested,
    places: np.ndarray,
    backbone: Backbone,
    targets: torch.Tensor | None,
    recipe: Pretraining,
    suggested: Suggested,
    objective: Objective,
    part: str,
) -> View:
    views = objective.views
    augments = part == "train" or views > 1  # views are compared, so held-out items need several too
    kind = registry.name_of(backbone.modality)
    chosen = preset(recipe.augment or suggested.augment, kind) if augments else ()
    if views > 1 and not chosen:
        raise SettingError(
            f"objective={registry.name_of(objective)} compares {views} views of each item: augment=none makes them the same."
        )
    crop = next((one for one in chosen if isinstance(one, ViewAugmentation)), None)
    mixing = tuple(one for one in chosen if isinstance(one, BatchAugmentation))
    here = None if targets is None else Labels.of(targets[torch.from_numpy(places)])
    view: View = StoreView(done.store, places, backbone.modality, here, crop, recipe.training.seed)
    if mixing:
        classes = None if targets is None else int(targets.max()) + 1
        view = AugmentedView(view, mixing, classes, recipe.training.seed)
    return Stacked(view, views) if views > 1 else view
