"""Reads plain PNG and JPEG files fast, with OpenCV, which lets other threads run meanwhile.

Plain is what two decoders must read alike, told from the file's structure and before any pixel is decoded: 8 bits a
channel, gray or colour, no transparency, no turning by EXIF, nothing unusual, nothing missing. Whatever else a file
may be is for Pillow to read or refuse (``stn_core.pictures``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection
from pathlib import Path
from struct import Struct
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Shrink = Literal[1, 2, 4, 8]

_MOST_PIXELS, _MOST_SIDE, _MOST_BYTES = 2**26, 2**16 - 1, 2**28
_LONGEST_START = 8
_CHUNK, _HEADER, _CRC = Struct(">I4s"), Struct(">2I5B"), Struct(">I")
_SEGMENT, _FRAME = Struct(">xBH"), Struct(">BHHB")

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3}  # of each colour type
# Chunks with no effect on pixels, in either decoder, and their lengths.
_PNG_IDLE = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}
# Not just any text: to Pillow, one under "exif" turns the picture, and one under "transparency" makes it transparent.
_PNG_TEXTS = re.compile(rb"(Title|Author|Description|Copyright|Software|Source|Comment|Creation Time|date:\w+)\0")
_LONGEST_TEXT = 2**12

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_SOF0, _SOF2, _DHT, _EOI, _SOS, _DQT, _DRI, _APP0, _APP2, _COM = b"\xc0\xc2\xc4\xd9\xda\xdb\xdd\xe0\xe2\xfe"
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # the first marker after a scan: a stuffed 0xFF or a restart is none
_QUANTIZATION_BYTES = 65

# Pillow's luma in 65536ths; all sums are exact in float32, as they have 24 bits.
_LUMA = np.array([[19595, 38470, 7471, 32768]], np.float32) / 65536
_BAND_PIXELS = 2**18


class Plain(NamedTuple):
    """A plain file: its ``kind`` (PNG or JPEG), the picture's size and channels, and what of it is to be decoded."""

    kind: str
    height: int
    width: int
    channels: int
    data: bytes


def plain_picture(source: bytes | Path, formats: Collection[str]) -> Plain | None:
    """``source``, bytes or a path, as a plain file of one of ``formats``; None if it is none, or not to be read."""
    data = _content(source) if isinstance(source, Path) else source
    if data.startswith(_PNG_START):
        plain = _plain_png(data) if "PNG" in formats else None
    elif data.startswith(_JPEG_START):
        plain = _plain_jpeg(data) if "JPEG" in formats else None
    else:
        return None
    if plain is None or not (0 < plain.height <= _MOST_SIDE and 0 < plain.width <= _MOST_SIDE):
        return None
    return plain if plain.height * plain.width <= _MOST_PIXELS else None


