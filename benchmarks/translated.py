"""English sentences of a small grammar, each with its German translation: what translation is measured on where there is no data.

German needs what makes translation more than looking words up: gender and case, a verb that comes second, and last after "weil".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun of both languages."""

    english: str
    german: str
    gender: str
    """m, f or n."""


def _nouns(words: str) -> list[Noun]:
    return [Noun(*word.split("/")) for word in words.split()]


def _words(words: str) -> list[tuple[str, ...]]:
    return [tuple(word.split("/")) for word in words.split()]


PEOPLE = _nouns(
    "man/Mann/m woman/Frau/f child/Kind/n girl/Mädchen/n boy/Junge/m dog/Hund/m cat/Katze/f teacher/Lehrerin/f farmer/Bauer/m "
    "horse/Pferd/n doctor/Ärztin/f cook/Koch/m"
)
THINGS = _nouns(
    "ball/Ball/m book/Buch/n flower/Blume/f bicycle/Fahrrad/n letter/Brief/m guitar/Gitarre/f cake/Kuchen/m picture/Bild/n lamp/Lampe/f "
    "shirt/Hemd/n boat/Boot/n ladder/Leiter/f table/Tisch/m coat/Mantel/m key/Schlüssel/m bag/Tasche/f"
)
PLACES = _nouns(
    "house/Haus/n school/Schule/f station/Bahnhof/m church/Kirche/f bridge/Brücke/f garden/Garten/m river/Fluss/m wall/Mauer/f "
    "shop/Laden/m museum/Museum/n"
)
ADJECTIVES = _words(
    "small/klein big/groß old/alt young/jung red/rot green/grün white/weiß black/schwarz new/neu beautiful/schön heavy/schwer "
    "quiet/still happy/fröhlich tired/müd cold/kalt"
)
VERBS = _words(
    "sees/sieht carries/trägt buys/kauft sells/verkauft finds/findet holds/hält paints/malt loses/verliert needs/braucht "
    "brings/bringt hides/versteckt repairs/repariert"
)
PREPOSITIONS = [
    ("behind the", "hinter"),
    ("in front of the", "vor"),
    ("next to the", "neben"),
    ("between the trees and the", "zwischen den Bäumen und"),
]
TIMES = [("in the evening", "am Abend"), ("today", "heute"), ("every morning", "jeden Morgen"), ("on Sunday", "am Sonntag")]
FEELINGS = [("is laughing", "lacht"), ("is sleeping", "schläft"), ("is waiting", "wartet"), ("is singing", "singt")]
ARTICLES = {"nominative": {"m": "ein", "f": "eine", "n": "ein"}, "accusative": {"m": "einen", "f": "eine", "n": "ein"}}
ENDINGS = {"nominative": {"m": "er", "f": "e", "n": "es"}, "accusative": {"m": "en", "f": "e", "n": "es"}}
DATIVE = {"m": "dem", "f": "der", "n": "dem"}


def sentences(seed: int) -> Iterator[tuple[str, str]]:
    """Yield English sentences with their translations, without end."""
    rng = np.random.default_rng(seed)

    def one(choices: Sequence[Any]) -> Any:
        return choices[int(rng.integers(len(choices)))]

    while True:
        (who, wer), (what, was) = _phrase(one(PEOPLE), one(ADJECTIVES), "nominative"), _phrase(one(THINGS), one(ADJECTIVES), "accusative")
        (does, tut), (where, wo), (when, wann), place = one(VERBS), one(PREPOSITIONS), one(TIMES), one(PLACES)
        there, dort = f"{where} {place.english}", f"{wo} {DATIVE[place.gender]} {place.german}"
        shape = int(rng.integers(4))
        if shape == 0:
            english, german = f"{who} {does} {what} {there}", f"{wer} {tut} {was} {dort}"
        elif shape == 1:
            english, german = f"{when} {who} {does} {what}", f"{wann} {tut} {wer} {was}"
        elif shape == 2:
            (other, wer_sonst), (feels, fühlt) = _phrase(one(PEOPLE), one(ADJECTIVES), "nominative"), one(FEELINGS)
            english, german = f"{other} {feels} because {who} {does} {what}", f"{wer_sonst} {fühlt}, weil {wer} {was} {tut}"
        else:
            english, german = f"{there} {who} {does} {what}", f"{dort} {tut} {wer} {was}"
        yield f"{english[0].upper()}{english[1:]}.", f"{german[0].upper()}{german[1:]}."


def _phrase(noun: Noun, adjective: tuple[str, ...], case: str) -> tuple[str, str]:
    """Return a noun with an adjective and an indefinite article in both languages."""
    english, german = adjective
    article = "an" if english[0] in "aeiou" else "a"
    return f"{article} {english} {noun.english}", f"{ARTICLES[case][noun.gender]} {german}{ENDINGS[case][noun.gender]} {noun.german}"
