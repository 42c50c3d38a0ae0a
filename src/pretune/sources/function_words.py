"""The commonest little words of some languages, by which a text shows its language: articles, prepositions, pronouns."""

from __future__ import annotations

import re

_WORDS = {
    "en": "the of and to in is that it for was with as on be are this by from at have not",
    "de": "der die das und ein eine ist nicht mit von zu den auf sich im dem für auch einen es",
    "fr": "le la les et des un une est dans que pour qui pas sur du au il elle avec ce",
    "es": "el la los las y un una es en que por con para del no se su al como más",
    "it": "il la lo gli e un una è di che per con del non in si della sono una nel",
    "pt": "o a os as e um uma é de que em com para do da não se no na mais",
    "nl": "de het een en van is in dat op te zijn met niet voor aan er om ook hij ze",
    "sv": "och en ett är att det som på med av för den inte till har de jag om vi han",
    "da": "og en et er at det som på med af for den ikke til har de jeg om vi han",
    "no": "og en et er at det som på med av for den ikke til har de jeg om vi han",
    "fi": "ja on ei se että hän ovat oli mutta kun tai joka myös niin olla tämä sen mitä",
    "pl": "i w na z nie się do jest że to o jak po ale za od przez są co",
    "cs": "a v na se je že z s do to o jako po ale za od pro jsou který by",
    "tr": "ve bir bu da de için ile çok ne daha gibi ama var en olarak sonra o",
    "ro": "și în de la cu un o este pe că din pentru nu se mai a sunt ale",
    "hu": "a az és egy nem hogy is van ez volt de meg csak mint ki el már",
    "ru": "и в не на что с он как это по но из за от для она они у к",
    "uk": "і в не на що з він як це по але із за від для вона вони у до",
    "zh": "的 了 是 在 不 我 有 他 这 们 个 上 来 到 和 地 你 就 也",
    "ja": "の に は を た が で て と し れ さ る い も な す",
    "ar": "في من على أن إلى عن هذا التي كان مع لا هو ما هذه",
    "el": "και το να του η της με που για την στο είναι τα δεν των από",
}
_FOLDED = {code: frozenset(words.split()) for code, words in _WORDS.items()}
_OTHER_NAMES = {
    **{"eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "nld": "nl", "dut": "nl"},
    **{"swe": "sv", "fin": "fi", "pol": "pl", "ces": "cs", "cze": "cs", "tur": "tr", "rus": "ru", "ukr": "uk", "zho": "zh", "chi": "zh"},
    **{"jpn": "ja", "ara": "ar", "nb": "no", "nn": "no", "jp": "ja", "cn": "zh", "ua": "uk", "cz": "cs", "gr": "el"},
    **{"english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt", "dutch": "nl"},
    **{"swedish": "sv", "danish": "da", "norwegian": "no", "finnish": "fi", "polish": "pl", "czech": "cs", "turkish": "tr"},
    **{"romanian": "ro", "hungarian": "hu", "russian": "ru", "ukrainian": "uk", "chinese": "zh", "japanese": "ja", "arabic": "ar"},
    "greek": "el",
}


def of(language: str) -> frozenset[str]:
    """Return the little words of a language by its code or English name ('de', 'pt-BR', 'German'); none of one that is not known."""
    name = re.split("[-_]", language.casefold())[0]
    return _FOLDED.get(_OTHER_NAMES.get(name, name), frozenset())