def plain_pixels(plain: Plain, gray: bool, shrink: Shrink = 1) -> NDArray[np.uint8] | None:
    """The pixels, ``[H, W]`` of a gray picture and ``[H, W, 3]`` of one in colour; None if the file is broken.

    With ``gray``, a JPEG in colour gives its luminance, ``[H, W]``, and its colours are not decoded. ``shrink`` is for
    JPEGs whose sides it divides: about the means of so many pixels a side, in a part of the time.
    """
    import cv2

    in_gray = plain.channels == 1 or (gray and plain.kind == "JPEG")
    how = {
        1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
        2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    }[shrink][in_gray]
    try:
        pixels = cv2.imdecode(np.frombuffer(plain.data, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    size = (plain.height // shrink, plain.width // shrink)
    shape = size if in_gray else (*size, 3)
    if pixels is None or pixels.shape != shape or pixels.dtype != np.uint8:
        return None
    found: NDArray[np.uint8] = pixels if in_gray else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return found


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[H, W, 3]`` in gray, ``[H, W]``, to the bit as Pillow converts it."""
    import cv2

    height, width = pixels.shape[:2]
    gray = np.empty((height, width), np.uint8)
    rows = max(1, _BAND_PIXELS // width)  # in bands, as floats take four times the memory
    for top in range(0, height, rows):
        gray[top : top + rows] = cv2.transform(pixels[top : top + rows].astype(np.float32), _LUMA)
    return gray


def _content(path: Path) -> bytes:
    """The file's bytes if it may be plain, else nothing."""
    try:
        if not path.is_file():  # a pipe can be read but once
            return b""
        with path.open("rb") as file:
            start = file.read(_LONGEST_START)
            rest = file.read(_MOST_BYTES) if start.startswith((_PNG_START, _JPEG_START)) else b""
    except OSError:
        return b""
    return start + rest


def _plain_png(data: bytes) -> Plain | None:
    pieces, at, after_pixels = [_PNG_START], len(_PNG_START), False
    height = width = channels = 0
    view = memoryview(data)
    while at + 12 <= len(data):
        length, name = _CHUNK.unpack_from(data, at)
        end = at + 12 + length
        if end > len(data) or zlib.crc32(view[at + 4 : end - 4]) != _CRC.unpack_from(data, end - 4)[0]:
            return None
        if len(pieces) == 1:
            if name != b"IHDR" or length != 13:
                return None
            width, height, bits, colour, compression, filtering, interlaced = _HEADER.unpack_from(data, at + 8)
            channels = _PNG_CHANNELS.get(colour, 0)
            if bits != 8 or not channels or compression or filtering or interlaced:
                return None
            pieces.append(data[at:end])
        elif name == b"IDAT" and not after_pixels:
            pieces.append(data[at:end])
        elif name == b"IEND":
            pieces.append(data[at:end])
            whole = length == 0 and end == len(data) and len(pieces) > 3
            return Plain("PNG", height, width, channels, b"".join(pieces)) if whole else None
        elif _idle(name, data[at + 8 : min(end - 4, at + 8 + _LONGEST_TEXT)], length):
            after_pixels = len(pieces) > 2
        else:
            return None
        at = end
    return None


def _idle(name: bytes, content: bytes, length: int) -> bool:
    if name == b"tEXt":
        return length < _LONGEST_TEXT and _PNG_TEXTS.match(content) is not None
    return _PNG_IDLE.get(name) == length


def _plain_jpeg(data: bytes) -> Plain | None:
    if not data.endswith(_JPEG_END):
        return None
    at, scans, frame = 2, 0, (0, 0, 0)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = _SEGMENT.unpack_from(data, at)
        content = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == _SOS:
            found = _IN_SCAN.search(data, at) if frame[2] else None
            if found is None:
                return None
            at, scans = found.start(), scans + 1
            if data[at + 1] == _EOI:
                return Plain("JPEG", *frame, data) if at + 2 == len(data) else None
        elif marker in (_SOF0, _SOF2) and not frame[2]:
            frame = _jpeg_frame(content)
            if not frame[2]:
                return None
        elif length != len(content) + 2 or not _jpeg_idle(marker, content, scans):
            return None
    return None


def _jpeg_frame(content: bytes) -> tuple[int, int, int]:
    """Height, width and channels; no channels if the frame is not plain."""
    if len(content) < 6:
        return 0, 0, 0
    bits, height, width, channels = _FRAME.unpack_from(content)
    if bits != 8 or channels not in (1, 3) or len(content) != 6 + 3 * channels:
        return 0, 0, 0
    return height, width, channels


def _jpeg_idle(marker: int, content: bytes, scans: int) -> bool:
    """Whether a segment is one of those that both decoders read alike, or pass over."""
    if marker in (_DHT, _DRI):
        return True
    if scans:
        return False
    if marker == _DQT:
        return len(content) % _QUANTIZATION_BYTES == 0 and max(content[::_QUANTIZATION_BYTES], default=4) < 4
    if marker == _APP0:
        return content.startswith(b"JFIF\0\1") and len(content) >= 14  # another version prints a warning
    if marker == _APP2:
        return content.startswith(b"ICC_PROFILE\0") and len(content) > 14
    return marker == _COM
