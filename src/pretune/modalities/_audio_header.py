"""What the header of a audio file promises against what is there: lengths that are missing, too large, or not kept.

libsndfile plays what there is and says nothing of it, takes a length of 0 at its word, and refuses a CAF file that was cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

_UNKNOWN = "its header does not say how long it is; it was read to its end"
_NO_LENGTH = 0x7FFF_0000
"""32-bit lengths from here on stand for 'not known yet': no program goes back to fill them in where it writes to a pipe."""


@dataclass(kw_only=True)
class Header:
    """What a file says of itself, and what to say of that."""

    raw: bytes
    """The file, its length mended where it says none."""
    share: float = 1.0
    """How much there is of the audio data that the header promises, 0 to 1."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what had to be mended."""
    knows_frames: bool = True
    """Whether the number of frames that libsndfile reports is one that the file promises."""


def look(raw: bytes) -> Header:
    """Return what the header of a file's bytes promises; bytes of any other kind come back as they are."""
    for mark, at, read in _READERS:
        if raw[at : at + len(mark)] == mark:
            try:
                return read(raw)
            except (struct.error, IndexError):
                break  # cut inside the header: libsndfile says what is wrong
    return Header(raw=raw)


# --- files of chunks -----------------------------------------------------------------------------


def _chunk(raw: bytes, name: bytes, start: int, form: str, *, pad: bool = True) -> tuple[int, int]:
    """Return where a chunk's data begin and how many bytes it is said to have; IndexError where there is none."""
    head = struct.calcsize(f"{form[0]}4s{form[1]}")
    while start + head <= len(raw):
        kind, size = struct.unpack_from(f"{form[0]}4s{form[1]}", raw, start)
        if kind == name:
            return start + head, size
        start += head + max(0, size) + (size % 2 if pad else 0)
    raise IndexError(name)


def _patched(raw: bytes, at: int, form: str, value: int) -> bytes:
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def _wav(raw: bytes) -> Header:
    begin, size = _chunk(raw, b"data", 12, "<I")
    there = len(raw) - begin
    if size == 0 and there and not _are_chunks(raw, begin):
        return Header(raw=_patched(raw, begin - 4, "<I", 0xFFFF_FFFF), notes=[_UNKNOWN])
    return _counted(raw, size, there, unknown=size >= _NO_LENGTH)


def _are_chunks(raw: bytes, start: int) -> bool:
    """Return whether what follows is further chunks up to the end: the sound is empty indeed."""
    while start + 8 <= len(raw):
        kind, size = struct.unpack_from("<4sI", raw, start)
        if not (kind.isascii() and kind.decode("ascii").isprintable()):
            return False
        start += 8 + size + size % 2
    return start in (len(raw), len(raw) + 1)


def _rf64(raw: bytes) -> Header:
    begin, _ = _chunk(raw, b"ds64", 12, "<I")
    (size,) = struct.unpack_from("<Q", raw, begin + 8)
    there = len(raw) - _chunk(raw, b"data", 12, "<I")[0]
    if size == 0 and there:
        return Header(raw=_patched(raw, begin + 8, "<Q", 1 << 40), notes=[_UNKNOWN])
    return _counted(raw, size, there, unknown=size >= 1 << 40)


def _aiff(raw: bytes) -> Header:
    begin, size = _chunk(raw, b"SSND", 12, ">I")
    there = len(raw) - begin
    if size <= 8 < there:  # 8 bytes are the chunk's own; libsndfile takes 0 for 'to the end'
        return Header(raw=_patched(raw, begin - 4, ">I", 0), notes=[_UNKNOWN])
    return _counted(raw, size, there, unknown=size >= _NO_LENGTH)


def _au(raw: bytes) -> Header:
    offset, size = struct.unpack_from(">II", raw, 4)
    there = len(raw) - offset
    if size == 0 and there > 0:
        return Header(raw=_patched(raw, 8, ">I", 0xFFFF_FFFF), notes=[_UNKNOWN])
    return _counted(raw, size, there, unknown=size >= _NO_LENGTH)


def _caf(raw: bytes) -> Header:
    begin, size = _chunk(raw, b"data", 8, ">q", pad=False)
    there = len(raw) - begin
    if 0 < size <= there:
        return Header(raw=raw)
    mended = _patched(raw, begin - 8, ">q", there)
    return Header(raw=mended, notes=[_UNKNOWN]) if size <= 0 else _counted(mended, size, there, unknown=False)


def _w64(raw: bytes) -> Header:
    start = 40
    while start + 24 <= len(raw):  # names are 16 bytes of which the first four read as text; sizes hold the 24 bytes of their head
        (size,) = struct.unpack_from("<q", raw, start + 16)
        if raw[start : start + 4] == b"data":
            return _counted(raw, size - 24, len(raw) - start - 24, unknown=not 24 < size < 1 << 40)
        start += max(24, size + -size % 8)
    return Header(raw=raw)


