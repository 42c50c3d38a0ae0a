"""Which file endings belong to which modality, and which names are never data.

The endings only choose the files to look at; what a file *is* is decided by its bytes when it is
decoded. Formats that need another program or a plug-in (HEIC, RAW, SVG) are listed, so that such a
file is named in the ledger instead of being overlooked.
"""

import functools
from dataclasses import dataclass

from pretune import registry

_PILLOW = """
.apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .fit .fits .flc .fli .ftc .ftu .gbr .gif .icb .icns .ico .im .j2c .j2k
.jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .msp .pbm .pcd .pcx .pfm .pgm .png .pnm .ppm .psd .pxr .qoi .ras .rgb .rgba
.sgi .tga .tif .tiff .vda .vst .webp .xbm .xpm
"""
_NEEDS_A_PLUGIN = ".heic .heif .hif .jxl .cr2 .cr3 .nef .arw .dng .orf .rw2 .raf"
_LIBSNDFILE = """
.wav .wave .flac .ogg .oga .opus .mp3 .mp2 .aiff .aif .aifc .au .snd .caf .w64 .rf64 .voc .sph .nist .sf .ircam .avr .paf .svx .wve
"""
_FFMPEG = ".m4a .m4b .aac .wma .amr .mka .ac3 .ape .wv .tta .weba"

IMAGE = frozenset((_PILLOW + _NEEDS_A_PLUGIN).split())
AUDIO = frozenset((_LIBSNDFILE + _FFMPEG).split())
TEXT = frozenset((".txt", ".text"))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What reading files needs to know of a modality; of our own, without importing them."""

    endings: frozenset[str]
    """Lower-case, with the dot."""
    common: str
    """Those worth listing in a message."""
    unit: str
    """What one item is called."""
    noun: str
    """What many are called."""


_OWN = {
    "image": Kind(endings=IMAGE, common=".jpg .jpeg .png .gif .bmp .webp .tif .tiff .avif .jp2 .ppm", unit="image", noun="images"),
    "audio": Kind(endings=AUDIO, common=".wav .flac .ogg .opus .mp3 .aiff .au .caf .m4a", unit="clip", noun="sounds"),
    "text": Kind(endings=TEXT, common=".txt", unit="text", noun="texts"),
}

_SIGNATURES = {
    "image": (
        (0, b"\xff\xd8\xff"),
        (0, b"\x89PNG"),
        (0, b"GIF8"),
        (8, b"WEBP"),
        (0, b"II*\0"),
        (0, b"MM\0*"),
        (4, b"jP  "),
        (0, b"\xff\x4f\xff\x51"),
        (4, b"ftypavif"),
        (4, b"ftypavis"),
        (4, b"ftyphei"),
        (4, b"ftypmif1"),
        (0, b"8BPS"),
        (0, b"qoif"),
        (0, b"DDS "),
        (0, b"\0\0\1\0"),
        *((0, b"P%d%c" % (number, space)) for number in range(1, 7) for space in b" \n"),
    ),
    "audio": (
        (8, b"WAVE"),
        (0, b"fLaC"),
        (0, b"OggS"),
        (0, b"ID3"),
        *((0, bytes((0xFF, second))) for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xF1, 0xF9)),
        (8, b"AIFF"),
        (8, b"AIFC"),
        (0, b".snd"),
        (0, b"caff"),
        (4, b"ftypM4A"),
        (0, b"#!AMR"),
    ),
}
"""Where files of our own modalities have which bytes."""

_JUNK = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "@eadir",
        "$recycle.bin",
        "icon\r",
        "__pycache__",
        "lost+found",
        "system volume information",
        "#recycle",
    )
)


def is_junk(name: str) -> bool:
    """Return whether a file or folder name is never data: hidden, a system's droppings, a lock file."""
    return name.startswith((".", "~$")) or name.casefold() in _JUNK


def ending(name: str) -> str:
    """Return the lower-case ending of a file name with its dot, '' where there is none."""
    stem, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


@functools.cache
def kinds() -> dict[str, Kind]:
    """Return every modality by name; one that was added is asked for its endings and unit."""
    return _OWN | {name: _asked(registry.load("modalities", name)) for name in registry.names("modalities") if name not in _OWN}


def _asked(modality: type) -> Kind:
    endings, unit = frozenset(modality.extensions), str(modality.unit)  # ty: ignore[missing-attribute]
    return Kind(endings=endings, common=" ".join(sorted(endings)), unit=unit, noun=f"{unit}s")


def file_kinds() -> list[str]:
    """Return the modalities whose items are always files: all but text, which tables hold inline."""
    return [name for name in kinds() if name != "text"]


@functools.cache
def _by_ending() -> dict[str, str]:
    return {suffix: name for name, kind in reversed(kinds().items()) for suffix in kind.endings}


def modality_of(name: str) -> str | None:
    """Return the modality a file name belongs to by its ending, None for any other file."""
    return _by_ending().get(ending(name))


def modality_of_bytes(raw: bytes) -> str | None:
    """Return the modality that a file's first bytes show; None where they show none."""
    if raw[:2] == b"BM" and raw[6:10] == bytes(4):  # two letters alone would be found in many a text
        return "image"
    return next((name for name, marks in _SIGNATURES.items() if any(raw[at : at + len(mark)] == mark for at, mark in marks)), None)
