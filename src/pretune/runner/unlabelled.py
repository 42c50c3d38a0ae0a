"""Single examples as a pretraining run reads them: all that is there, labels only where the objective compares classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pretune import config, registry
from pretune.auditing import duplicates
from pretune.augmentations import Augmentation, preset
from pretune.backbones import Backbone
from pretune.corpus.corpus import documents_of
from pretune.corpus.resemblance import Excluded
from pretune.data import splits
from pretune.data.augmented import training_view
from pretune.data.dataset import View
from pretune.data.views import Stacked
from pretune.errors import SettingError
from pretune.labels import Labels
from pretune.objectives import Objective
from pretune.pretraining import Pretraining
from pretune.runner.fingerprint import of_network, of_rows
from pretune.runner.inputs import fitted_to_small
from pretune.runner.job import RunContext
from pretune.runner.prepare import followed
from pretune.runner.pretext import Pretext
from pretune.runner.pretraining_data import PretrainingData, report
from pretune.sources import sources
from pretune.sources.table import Table
from pretune.storage.cells import unpack
from pretune.storage.ingest import Ingested, ingest
from pretune.training.device import cpu_threads
from pretune.types import NotUsed, Row
from pretune.unread import given, refuse


def read(recipe: Pretraining, chosen: Pretext, run: RunContext) -> PretrainingData:
    """Return views of single examples; of labelled data only the training split is looked at.

    A network from scratch may be built anew at the size of the examples, and gets a tokenizer where it needs one.

    Raises:
        RequestError: reading takes longer than the run may.
    """
    objective, reporter, kind = chosen.objective, run.reporter, registry.name_of(chosen.backbone.modality)
    _refuse_unread(recipe, objective, kind)
    augmentations = _augmentations(recipe, chosen, kind)
    tables = _tables(recipe, kind, objective)
    rows = [row for table in tables for row in table.rows if row.split in (None, "train")]
    messages = [line for table in tables for line in table.messages] + _ignored(tables, rows)
    unpack(rows, run.cache)
    backbone, lines = _fitted(recipe, chosen, rows)
    unit = backbone.modality.unit
    progress = followed(f"reading {unit}s", reporter, run.deadline)
    done = ingest(rows, backbone.modality, run.cache, threads=cpu_threads(recipe.place.threads), progress=progress)
    targets, classes = _targets(done.rows, objective)
    positions, copies = duplicates.without_copies(done, None if targets is None else targets.tolist())
    ledger = [*(entry for table in tables for entry in table.ledger), *done.ledger, *copies]
    found = [finding.message for table in tables for finding in table.findings]
    report(reporter, [*messages, *lines, *found, *done.notes], ledger, found)
    out = _excluded(done, chosen.excluded)[positions]
    if out.any():
        resemble = ", or resemble some" if chosen.excluded.documents is not None else ""
        reporter.say(f"{out.sum():,} {unit}(s) are not used: they are held-out examples of the task that follows{resemble}.")
    of_split = splits.at_random(
        done.rows,
        positions[~out],
        duplicates.find(done).near,
        fraction=recipe.corpus.held,
        seed=recipe.training.seed,
        what=f"different usable {unit}s under {recipe.data}",
        least=objective.views,
    )
    backbone.modality, line = backbone.modality.windowed(done.store.lengths[of_split["train"]], done.store.lengths)
    if line:
        reporter.say(line)
    labels = config.digest(None if targets is None else [targets.tolist(), classes])

    # Where views are compared, held-out examples need several too.
    def view(places: np.ndarray, augmentations: Sequence[Augmentation]) -> View:
        here, count = (None, None) if targets is None else (Labels.of(targets[torch.from_numpy(places)]), int(targets.max()) + 1)
        seed = recipe.training.seed
        single = training_view(done.store, places, backbone.modality, here, augmentations, classes=count, seed=seed)
        return Stacked(single, objective.views) if objective.views > 1 else single

    return PretrainingData(
        backbone=backbone,
        fingerprint=of_rows(done.rows, done.hashes, of_split) | {"the labels": labels, "the network's weights": of_network(backbone)},
        train=view(of_split["train"], augmentations),
        validation=view(of_split["held"], augmentations if objective.views > 1 else ()),
        ledger=ledger,
        counts={split: {"examples": len(places)} for split, places in of_split.items()},
        classes=classes,
    )


def _refuse_unread(recipe: Pretraining, objective: Objective, kind: str) -> None:
    """Refuse settings that an objective over single examples has no use for."""
    name = registry.name_of(objective)
    whole = NotUsed(f"objective={name}: a tokenizer is trained by objectives that predict tokens")
    unread = dict.fromkeys(("units", "vocabulary"), whole)
    if not objective.requires_targets:
        unread |= dict.fromkeys(("missing", "merge_classes"), NotUsed(f"objective={name}, which reads no labels"))
    if recipe.augment not in (None, "none", "views") and not preset(recipe.augment, kind):
        unread["augment"] = NotUsed(f"the modality {kind}: this preset is empty there", "set augment=none")
    refuse(given(recipe), unread)


def _augmentations(recipe: Pretraining, chosen: Pretext, kind: str) -> Sequence[Augmentation]:
    """Return those that the recipe names or the objective suggests.

    Raises:
        SettingError: there are none, and the objective compares views of an example.
    """
    found, views = preset(recipe.augment or chosen.suggested.augment, kind), chosen.objective.views
    if views > 1 and not found:
        name = registry.name_of(chosen.objective)
        raise SettingError(f"objective={name} compares {views} views of each example: augment=none makes them the same.")
    return found


def _tables(recipe: Pretraining, kind: str, objective: Objective) -> list[Table]:
    """Read labelled data where labels are learned from and there are any, else whatever of this modality is there."""
    tables = [_table(Path(path), kind, recipe, objective) for path in (recipe.data, *recipe.corpus.also)]
    absent = [key for key in ("text", "path") if not any(key in table.columns for table in tables)]
    refuse(given(recipe), dict.fromkeys(absent, NotUsed(f"{recipe.data}, whose examples have no such column ({tables[0].layout})")))
    return tables


def _table(path: Path, kind: str, recipe: Pretraining, objective: Objective) -> Table:
    labelled = sources.labelled(path, kind, recipe.columns) if objective.requires_targets else None
    return labelled or sources.read_items(path, kind, recipe.columns)


def _ignored(tables: list[Table], rows: list[Row]) -> list[str]:
    lost = sum(len(table.rows) for table in tables) - len(rows)
    return [f"{lost:,} examples of the splits val and test are ignored; training uses the other {len(rows):,}."] if lost else []


def _fitted(recipe: Pretraining, chosen: Pretext, rows: list[Row]) -> tuple[Backbone, list[str]]:
    """Return the network with what it takes from the examples before they are decoded: their size, a tokenizer; and sentences on it."""
    backbone, of_size = fitted_to_small(chosen.backbone, rows, named=recipe.backbone, inputs=recipe.inputs, seed=recipe.training.seed)
    backbone = chosen.objective.fitted(backbone)
    backbone.modality, of_modality = backbone.modality.fitted_to(rows)
    return backbone, [line for line in (of_size, of_modality) if line]


def _excluded(done: Ingested, excluded: Excluded) -> np.ndarray:
    """Return which examples (N,) are held-out examples of a later task; texts also where they resemble one."""
    out = np.array([known in excluded.hashes for known in done.hashes], bool)
    if excluded.documents is not None and len(done.rows):
        found = excluded.documents.found([documents_of(row)[:1] for row in done.rows])
        out |= np.array([bool(codes.any()) for codes in found])
    return out


def _targets(rows: list[Row], objective: Objective) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Return each example's class and the classes' names, where the objective requires them and every example has one."""
    if not objective.requires_targets or not all(isinstance(row.target, str) for row in rows):
        return None, ()
    names = tuple(sorted({str(row.target) for row in rows}))
    places = {name: place for place, name in enumerate(names)}
    return torch.tensor([places[str(row.target)] for row in rows]), names
