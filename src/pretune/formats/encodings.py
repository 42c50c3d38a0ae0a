r"""From bytes to text without a wrong guess: decode strictly, say which encoding it was, refuse what is unclear.

Order: byte order marks, UTF-16 by its zero bytes, UTF-8; where that fails, the shape of the bytes
above 127 decides. In Western text they stand alone ("caf\xe9 au lait"), in Chinese text they come in
pairs that spell common characters. What is neither is refused: a text that was decoded wrongly still
trains, and nobody notices.
"""

import codecs
import re
from dataclasses import dataclass, replace

from pretune.errors import BadItem

_BOMS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"PK\x03\x04", "a ZIP archive or an Office file"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"RIFF", "a RIFF sound or video"),
    (b"OggS", "an Ogg sound"),
    (b"fLaC", "a FLAC sound"),
    (b"ID3", "an MP3 sound"),
    (b"SQLite format 3", "an SQLite data base"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
)
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_WESTERN = "àáâãäåæçèéêëìíîïñòóôõöøùúûüýßœšžÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŒŠŽ’‘“”„–—…•€£¥§©®°«»¿¡·²³µ½¼¾×™ªº\xa0´"
_PLAUSIBLE = frozenset(_WESTERN.encode("cp1252"))
_PROBE = 1 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedText:
    """A text and how its bytes were read."""

    text: str
    """Bytes that are no text in a file that otherwise is UTF-8 are U+FFFD, or lone surrogates on request; see `damaged`."""
    encoding: str
    """For people: 'UTF-8', 'Windows-1252', 'GB18030' …"""


def damaged(text: str) -> bool:
    """Return whether a text holds lone surrogates: bytes that were no text, or half a character; it cannot be written."""
    return bool(_SURROGATE.search(text))


def replace_damage(text: str) -> str:
    """Return the text with U+FFFD where bytes were no text."""
    return _SURROGATE.sub("\ufffd", text)


def decode(raw: bytes, *, keep_damage: bool = False) -> DecodedText:
    """Decode the bytes of a text file.

    Args:
        raw: the bytes.
        keep_damage: leave bytes that are no text as lone surrogates, so that their lines can be found.

    Raises:
        BadItem: the bytes are no text ('not_text'), or in an encoding that cannot be determined ('unknown_encoding').
    """
    for kind, what in _MAGIC:
        if raw.startswith(kind):
            raise BadItem("not_text", f"is not text but {what}")
    decoded = _decode(raw)
    return decoded if keep_damage else replace(decoded, text=replace_damage(decoded.text))


def _decode(raw: bytes) -> DecodedText:
    for mark, codec, name in _BOMS:
        if raw.startswith(mark):
            return _with_mark(raw[len(mark) :], codec, name)
    wide = _utf16_without_mark(raw[:_PROBE])
    if wide:
        return DecodedText(text=raw.decode(wide, "replace"), encoding="UTF-16")
    if raw[:_PROBE].count(0) > len(raw[:_PROBE]) / 20:
        raise BadItem("not_text", "is not text: it holds many zero bytes")
    try:
        return DecodedText(text=raw.decode("utf-8"), encoding="UTF-8")
    except UnicodeDecodeError:
        return _by_shape(raw)


def _with_mark(raw: bytes, codec: str, name: str) -> DecodedText:
    errors = "surrogateescape" if codec == "utf-8" else "replace"
    return DecodedText(text=raw.decode(codec, errors), encoding=name)


def _utf16_without_mark(raw: bytes) -> str | None:
    """Return the codec where nearly every second byte is zero, as in ASCII stored as UTF-16."""
    half = len(raw) // 2
    if half < 2:
        return None
    low, high = raw[0::2].count(0), raw[1::2].count(0)
    if high > 0.4 * half and low < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 * half and high < 0.05 * half else None


def _by_shape(raw: bytes) -> DecodedText:
    """Choose between damaged UTF-8, Windows-1252 and GB18030 by the bytes above 127."""
    loose = raw.decode("utf-8", "surrogateescape")
    bad = len(_SURROGATE.findall(loose))
    good = sum(1 for c in loose if c > "\x7f") - bad if bad < 10_000 else 0
    if good > bad:
        return DecodedText(text=loose, encoding="UTF-8 with some bytes that are no text")
    runs = _HIGH_RUN.findall(raw[: 4 * _PROBE])
    alone = sum(len(run) == 1 for run in runs) / len(runs)
    plausible = sum(byte in _PLAUSIBLE for run in runs for byte in run) / sum(map(len, runs))
    if alone > 0.5 and plausible > 0.9:
        return _western(raw)
    chinese = _chinese(raw) if alone < 0.5 else None
    if chinese is not None:
        return DecodedText(text=chinese, encoding="GB18030")
    if bad <= max(3, len(raw) / 1000):
        return DecodedText(text=loose, encoding="UTF-8 with some bytes that are no text")
    raise BadItem(
        "unknown_encoding", "is in an encoding that cannot be told (not UTF-8, UTF-16, Windows-1252 or GB18030); save it as UTF-8"
    )


def _western(raw: bytes) -> DecodedText:
    try:
        return DecodedText(text=raw.decode("cp1252"), encoding="Windows-1252")
    except UnicodeDecodeError:
        return DecodedText(text=raw.decode("latin-1"), encoding="Latin-1")


def _chinese(raw: bytes) -> str | None:
    """Return the text where it is valid GB18030 and mostly common characters (GB 2312 level 1 and punctuation)."""
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError:
        return None
    wide = [c for c in text[:_PROBE] if c > "\x7f"]
    common = sum(_is_common(c) for c in wide)
    return text if wide and common >= 0.6 * len(wide) else None


def _is_common(character: str) -> bool:
    code = character.encode("gb18030", "replace")
    return len(code) == 2 and code[1] >= 0xA1 and (0xB0 <= code[0] <= 0xD7 or 0xA1 <= code[0] <= 0xA3)
