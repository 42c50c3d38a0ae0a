"""What a decoder writes of an audio file: the learner, and the words of its tokens.

Shapes: B clips, U tokens, L characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.architectures.layers.speech_decoder import SpeechDecoder
from pretune.labels import Ragged
from pretune.modalities.transforms import tokenizing
from pretune.models import Model, search
from pretune.models.learner import Loss
from pretune.models.search import Searched
from pretune.tasks._spoken import SPACE, SpeechSpace, Spoken, Word
from pretune.tasks._teaching import WritingLearner
from pretune.types import Batch, Features

_LEAST, _A_SECOND = 8, 12.0
"""Tokens that are written at most for a clip of no length, and for each second more: the quickest speakers take six words a second."""
_POSITIONS = 50
"""Positions of the encoder a second."""
NUMBERS = 2
"""Of each character that is written: its code point, and the lowest probability of the tokens of its word."""


@dataclass(frozen=True, kw_only=True)
class WrittenSpace(SpeechSpace):
    """What a run whose decoder writes knows besides its weights: nothing."""

    def __str__(self) -> str:
        return "word pieces of the decoder"

    def check(self) -> None:
        """Accept every space."""


@dataclass(frozen=True, kw_only=True)
class Transcribing:
    """How transcripts are looked for: without sampling, and never empty, as Whisper does."""

    beams: int = 1
    length_penalty: float = 1.0
    min_new_tokens: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0


class SpeechWriter(WritingLearner):
    """Descends the loss of each token given those before it (teacher forcing); predicts by writing one token after the other."""

    def __init__(self, model: Model, loss: Loss, *, wanted: Searched, digits: bool, language: str | None) -> None:
        """Make it.

        Args:
            model: its head is a speech decoder.
            loss: of the tokens.
            wanted: how transcripts are looked for.
            digits: whether numbers may be written in digits.
            language: code of the language; None for the likeliest of the first clips.

        Raises:
            SettingError: the network does not know the language.
        """
        super().__init__(model, loss)
        self.wanted = wanted
        decoder = self.decoder
        decoder.barred = (*decoder.tokens.never, *(() if digits else decoder.tokens.digits))
        if language is not None and (token := decoder.tokens.language(language)) is not None:
            decoder.speak(token)

    @property
    def decoder(self) -> SpeechDecoder:
        """What writes."""
        decoder = self.head.decoder
        assert isinstance(decoder, SpeechDecoder)
        return decoder

    def predict(self, batch: Batch) -> Ragged:
        """Return (L, 2) of each clip: code points of the characters that are written, and how sure their words are."""
        encoded = self.encoded(batch)
        lengths_B = torch.full((len(encoded.tensor),), encoded.tensor.shape[1]) if encoded.mask is None else encoded.mask.sum(1)
        most = [_LEAST + round(_A_SECOND * length / _POSITIONS) for length in lengths_B.tolist()]
        texts = search.write(self.head, encoded, most, self.wanted, torch.Generator().manual_seed(0))
        sure = self._confidences(encoded, texts)
        content, end = self.decoder.tokens.content, self.decoder.end
        return Ragged.of([characters(words_of(ids, p, content, end)) for ids, p in zip(texts, sure, strict=True)])

    def encoded(self, batch: Batch) -> Features:
        """Return what the encoder made of some clips; the language is chosen by the first ones, where nobody has."""
        features = super().encoded(batch)
        if self.decoder.undecided:
            choose_language(self.decoder, [features])
        return features

    @torch.no_grad()
    def _confidences(self, encoded: Features, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the probability of each token that was written."""
        ended = [torch.tensor([*ids, self.decoder.end]) for ids in texts]
        tokens = Ragged.of(ended).to(encoded.tensor.device)
        ids_BU = tokens.padded(self.decoder.end)
        real_BU = torch.arange(ids_BU.shape[1], device=ids_BU.device) < tokens.lengths[:, None]
        nats_N = self.head.scores(self.head.taught(ids_BU, encoded)[real_BU], tokens.values)[:, 0]
        return [one[:-1].tolist() for one in torch.exp(-nats_N).split(tokens.lengths.tolist())]


def choose_language(decoder: SpeechDecoder, clips: Iterable[Features]) -> str:
    """Let a decoder write the likeliest language of some clips, and return its code."""
    total_L = torch.stack([decoder.languages(features).sum(0) for features in clips]).sum(0)
    code, token = decoder.tokens.languages[int(total_L.argmax())]
    decoder.speak(token)
    return code


def words_of(ids: Sequence[int], probabilities: Sequence[float], tokenizer: str, end: int) -> list[Word]:
    """Return the words of some tokens up to the end: a token that begins with a space begins a word."""
    words: list[Word] = []
    word: list[int] = []
    least = 1.0
    for token, probability in zip([*ids, end], [*probabilities, 1.0], strict=True):
        if word and (token == end or _begins(tokenizer, token)):
            words.append(Word(tokenizing.load(tokenizer).decode(word).strip(), 0.0, 0.0, least))
            word, least = [], 1.0
        if token == end:
            break
        word, least = [*word, token], min(least, probability)
    return [one for one in words if one.text]


def _begins(tokenizer: str, token: int) -> bool:
    return tokenizing.load(tokenizer).decode([token]).startswith(SPACE)


def characters(words: Sequence[Word]) -> Tensor:
    """Return words as numbers (L, 2), a space after each."""
    rows = [(ord(char), word.confidence) for word in words for char in word.text + SPACE]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, NUMBERS).float()


def words_in(numbers: NDArray[np.floating]) -> list[Word]:
    """Return the words that `characters` made into numbers."""
    words: list[Word] = []
    text = ""
    for point, confidence in numbers:
        if chr(round(point)) != SPACE:
            text += chr(round(point))
        else:
            words.append(Word(text, 0.0, 0.0, float(confidence)))
            text = ""
    return [*words, Word(text, 0.0, 0.0, float(numbers[-1, 1]))] if text else words


def spoken_in(numbers: NDArray[np.floating], normalised: Callable[[str], str]) -> Spoken:
    """Return what was written in a clip, each word as transcripts are scored; of what is no word then, nothing."""
    words = [(normalised(word.text), word) for word in words_in(numbers)]
    return Spoken(tuple(Word(piece, word.start, word.end, word.confidence) for text, word in words for piece in text.split()))
