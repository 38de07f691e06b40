"""Image files of a request, made ready for the pipelines: bounded by what their headers say before they are decoded."""

import io
from typing import NamedTuple

import numpy as np

from services.batching import Array
from services.inputs import check_limits
from services.settings import Limits
from stn_core.errors import BadTensor, StnError, TooLarge, shortened
from stn_core.pictures import REQUEST_FORMATS, decode_picture
from stn_core.png import encode_png

CONVERTED_FORMATS = ("WEBP", "BMP", "GIF", "TIFF")
"""Read here, of animations and pages the first; the pipelines themselves read PNG and JPEG alone."""
FORMATS = (*REQUEST_FORMATS, *CONVERTED_FORMATS)
_GRAY_MODES = ("1", "L")
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of a TIFF
_FASTEST = 1  # of the levels of a PNG, for those that live for a moment


class PixelAllowance:
    """The bytes of pixels, read and made, that one request may still ask for."""

    def __init__(self, limits: Limits) -> None:
        self._limit_bytes = self._left_bytes = limits.max_decoded_bytes

    def take(self, count: int) -> None:
        if count > self._left_bytes:
            raise TooLarge(
                f"images: expected at most {self._limit_bytes} bytes of decoded images in one request, of which "
                f"{self._left_bytes} are left, and this one takes {count}; send several requests"
            )
        self._left_bytes -= count


class Head(NamedTuple):
    """What a file's header says of its picture."""

    format: str
    pixels: int
    """What is decoded at once: the picture, or a tile of it where that is larger."""
    is_gray: bool


def read_head(data: bytes, limits: Limits) -> Head:
    """What an image file's header says; BadTensor if there is none, TooLarge if its picture is larger than allowed."""
    from PIL import Image
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            kind, is_gray = str(opened.format), opened.mode in _GRAY_MODES
            tags = opened.tag_v2 if isinstance(opened, TiffImageFile) else {}
            tile = (int(tags.get(_TILE_LENGTH, 1)), int(tags.get(_TILE_WIDTH, 1)))
            sizes = ((opened.height, opened.width), tile)
    except Image.DecompressionBombError as error:
        said = str(error).partition(",")[0]
        raise TooLarge(
            f"images: expected at most {limits.max_pixels_per_image} pixels in an image, got more ({said})"
        ) from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise _unreadable(data, error) from None
    for height, width in sizes:
        check_limits("images", (height, width, 1), 1, 1, limits)
    return Head(kind, max(height * width for height, width in sizes), is_gray)


def read_pixels(data: bytes, limits: Limits, with_opacity: bool) -> Array:
    """The picture in an image file as UINT8 ``[H, W, C]``: gray if all of it is, else in colour.

    What is transparent is black, or comes as a fourth channel ``with_opacity``.
    """
    try:
        return decode_picture(
            data,
            channels=4 if with_opacity else None,
            formats=FORMATS,
            max_pixels=limits.max_pixels_per_image,
        )
    except TooLarge:
        raise
    except StnError as error:
        raise _unreadable(data, error) from None


def as_request_format(data: bytes, head: Head, limits: Limits, with_opacity: bool) -> bytes:
    """The file as a PNG or JPEG, which the pipelines read: itself if it is one, else the same pixels as a PNG."""
    if head.format not in CONVERTED_FORMATS:
        return data
    return encode_png(read_pixels(data, limits, with_opacity), level=_FASTEST)


def bytes_tensor(data: bytes) -> Array:
    """One file as a BYTES tensor ``[1]``."""
    tensor = np.empty(1, object)
    tensor[0] = data
    return tensor


def _unreadable(data: bytes, error: Exception) -> BadTensor:
    from PIL import UnidentifiedImageError

    reason = "none of them" if isinstance(error, UnidentifiedImageError) else f"broken: {shortened(str(error))}"
    known = ", ".join(FORMATS[:-1])
    return BadTensor(f"images: expected a file in {known} or {FORMATS[-1]}, got {len(data)} bytes that are {reason}")
