"""The data of a pretraining run: views of a corpus or of unlabelled examples, and the baselines its loss is compared with."""

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
from pretune.corpus.corpus import Corpus, documents_of, has_columns, read_corpus
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
from pretune.runner.fingerprint import Fingerprint, of_network, of_rows
from pretune.runner.inputs import fitted_to_small
from pretune.runner.job import RunContext
from pretune.runner.prepare import followed, report_ledger, threads
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
class PretrainingData:
    """What is learned from and what is measured, for a network that can read it."""

    backbone: Backbone
    fingerprint: Fingerprint
    """All examples, their splits, and the network before training."""
    train: View
    validation: View
    ledger: list[LedgerEntry]
    counts: dict[str, Any]
    """Blocks and tokens, or examples, of each split."""
    floors: dict[str, float] = field(default_factory=dict)
    """Losses that need no network, in the units of the objective's."""
    per_character: float | None = None
    """Where texts are predicted: tokens a character of the validation set, which turns nats per token into nats per character."""
    unknown: float = 0.0
    """Share of the validation set's tokens that the tokenizer does not know."""
    classes: tuple[str, ...] = ()
    """Names of the labels that the views carry."""


def read(
    recipe: Pretraining, objective: Objective, suggested: Suggested, backbone: Backbone, run: RunContext, exclude: Excluded
) -> PretrainingData:
    """Return what an objective learns from; a fresh network may be built anew with what the data need: a tokenizer, another size.

    Args:
        recipe: names the data.
        objective: says how they are read.
        suggested: augmentations where the recipe names none.
        backbone: the network as its name made it.
        run: reads and reports.
        exclude: examples that must not be learned from.

    Raises:
        RequestError: reading takes longer than the run may.
    """
    if isinstance(backbone.modality, Text) and objective.streams:
        return _read_stream(recipe, objective, backbone, run, exclude)
    return _read_examples(recipe, objective, suggested, backbone, run, exclude)


def _read_stream(recipe: Pretraining, objective: Objective, backbone: Backbone, run: RunContext, exclude: Excluded) -> PretrainingData:
    """Return blocks of a corpus of texts; a fresh network gets a tokenizer trained on it, and a table of its size."""
    reporter, seed = run.reporter, recipe.training.seed
    paths = [Path(recipe.data), *map(Path, recipe.corpus.also)]
    _refuse_unread(recipe, paths)
    reporter.progress("reading the corpus", 0, 0)
    fraction, known = recipe.corpus.held, exclude.documents
    corpora = [read_corpus(path, recipe.columns, validation_fraction=fraction, seed=seed, exclude=known) for path in paths]
    ledger = [entry for corpus in corpora for entry in corpus.ledger]
    _report(reporter, [line for corpus in corpora for line in corpus.messages], ledger, {corpus.damage for corpus in corpora})
    backbone = _with_tokenizer(recipe, objective, backbone, corpora, run)
    text = backbone.modality
    assert isinstance(text, Text)
    progress = followed("reading characters", reporter, run.deadline)
    streams = {split: tokenized(corpora, split, text, run.cache, progress) for split in ("train", "held")}
    length, stride = objective.block(text)
    views = {split: BlockView(stream, length, stride, moving=split == "train", seed=seed, name=split) for split, stream in streams.items()}
    validation, writes = streams["held"], objective.verbatim
    if validation.unknown:
        reporter.warn(f"{validation.unknown:,} of the {len(validation):,} held-out tokens are unknown to the tokenizer.")
    counts = {
        split: {"blocks": len(views[split]), "tokens": len(s), "characters": s.characters, "documents": s.documents}
        for split, s in streams.items()
    }
    floors = {"unigram": unigram(streams["train"].counts, validation.counts, () if writes else text.special)}
    if writes:
        floors["trigram"] = ngram.trigram(streams["train"].ids, validation.ids, text.size)
    return PretrainingData(
        backbone=backbone,
        fingerprint={
            "the texts": config.digest([corpus.digest for corpus in corpora]),
            "the splits": config.digest([[stream.documents, stream.counts.tolist()] for stream in streams.values()]),
            "the network's weights": of_network(backbone),
        },
        train=views["train"],
        validation=views["held"],
        ledger=ledger,
        counts=counts,
        floors=floors,
        unknown=validation.unknown / max(1, len(validation)),
        per_character=len(validation) / max(1, validation.characters) if writes else None,
    )


