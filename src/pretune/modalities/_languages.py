"""Tokenizers of several languages, which have a special token for each: de_DE (mBART), deu_Latn (NLLB), __de__ (M2M)."""

from __future__ import annotations

import json
import re
from typing import Any

from pretune.modalities.transforms import tokenizing

_TOKEN = re.compile(r"__([a-z]{2,3}(?:_[A-Z]{2})?)__|([a-z]{2,3}_(?:[A-Z]{2}|[A-Z][a-z]{3}))")
_LEAST = 2
"""Tokens that look like languages from which a tokenizer is one of several languages."""
_SHORT = {
    **{"eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl", "dut": "nl"},
    **{"swe": "sv", "dan": "da", "nob": "no", "nno": "no", "fin": "fi", "pol": "pl", "ces": "cs", "cze": "cs", "slk": "sk", "slv": "sl"},
    **{"hun": "hu", "ron": "ro", "bul": "bg", "ell": "el", "rus": "ru", "ukr": "uk", "tur": "tr", "heb": "he", "arb": "ar", "ara": "ar"},
    **{"pes": "fa", "hin": "hi", "ben": "bn", "tam": "ta", "tel": "te", "urd": "ur", "zho": "zh", "chi": "zh", "jpn": "ja", "kor": "ko"},
    **{"vie": "vi", "tha": "th", "ind": "id", "hrv": "hr", "srp": "sr", "est": "et", "lvs": "lv", "lit": "lt", "cat": "ca", "swh": "sw"},
    **{"english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt", "dutch": "nl"},
    **{"swedish": "sv", "danish": "da", "finnish": "fi", "polish": "pl", "czech": "cs", "romanian": "ro", "hungarian": "hu"},
    **{"russian": "ru", "ukrainian": "uk", "turkish": "tr", "greek": "el", "hebrew": "he", "arabic": "ar", "hindi": "hi"},
    **{"chinese": "zh", "japanese": "ja", "korean": "ko", "vietnamese": "vi", "thai": "th", "indonesian": "id"},
}
"""Other names of languages -> ISO 639-1."""


def languages(content: str) -> tuple[str, ...]:
    """Return the tokens that stand for languages, in the order of the vocabulary; none of a tokenizer of one language."""
    added = json.loads(content).get("added_tokens", ()) if content else ()
    found = tuple(str(token["content"]) for token in added if token["special"] and _TOKEN.fullmatch(str(token["content"])))
    return found if len(found) >= _LEAST else ()


def tokens_for(name: str, content: str) -> tuple[str, ...]:
    """Return the tokens that the name of a language may mean: 'de', 'de-DE', 'deu_Latn', 'German'; the one that is written so, if any."""
    known, wanted = languages(content), name.replace("-", "_").casefold()
    exact = tuple(token for token in known if wanted in (token.casefold(), token.strip("_").casefold()))
    return exact or tuple(token for token in known if wanted and _short(token.strip("_")) == _short(wanted))


def marked(content: str, token: str) -> str:
    """Return the tokenizer with another language beside its texts, in the place of the one that stands there; as it is without a place."""
    known, tree = set(languages(content)), json.loads(content)
    there = {name for name in _names(tree.get("post_processor")) if name in known and name != token}
    if not there:
        return content
    added = {"id": token, "ids": [tokenizing.load(content).token_to_id(token)], "tokens": [token]}
    tree["post_processor"] = _exchanged(tree["post_processor"], there, token, added)
    return json.dumps(tree, ensure_ascii=False)


def _short(name: str) -> str:
    first = name.casefold().partition("_")[0]
    return _SHORT.get(first, first)


def _names(tree: Any) -> list[str]:
    """Return the names of special tokens in a part of a tokenizer's JSON."""
    if isinstance(tree, list):
        return [name for one in tree for name in _names(one)]
    if not isinstance(tree, dict):
        return []
    own = [str(tree["SpecialToken"]["id"])] if isinstance(tree.get("SpecialToken"), dict) else []
    return own + [name for value in tree.values() for name in _names(value)]


def _exchanged(tree: Any, there: set[str], token: str, added: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return [_exchanged(one, there, token, added) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if isinstance(tree.get("SpecialToken"), dict) and tree["SpecialToken"].get("id") in there:
        return {"SpecialToken": {**tree["SpecialToken"], "id": token}}
    out = {key: _exchanged(value, there, token, added) for key, value in tree.items()}
    if isinstance(out.get("special_tokens"), dict):
        out["special_tokens"] = {**out["special_tokens"], token: added}
    return out
