"""Corpora of texts as a pretraining run reads them: blocks of one stream of tokens, and the baselines of counting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pretune import backbones, config
from pretune.backbones import Backbone, Builder
from pretune.corpus.corpus import Corpus, has_columns, read_corpus
from pretune.corpus.tokenizer import learned
from pretune.corpus.tokens import BlockView, TokenStream, tokenized
from pretune.errors import SettingError
from pretune.evaluation.ngram import trigram, unigram
from pretune.modalities.text import Text
from pretune.objectives import Objective
from pretune.pretraining import Pretraining
from pretune.runner.fingerprint import of_network
from pretune.runner.job import RunContext
from pretune.runner.prepare import followed
from pretune.runner.pretext import Pretext
from pretune.runner.pretraining_data import PretrainingData, report
from pretune.types import NotUsed
from pretune.unread import given, refuse


def read(recipe: Pretraining, chosen: Pretext, run: RunContext) -> PretrainingData:
    """Return blocks of corpora; a network from scratch gets a tokenizer trained on them, and a table of its size.

    Raises:
        RequestError: reading takes longer than the run may.
    """
    objective, reporter, seed = chosen.objective, run.reporter, recipe.training.seed
    paths = [Path(recipe.data), *map(Path, recipe.corpus.also)]
    _refuse_unread(recipe, paths)
    reporter.progress("reading the corpus", 0, 0)
    fraction, known = recipe.corpus.held, chosen.excluded.documents
    corpora = [read_corpus(path, recipe.columns, validation_fraction=fraction, seed=seed, exclude=known) for path in paths]
    ledger = [entry for corpus in corpora for entry in corpus.ledger]
    report(reporter, [line for corpus in corpora for line in corpus.messages], ledger, {corpus.damage for corpus in corpora})
    backbone = _with_tokenizer(recipe, objective, chosen.backbone, corpora, run)
    text = backbone.modality
    assert isinstance(text, Text)
    progress = followed("reading characters", reporter, run.deadline)
    streams = {split: tokenized(corpora, split, text, run.cache, progress) for split in ("train", "held")}
    length, stride = objective.block(text)
    views = {split: BlockView(stream, length, stride, moving=split == "train", seed=seed, name=split) for split, stream in streams.items()}
    validation = streams["held"]
    if validation.unknown:
        reporter.warn(f"{validation.unknown:,} of the {len(validation):,} held-out tokens are unknown to the tokenizer.")
    counts = {
        split: {"blocks": len(views[split]), "tokens": len(s), "characters": s.characters, "documents": s.documents}
        for split, s in streams.items()
    }
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
        floors=_floors(streams["train"], validation, text, writes=objective.verbatim),
        unknown=validation.unknown / max(1, len(validation)),
        per_character=len(validation) / max(1, validation.characters) if objective.verbatim else None,
    )


def _floors(train: TokenStream, validation: TokenStream, text: Text, *, writes: bool) -> dict[str, float]:
    """Return what counting the training tokens predicts of the held-out ones; trigrams where each is predicted from those before."""
    floors = {"unigram": unigram(train.counts, validation.counts, () if writes else text.special)}
    return floors | ({"trigram": trigram(train.ids, validation.ids, text.size)} if writes else {})


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


def _with_tokenizer(recipe: Pretraining, objective: Objective, backbone: Backbone, corpora: list[Corpus], run: RunContext) -> Backbone:
    """Train a tokenizer where none came with the weights, and build the network from scratch anew with a table of its size.

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
    made = learned(replace(text, **wanted, verbatim=writes), corpora, run.cache, masked=not writes)
    run.reporter.say(f"tokenizer trained on the training split: {made.size:,} {made.units}s")
    sizes = {"vocabulary": made.size, "units": made.units, "separator": made.separator}
    settings = {key: sizes.get(key, value) for key, value in backbone.builder.settings.items()}
    torch.manual_seed(recipe.training.seed)
    rebuilt = backbones.build(Builder(id=backbone.builder.id, settings=settings))
    rebuilt.modality = replace(made, vocabulary=made.size)
    return rebuilt