def _refuse_unread(recipe: Pretraining, paths: Sequence[Path]) -> None:
    """Refuse settings that a corpus of texts has no use for, and a corpus that is named twice."""
    stream = NotUsed("a corpus of texts, of which only text= and split= are columns")
    refuse(given(recipe), dict.fromkeys(("label", "path", "group", "missing", "merge_classes"), stream))
    named = [key for key in ("text", "split") if getattr(recipe.columns, key) is not None]
    if named and not any(has_columns(path) for path in paths):
        raise SettingError(f"{', '.join(named)} would not be read: {', '.join(map(str, paths))} has no columns. Leave it out.")
    if recipe.augment not in (None, "none"):
        raise SettingError(f"augment={recipe.augment} would not be used: texts that are read as a stream are not augmented. Leave it out.")
    real = [path.resolve() for path in paths]
    twice = next((path for path, other in zip(paths, real, strict=True) if real.count(other) > 1), None)
    if twice is not None:
        raise SettingError(f"{twice} is named twice in data and also=; its text would be learned from twice. Name it once.")


def _report(reporter: Reporter, messages: list[str], ledger: list[LedgerEntry], warnings: Collection[str] = ()) -> None:
    """Report what was found in the data, warn of some of it, and name what was dropped."""
    for line in messages:
        (reporter.warn if line in warnings else reporter.say)(line)
    report_ledger(ledger, reporter)


def unigram(train: np.ndarray, validation: np.ndarray, unscored: Sequence[int] = ()) -> float:
    """Return the nats per token of token frequencies alone, one added to each count; `unscored` ids are left out."""
    train, validation = np.delete(train, unscored), np.delete(validation, unscored)
    log_p = np.log((train + 1) / (train + 1).sum())
    return float(-(validation * log_p).sum() / max(1, validation.sum()))


def _with_tokenizer(recipe: Pretraining, objective: Objective, backbone: Backbone, corpora: list[Corpus], run: RunContext) -> Backbone:
    """Train a tokenizer where none came with the weights, and build the fresh network anew with a table of its size.

    An objective that masks tokens needs a mask token: a tokenizer without one gets it, and the table a row.
    """
    text, writes = backbone.modality, objective.verbatim
    assert isinstance(text, Text)
    wanted = {key: value for key in ("units", "vocabulary") if (value := getattr(recipe.corpus, key)) is not None}
    if text.tokenizer:
        if wanted:
            raise SettingError(f"{', '.join(wanted)} cannot be chosen: {backbone.builder.id} comes with its own tokenizer.")
        return backbone if writes else backbones.retokenized(backbone, text.with_mask().tokenizer)
    wanted = wanted if "units" in backbone.builder.settings else {"units": "piece"} | wanted
    run.reporter.progress("training the tokenizer", 0, 0)
    made = _learned(replace(text, **wanted, verbatim=writes), corpora, run.cache, masked=not writes)
    run.reporter.say(f"tokenizer trained on the training split: {made.size:,} {made.units}s")
    learned = {"vocabulary": made.size, "units": made.units, "separator": made.separator}
    settings = {key: learned.get(key, value) for key, value in backbone.builder.settings.items()}
    torch.manual_seed(recipe.training.seed)
    rebuilt = backbones.build(Builder(id=backbone.builder.id, settings=settings))
    rebuilt.modality = replace(made, vocabulary=made.size)
    return rebuilt


def _learned(text: Text, corpora: list[Corpus], cache: Cache, *, masked: bool) -> Text:
    """Return the text settings with a tokenizer trained on the training splits, from the cache where that was done before."""
    versions = {key: text.working()[key] for key in ("format", "tokenizers")}
    chosen = {"units": text.units, "vocabulary": text.vocabulary, "verbatim": text.verbatim, "masked": masked}

    def make(path: Path) -> None:
        pieces = (piece for corpus in corpora for piece, _ in corpus.train())
        writer = StoreWriter(path)
        try:
            writer.append(np.frombuffer(text.learned_from(pieces, masked=masked).tokenizer.encode(), np.uint8), {})
            writer.close()
        finally:
            writer.discard()

    key = config.digest({"corpora": [corpus.parted for corpus in corpora], "made_by": made_by(), **versions, **chosen})
    return replace(text, tokenizer=kept(cache, "tokenizers", key, make).flat.tobytes().decode())


