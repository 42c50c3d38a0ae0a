"""Layouts of data that tell their task by themselves: one file each, tried in the order of `RECOGNISERS`."""

from __future__ import annotations

from pretune.sources.layouts._base import DataPlace, OwnLayout, Source
from pretune.sources.layouts.box_table import BoxTable
from pretune.sources.layouts.coco import Coco
from pretune.sources.layouts.conll import Conll
from pretune.sources.layouts.documents import Documents
from pretune.sources.layouts.kaldi import Kaldi
from pretune.sources.layouts.librispeech import LibriSpeech
from pretune.sources.layouts.pair_tables import PairTables
from pretune.sources.layouts.parallel_lines import ParallelLines
from pretune.sources.layouts.preference_tables import PreferenceTables
from pretune.sources.layouts.prompts import Prompts
from pretune.sources.layouts.summary_files import SummaryFiles
from pretune.sources.layouts.summary_tables import SummaryTables
from pretune.sources.layouts.tagged_records import TaggedRecords
from pretune.sources.layouts.tagged_tables import TaggedTables
from pretune.sources.layouts.text_beside_audio import TextBesideAudio
from pretune.sources.layouts.translation_memory import TranslationMemory
from pretune.sources.layouts.translation_tables import TranslationTables
from pretune.sources.layouts.voc import PascalVoc
from pretune.sources.layouts.yolo import Yolo

RECOGNISERS: tuple[type[OwnLayout], ...] = (
    *(Coco, PascalVoc, Yolo, BoxTable),
    *(ParallelLines, TranslationMemory, TranslationTables),
    *(Kaldi, LibriSpeech, TextBesideAudio),
    *(Conll, TaggedRecords, TaggedTables, PairTables, SummaryTables, SummaryFiles, PreferenceTables, Prompts, Documents),
)
"""The layouts in the order in which they are tried; class folders and tables come after all of them."""


def recognised(place: DataPlace) -> OwnLayout | None:
    """Return the data at a place in the first layout that recognises them; None where class folders or tables have to.

    Raises:
        DataError: a layout recognises data that cannot be read.
    """
    found = (layout.recognise(place) for layout in RECOGNISERS)
    return next((one for one in found if one is not None), None)


__all__ = ["RECOGNISERS", "DataPlace", "OwnLayout", "Source", "recognised"]