def _counted(raw: bytes, size: int, there: int, *, unknown: bool) -> Header:
    if unknown:
        return Header(raw=raw, notes=[_UNKNOWN])
    return Header(raw=raw, share=min(1.0, there / size) if size and there > 0 else 1.0)


# --- compressed streams --------------------------------------------------------------------------


def _flac(raw: bytes) -> Header:
    frames = int.from_bytes(raw[21:26]) & 0xF_FFFF_FFFF
    return Header(raw=raw, knows_frames=bool(frames))


def _ogg(raw: bytes) -> Header:
    """Look whether the last page is there: an Ogg file says nowhere how long it is."""
    place, last, ends, rate = 0, 0, True, 48_000  # Opus counts at 48 kHz, whatever it holds
    while raw[place : place + 4] == b"OggS" and place + 27 <= len(raw):
        kind, granule = struct.unpack_from("<xBq", raw, place + 4)
        body = place + 27 + raw[place + 26]
        if kind & 2 and raw[body : body + 7] == b"\x01vorbis":
            (rate,) = struct.unpack_from("<I", raw, body + 12)
        end = body + sum(raw[place + 27 : body])
        if end > len(raw):
            lost = (granule - last) / rate if rate and 0 <= granule - last < 60 * rate else 0.0
            return Header(raw=raw, notes=[_no_end(lost)], knows_frames=False)
        last, ends, place = granule if granule >= 0 else last, bool(kind & 4), end
    rest = raw[place:].strip(b"\0")
    cut = not ends or rest[:4] == b"OggS"
    return Header(raw=raw, notes=[_no_end(0.0)] if cut else [], knows_frames=False)


def _no_end(lost: float) -> str:
    least = f": at least {lost:.2f} s are lost" if lost > 0 else "; its header does not say how much is lost"
    return f"it is cut off: its last page is missing{least}"


_BITRATES = {  # kbit/s by (is MPEG 1, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


def mpeg_frame(raw: bytes, at: int) -> int:
    """Return the bytes of the MPEG audio frame whose header stands at a place, 0 where none does."""
    head = raw[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return 0
    rate = _MPEG_RATES[version][rate_index]
    bits, padding = 1000 * _BITRATES[version == 3, layer][index], head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (144 if layer == 2 or version == 3 else 72) * bits // rate + padding


def _mpeg(raw: bytes) -> Header:
    """Walk from frame to frame: bytes between them are damage, and the last one may be cut off."""
    place, strange, cut, begun = _after_tags(raw), 0, False, False
    zeros = len(raw.rstrip(b"\0"))  # from here on there is padding only
    while place < len(raw):
        size = mpeg_frame(raw, place)
        if size and (not begun or place + size >= len(raw) or mpeg_frame(raw, place + size) or raw.startswith(_TAGS, place + size)):
            cut, begun = place + size > len(raw), True
            place += size
            continue
        if begun and (raw.startswith(_TAGS, place) or place >= zeros):
            break
        following = _next_frame(raw, place + 1)
        strange += (following - place) * begun
        place = following
    notes = [f"{strange:,} bytes of it are no MP3 data and were passed over"] if strange else []
    if cut:
        notes.append("it is cut off inside its last frame")
    return Header(raw=raw, notes=notes)


def _after_tags(raw: bytes) -> int:
    place = 0
    while raw[place : place + 3] == b"ID3" and place + 10 <= len(raw):
        size = sum((byte & 0x7F) << shift for byte, shift in zip(raw[place + 6 : place + 10], (21, 14, 7, 0), strict=True))
        place += 10 + size + (10 if raw[place + 5] & 0x10 else 0)
    return place


def _next_frame(raw: bytes, start: int) -> int:
    """Return the next place where a frame stands that another one follows; the end where there is none."""
    while (start := raw.find(b"\xff", start)) >= 0:
        size = mpeg_frame(raw, start)
        if size and mpeg_frame(raw, start + size):
            return start
        start += 1
    return len(raw)


_READERS: tuple[tuple[bytes, int, Callable[[bytes], Header]], ...] = (
    (b"WAVE", 8, lambda raw: _rf64(raw) if raw[:4] in (b"RF64", b"BW64") else _wav(raw) if raw[:4] == b"RIFF" else Header(raw=raw)),
    (b"AIF", 8, _aiff),
    (b".snd", 0, _au),
    (b"caff", 0, _caf),
    (b"riff\x2e\x91\xcf\x11", 0, _w64),
    (b"fLaC", 0, _flac),
    (b"OggS", 0, _ogg),
    (b"ID3", 0, _mpeg),
    (b"\xff", 0, _mpeg),
)
