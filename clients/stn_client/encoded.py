"""The size of an encoded picture, read from its first bytes: pictures of one size may travel in one request."""

from __future__ import annotations

from struct import Struct, error, unpack_from

_PNG_START, _JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_SIZE = Struct(">2I")
_SEGMENT, _FRAME = Struct(">BBH"), Struct(">xHH")
# The segments that begin a frame: SOF0 to SOF15 without DHT, JPG and DAC, which lie among them.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _EXIF = 0xE1, b"Exif\0\0"
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that exchange height and width


def seen_size(data: bytes) -> tuple[int, int] | None:
    """The (height, width) that a PNG or JPEG is seen at; None where its first bytes do not tell."""
    try:
        if data.startswith(_PNG_START):
            return _png_size(data)
        return _jpeg_size(data) if data.startswith(_JPEG_START) else None
    except error:  # it ends too early; whether it is broken is for the service to say
        return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or b"eXIf" in data or b"exif" in data:  # it may be turned, which is rare
        return None
    width, height = _PNG_SIZE.unpack_from(data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at, lying = len(_JPEG_START), False
    while True:
        start, marker, length = _SEGMENT.unpack_from(data, at)
        if start != 0xFF or length < 2:
            return None
        if marker in _FRAMES:
            height, width = _FRAME.unpack_from(data, at + 4)
            return (width, height) if lying else (height, width)
        content = at + 4
        if marker == _APP1 and data.startswith(_EXIF, content):
            lying = _orientation(data[content + len(_EXIF) : at + 2 + length]) in _LYING
        at += 2 + length


def _orientation(tiff: bytes) -> int | None:
    order = "<" if tiff.startswith(b"II") else ">"
    (at,) = unpack_from(f"{order}4xI", tiff)
    (entries,) = unpack_from(f"{order}H", tiff, at)
    for entry in range(entries):
        tag, value = unpack_from(f"{order}H6xH", tiff, at + 2 + 12 * entry)
        if tag == _ORIENTATION:
            return int(value)
    return None
