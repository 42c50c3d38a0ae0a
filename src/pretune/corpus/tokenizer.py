"""A tokenizer trained on the training splits of corpora: made once, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pretune import config
from pretune.corpus.corpus import Corpus
from pretune.corpus.tokens import kept, made_by
from pretune.modalities.text import Text
from pretune.storage.cache import Cache
from pretune.storage.store import StoreWriter


def learned(text: Text, corpora: Sequence[Corpus], cache: Cache, *, masked: bool) -> Text:
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