def _read_examples(
    recipe: Pretraining, objective: Objective, suggested: Suggested, backbone: Backbone, run: RunContext, exclude: Excluded
) -> PretrainingData:
    """Return views of single examples; of labelled data only the training split is looked at."""
    reporter, kind = run.reporter, registry.name_of(backbone.modality)
    _refuse_unread_of_examples(recipe, objective, kind)
    tables = [_table(Path(path), kind, recipe, objective) for path in (recipe.data, *recipe.corpus.also)]
    absent = [key for key in ("text", "path") if not any(key in table.columns for table in tables)]
    refuse(given(recipe), dict.fromkeys(absent, NotUsed(f"{recipe.data}, whose examples have no such column ({tables[0].layout})")))
    rows = [row for table in tables for row in table.rows if row.split in (None, "train")]
    messages = [line for table in tables for line in table.messages] + _left_out(tables, rows)
    ledger = [entry for table in tables for entry in table.ledger]
    unpack(rows, run.cache)
    backbone, line = fitted_to_small(backbone, rows, named=recipe.backbone, inputs=recipe.inputs, seed=recipe.training.seed)
    messages.append(line)
    backbone = objective.fitted(backbone)
    backbone.modality, line = backbone.modality.fitted_to(rows)
    messages.append(line)
    unit = backbone.modality.unit
    done = ingest(
        rows, backbone.modality, run.cache, threads=threads(recipe.place), progress=followed(f"reading {unit}s", reporter, run.deadline)
    )
    targets, classes = _targets(done.rows, objective)
    positions, copies = _once(done, targets)
    ledger += done.ledger + copies
    found = [finding.message for table in tables for finding in table.findings]
    _report(reporter, [*filter(None, messages), *found, *done.notes], ledger, found)
    out = _excluded(done, exclude)[positions]
    if out.any():
        resemble = ", or resemble some" if exclude.documents is not None else ""
        reporter.say(f"{out.sum():,} {unit}(s) are left out: they are held-out items of the task that follows{resemble}.")
    what = f"different usable {unit}s under {recipe.data}"
    twins = duplicates.find(done).near
    chosen = _sampled(positions[~out], done.rows, recipe, what, twins, least=objective.views)
    backbone.modality, line = backbone.modality.windowed(done.store.lengths[chosen["train"]], done.store.lengths)
    if line:
        reporter.say(line)
    labels = config.digest(None if targets is None else [targets.tolist(), classes])
    views = {split: _view(done, places, backbone, targets, recipe, suggested, objective, split) for split, places in chosen.items()}
    return PretrainingData(
        backbone=backbone,
        fingerprint=of_rows(done.rows, done.hashes, chosen) | {"the labels": labels, "the network's weights": of_network(backbone)},
        train=views["train"],
        validation=views["held"],
        ledger=ledger,
        counts={split: {"items": len(places)} for split, places in chosen.items()},
        classes=classes,
    )


def _refuse_unread_of_examples(recipe: Pretraining, objective: Objective, kind: str) -> None:
    """Refuse settings that an objective over single examples has no use for."""
    name = registry.name_of(objective)
    whole = NotUsed(f"objective={name}: a tokenizer is trained by objectives that predict tokens")
    unread = dict.fromkeys(("units", "vocabulary"), whole)
    if not objective.requires_targets:
        unread |= dict.fromkeys(("missing", "merge_classes"), NotUsed(f"objective={name}, which reads no labels"))
    if recipe.augment not in (None, "none", "views") and not preset(recipe.augment, kind):
        unread["augment"] = NotUsed(f"the modality {kind}: this preset is empty there", "set augment=none")
    refuse(given(recipe), unread)


def _excluded(done: Ingested, exclude: Excluded) -> np.ndarray:
    """Return which items (N,) are held-out items of a later task; texts also where they resemble one."""
    out = np.array([known in exclude.hashes for known in done.hashes], bool)
    if exclude.documents is not None and len(done.rows):
        found = exclude.documents.found([documents_of(row)[:1] for row in done.rows])
        out |= np.array([bool(codes.any()) for codes in found])
    return out


def _table(path: Path, kind: str, recipe: Pretraining, objective: Objective) -> Table:
    """Read labelled data where labels are learned from and there are any, else whatever of this modality is there."""
    labelled = sources.labelled(path, kind, recipe.columns) if objective.requires_targets else None
    return labelled or sources.read_items(path, kind, recipe.columns)


def _left_out(tables: list[Table], rows: list[Row]) -> list[str]:
    lost = sum(len(table.rows) for table in tables) - len(rows)
    return [f"{lost:,} examples of the splits val and test are ignored; training uses the other {len(rows):,}."] if lost else []


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


def _sampled(
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
    cuts = {"train": order[cut:], "held": order[:cut]}
    found = {split: np.sort([place for unit in chosen for place in units[unit]]) for split, chosen in cuts.items()}
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
    split: str,
) -> View:
    views = objective.views
    augments = split == "train" or views > 1  # views are compared, so held-out items need several too
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
