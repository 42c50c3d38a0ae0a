"""Open raster bytes with Pillow by content, and name in words what cannot be opened.

`Image.open` reads a process-wide pixel limit and warns through the process-wide warning filters,
which threads cannot share safely; walking Pillow's own registry of formats needs neither.
"""

from __future__ import annotations

import io
import struct
from importlib import import_module
from importlib.util import find_spec

from PIL import Image

from pretune.errors import BadItem

MAX_PIXELS = 178_956_970
"""Largest image that is decoded: 0.7 GB as RGB in memory, Pillow's own bound for an error."""

_NOT_DECODED_HERE = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))
"""Formats that Pillow hands to another program or a plug-in, or only identifies."""

_NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error)

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera raw (CR3)"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIC"
)

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%!PS", "a PostScript (EPS) drawing, which only an external program can decode"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) drawing, which only an external program can decode"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF), which only an external program can decode"),
    (b"\x00\x05\x16\x07", "an AppleDouble file (macOS metadata)"),
    (b"\xff\x0a", "a JPEG XL image, which Pillow does not decode"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image, which Pillow does not decode"),
    (b"FUJIFILMCCD-RAW", "a camera raw image, which Pillow does not decode"),
    (b"OggS", "an Ogg sound or video"),
    (b"fLaC", "a FLAC sound"),
    (b"ID3", "an MP3 sound"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"\x00\x00\x01\xb3", "an MPEG video"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer; the image itself was not downloaded (run: git lfs pull)"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
)

_IMAGE_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
)


def open_raster(raw: bytes) -> Image.Image:
    """Return the Pillow image of a file's bytes, its pixels not yet decoded.

    Raises:
        BadItem: empty, not an image (named as what it is), damaged, of a format that needs another
            program, or larger than `MAX_PIXELS`.
    """
    if not raw:
        raise BadItem("empty", "is empty (0 bytes)")
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        found = _first_that_opens(raw, signed=True)
        if found is not None:
            return found
    if _brand(raw) == "HEIC" and find_spec("pillow_heif"):
        return _open_heic(raw)
    what = _name_of_content(raw)
    found = None if what else _first_that_opens(raw, signed=False)
    if found is None:
        raise BadItem(*(what or ("not_an_image", "is not an image in any format that Pillow decodes")))
    return found


def _first_that_opens(raw: bytes, *, signed: bool) -> Image.Image | None:
    """Try the formats known by a signature, or those that have none and take more things for theirs."""
    damage: BadItem | None = None
    for name in [name for name in Image.ID if name not in _NOT_DECODED_HERE]:
        factory, accept = Image.OPEN[name]
        if (accept is not None) is not signed:
            continue
        try:
            verdict = accept is None or accept(raw[:16])
            if verdict and not isinstance(verdict, str):  # text: this Pillow was built without the format
                return _checked(factory(io.BytesIO(raw), ""))
        except _NOT_THIS_FORMAT:
            continue
        except BadItem:
            raise
        except Exception as error:  # noqa: BLE001 - Pillow's plug-ins raise whatever their format's mess leads to
            reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
            damage = BadItem(reason, f"is {_article(name)} whose header cannot be read ({error})")
    if damage and signed:
        raise damage
    return None


def _checked(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        pixels = f"{width}x{height} = {width * height / 1e6:.0f} million pixels"
        raise BadItem("too_large", f"has {pixels}; at most {MAX_PIXELS / 1e6:.0f} million are decoded. Scale it down first")
    if width < 1 or height < 1:
        raise BadItem("corrupt", f"says that it is {width}x{height} pixels")
    return image


def _open_heic(raw: bytes) -> Image.Image:
    import_module("pillow_heif").register_heif_opener()
    try:
        return _checked(Image.OPEN["HEIF"][0](io.BytesIO(raw), ""))
    except (OSError, ValueError, *_NOT_THIS_FORMAT) as error:
        raise BadItem("corrupt", f"is a HEIC image that cannot be read ({error})") from error


def _brand(raw: bytes) -> str | None:
    """Return the kind of an ISO base media file (ftyp box), None where it is none."""
    return _BRANDS.get(raw[8:12].lower(), "video") if raw[4:8] == b"ftyp" else None


def _name_of_content(raw: bytes) -> tuple[str, str] | None:
    """Return the ledger's slug and sentence of bytes that no signed format opened, None if unknown."""
    brand = _brand(raw)
    if brand == "HEIC":
        return "heic", "is a HEIC image (iPhone photo). Run: pip install pillow-heif, or convert it to JPEG"
    if brand == "video":
        return "not_an_image", "is an MP4 or QuickTime video, not an image"
    if brand is not None:
        return "unsupported", f"is {_article(brand)} image, which is damaged or which this Pillow does not decode"
    for signature, name in _SIGNATURES:
        if raw.startswith(signature):
            return "not_an_image", f"is {name}" + ("" if "image" in name or "program can" in name else ", not an image")
    for signature, name in _IMAGE_SIGNATURES:
        if raw.startswith(signature):
            return "truncated", f"begins like {name} but its header is cut off or damaged ({len(raw)} bytes)"
    if raw[:4] == b"RIFF" and raw[8:12] in (b"WAVE", b"AVI "):
        return "not_an_image", "is a sound or a video (RIFF), not an image"
    return _name_of_text(raw)


def _name_of_text(raw: bytes) -> tuple[str, str] | None:
    start = raw[:4096]
    if not start.strip(b"\x00"):
        return "not_an_image", f"holds nothing but zero bytes ({len(raw)} of them)"
    try:
        text = start.decode("utf-8-sig", errors="strict" if len(raw) <= 4096 else "ignore").lstrip().lower()
    except UnicodeDecodeError:
        return None
    if sum(c < 32 and c not in b"\t\n\r\f\x1b" for c in start):
        return None
    if text.startswith(("<!doctype html", "<html")) or "<html" in text[:512]:
        return "not_an_image", "is an HTML page, not an image; the download that made it has failed"
    if "<svg" in text:
        return "unsupported", "is an SVG drawing, which Pillow does not decode; convert it to PNG"
    kind = "XML" if text.startswith("<?xml") else "JSON" if text.startswith(("{", "[")) else "plain text"
    return "not_an_image", f"is {kind}, not an image"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEFHILMNORSX' else 'a'} {name}"
