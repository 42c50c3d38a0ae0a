"""Names of languages, as file names, columns and attributes have them: 'en', 'pt-BR', 'zh_CN', 'German'."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_CODES_TEXT = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu "
    "fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn "
    "ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os "
    "pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw "
    "ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu eng deu ger fra fre spa ita por rus zho chi jpn kor ara hin nld dut pol ces "
    "cze swe fin tur ukr "
)
_CODES = frozenset(_CODES_TEXT.split())
"""ISO 639-1, and the commonest of ISO 639-2."""
_WORDS_TEXT = (
    "english german french spanish italian portuguese russian chinese japanese korean arabic hindi dutch polish czech swedish "
    "finnish turkish ukrainian danish norwegian greek hebrew hungarian romanian vietnamese thai indonesian "
)
_WORDS = frozenset(_WORDS_TEXT.split())
_SIDES = (("src", "tgt"), ("src", "trg"), ("source", "target"), ("src", "ref"), ("source", "reference"), ("source", "translation"))
"""Names of the two sides that say the direction."""
_CODE = re.compile(r"([a-z]{2,3})(?:[-_][a-z]{2,4})?")


def is_language(name: str) -> bool:
    """Return whether a name is that of a language."""
    match = _CODE.fullmatch(name.casefold())
    return name.casefold() in _WORDS or (match is not None and match[1] in _CODES)


def is_english(name: str) -> bool:
    """Return whether a name is that of English."""
    return re.split("[-_]", name.casefold())[0] in ("en", "eng", "english")


def sides(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the two of these names that say by themselves which is the source and which the target; None where there are none."""
    called = {name.casefold(): name for name in names}
    return next(((called[first], called[second]) for first, second in _SIDES if first in called and second in called), None)


def found(name: str, names: Sequence[str]) -> str | None:
    """Return which of these languages a name means: itself, or the only one of its language ('en' for 'en-US'); else None."""
    exact = [one for one in names if one.casefold() == name.casefold()]
    alike = [one for one in names if re.split("[-_]", one.casefold())[0] == re.split("[-_]", name.casefold())[0]]
    return exact[0] if exact else alike[0] if len(alike) == 1 else None


def direction_in(name: str, first: str, second: str) -> tuple[str, str] | None:
    """Return the direction that the name of a folder or file has, 'multi30k_en_de', 'corpus.de-en'; None where it has none or both."""
    tokens = re.split(r"[\W_]+|2|(?<=[a-z])to(?=[a-z])", name.casefold())
    pairs = set(itertools.pairwise(tokens))
    there = [pair for pair in ((first, second), (second, first)) if (pair[0].casefold(), pair[1].casefold()) in pairs]
    return there[0] if len(there) == 1 else None
