"""Tokenizers made from a person's own texts: words, characters, byte-pair encoding, unigrams.

R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016; T. Kudo, "Subword
Regularization", 2018 (unigram). Deterministic in the texts, their order and the settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.trainers import Trainer

Units = Literal["word", "piece", "unigram", "character"]
PAD, UNKNOWN, SEPARATOR, MASK = "[PAD]", "[UNK]", "[SEP]", "[MASK]"


def make(documents: Iterable[str], vocabulary: int, units: Units, *, verbatim: bool = False, masked: bool = False) -> str:
    """Return the JSON of a tokenizer made from texts.

    Args:
        documents: the training part's texts.
        vocabulary: entries at most, special tokens included.
        units: 'word' (each Chinese character a word), 'piece' (byte-pair encoding over bytes), 'unigram' (over
            bytes), 'character'. Of bytes nothing is unknown.
        verbatim: keep case, spaces and line ends, so that decoded ids are the text; else words and characters are
            read in lower case and spaces only separate.
        masked: add a token to hide others behind.
    """
    from tokenizers import processors

    special = [PAD, UNKNOWN, SEPARATOR, *([MASK] if masked else [])]
    cut = _of_bytes if units in ("piece", "unigram") else _of_words
    tokenizer, trainer = cut(vocabulary, units, verbatim, special)
    tokenizer.train_from_iterator(documents, trainer)
    separator = (SEPARATOR, special.index(SEPARATOR))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair=f"$A {SEPARATOR} $B", special_tokens=[separator])
    return tokenizer.to_str()


def _of_bytes(vocabulary: int, units: Units, verbatim: bool, special: list[str]) -> tuple[Tokenizer, Trainer]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    shared: Any = {
        "vocab_size": vocabulary,
        "special_tokens": special,
        "initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet()),
        "show_progress": False,
    }
    if units == "piece":
        tokenizer, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**shared)
    else:
        tokenizer, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(unk_token=UNKNOWN, **shared)
    if not verbatim:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=not verbatim)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainer


def _of_words(vocabulary: int, units: Units, verbatim: bool, special: list[str]) -> tuple[Tokenizer, Trainer]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    letters = pre_tokenizers.Split(Regex(r"\X"), "isolated")
    if verbatim:
        wordlike = pre_tokenizers.Split(Regex(r"\p{Han}|[\p{L}\p{N}_&&[^\p{Han}]]+|\s|[^\p{L}\p{N}\s]"), "isolated")
        tokenizer.pre_tokenizer = wordlike if units == "word" else pre_tokenizers.Split(Regex(r"(?m:.|\n)"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True)
        words = pre_tokenizers.BertPreTokenizer()
        tokenizer.pre_tokenizer = words if units == "word" else pre_tokenizers.Sequence([words, letters])
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    return tokenizer, trainer
