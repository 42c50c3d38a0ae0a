"""The tokens of a network that writes what is said: what begins and ends a transcript, and what is never written.

They are found by their names in the tokenizer, whose ids differ from one checkpoint to the next. A. Radford et al., "Robust Speech
Recognition via Large-Scale Weak Supervision", 2022.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pretune.errors import SettingError, WeightsError, did_you_mean
from pretune.modalities.transforms import tokenizing

_START, END, _NO_TIMES, _TRANSCRIBE = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|transcribe|>"
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_NOT_SPOKEN = (
    *'"#()*+/:;<=>@[\\]^_`{|}~\u300c\u300d\u300e\u300f',
    *["<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪"],
)
_NOTES = "\u2669\u266a\u266b\u266c\u266d\u266e\u266f"
"""What stands in captions and is not said: annotations such as [laughs], speakers, music."""


@dataclass(frozen=True, kw_only=True)
class SpeechTokens:
    """The tokens of one tokenizer, by what they are for."""

    content: str = field(repr=False)
    """Of the tokenizer.json."""
    start: int
    end: int
    transcribe: int | None
    """None in a network of English alone, which has no other task."""
    no_times: int
    languages: tuple[tuple[str, int], ...]
    """Code ('en') and token of each language; empty in a network of English alone."""
    never: tuple[int, ...]
    """Those that no transcript holds."""
    digits: tuple[int, ...]
    """Those that hold a digit."""

    def prompt(self, language: int | None) -> tuple[int, ...]:
        """Return what stands before a transcript in a language, the token of which is given."""
        middle = () if language is None or self.transcribe is None else (language, self.transcribe)
        return (self.start, *middle, self.no_times)

    def language(self, code: str) -> int | None:
        """Return the token of a language; None where the network has only English and that is meant.

        Raises:
            SettingError: it does not know the language.
        """
        known = dict(self.languages)
        if not known and code == "en":
            return None
        if code not in known:
            raise SettingError(
                f"task.language={code}: this network writes English only."
                if not known
                else f"task.language={code} is none of the languages of this network. {did_you_mean(code, known)}"
            )
        return known[code]


@functools.lru_cache(maxsize=4)
def speech_tokens(content: str, vocabulary: int, *, multilingual: bool) -> SpeechTokens:
    """Return the tokens of a tokenizer.

    Args:
        content: of its tokenizer.json.
        vocabulary: tokens of the decoder; those beyond the tokenizer's are times.
        multilingual: whether a prompt names the language and the task.

    Raises:
        WeightsError: it is none of a network that writes what is said.
    """
    names = tokenizing.load(content).get_vocab(with_added_tokens=True)
    absent = [name for name in (_START, END, _NO_TIMES) if name not in names]
    if absent:
        raise WeightsError(f"the weights' {tokenizing.FILE} has no {', '.join(absent)}: it is not Whisper's. Take another copy of it.")
    special = set(tokenizing.special_ids(content))
    languages = tuple(sorted((match[1], token) for name, token in names.items() if (match := _LANGUAGE.fullmatch(name))))
    times = set(range(len(names), vocabulary))
    spoken = {token: tokenizing.load(content).decode([token]) for token in names.values() if token not in special}
    return SpeechTokens(
        content=content,
        start=names[_START],
        end=names[END],
        transcribe=names.get(_TRANSCRIBE) if multilingual else None,
        no_times=names[_NO_TIMES],
        languages=languages if multilingual else (),
        never=tuple(sorted({*_not_spoken(content), *special, *times} - {names[END]})),
        digits=tuple(token for token, text in spoken.items() if any(map(str.isdigit, text))),
    )


def _not_spoken(content: str) -> set[int]:
    """Return the tokens of what is written in captions and not said (openai/whisper, tokenizer.py, non_speech_tokens)."""
    out = {_ids(content, " -")[0], _ids(content, " '")[0]}
    for symbol in (*_NOT_SPOKEN, *_NOTES):
        for ids in (_ids(content, symbol), _ids(content, f" {symbol}")):
            if len(ids) == 1 or symbol in _NOTES:
                out.add(ids[0])
    return out


def _ids(content: str, text: str) -> Sequence[int]:
    return tokenizing.encode(content, [text])[0].tolist()
