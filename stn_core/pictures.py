"""Reads encoded pictures (PNG, JPEG, ...) as pixels: the same for a training set's files and a request's bytes.

Pictures are read as a person sees them: turned as their EXIF data say, transparent parts black (the value outside an
image everywhere in this project), 16 bits a channel scaled to 8.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import InvalidInput, StnError, TooLarge, shortened
from stn_core.plain_pictures import Plain, Shrink, plain_picture, plain_pixels
from stn_core.resizing import in_channels, resized

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from stn_core.geometry import Size

REQUEST_FORMATS = ("PNG", "JPEG")
FILE_FORMATS = (*REQUEST_FORMATS, "BMP", "GIF", "WEBP", "TIFF", "PPM")
CHANNELS = (1, 3, 4)
MAX_PIXELS = 2**26
MAX_JPEG_SCANS = 64
"""Of a progressive JPEG, which has about ten: thirty bytes make one more, as slow as the whole picture."""
_SHRINKS: tuple[Shrink, ...] = (8, 4, 2)
_SIXTEEN_BITS = 65535
_START_OF_JPEG, _START_OF_SCAN = b"\xff\xd8", b"\xff\xda"
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that exchange width and height


def decode_picture(
    source: bytes | Path,
    *,
    channels: int | None = None,
    size: Size | None = None,
    formats: Collection[str] = FILE_FORMATS,
    max_pixels: int = MAX_PIXELS,
    check_size: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """The pixels of a picture, given by its bytes or its path, ``[H, W, C]``.

    ``channels``: 1 gray, 3 colour, 4 colour and opacity (nothing is made black then); None gives 1 where all of the
    picture is gray, else 3. ``size`` (height, width) resizes it. ``check_size(height, width)`` may refuse the picture
    before any pixel is decoded; a picture that is turned by EXIF comes out with the two exchanged. Raises TooLarge
    above ``max_pixels``, and InvalidInput with the reason if it cannot be read. Gray from a plain JPEG in colour is the
    luminance in the file, some levels off Pillow's gray; all else is as Pillow reads it.
    """
    if channels not in (None, *CHANNELS):
        raise InvalidInput(f"expected 1, 3 or 4 channels, which pictures can have, got {channels}")

    def check(height: int, width: int) -> None:
        if check_size is not None:
            check_size(height, width)
        if width * height > max_pixels:
            raise TooLarge(f"expected at most {max_pixels} pixels in a picture, got {height} x {width}")

    if isinstance(source, bytes):
        _check_scans(source)
    try:
        pixels = None if channels == 4 else _by_opencv(source, channels, size, formats, check)
        if pixels is None:
            pixels = _by_pillow(source, channels, size, formats, check)
    except StnError:
        raise
    except Exception as error:
        raise _refusal(error, formats, max_pixels) from None
    if channels is None and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _check_scans(data: bytes) -> None:
    """TooLarge for a JPEG that takes minutes to decode, whatever its size in pixels."""
    scans = data.count(_START_OF_SCAN) if data.startswith(_START_OF_JPEG) else 0
    if scans > MAX_JPEG_SCANS:
        raise TooLarge(f"expected at most {MAX_JPEG_SCANS} scans in a JPEG, got {scans}; save it again")


def decode_reduced(
    data: bytes, at_least: Size, formats: Collection[str] = FILE_FORMATS
) -> tuple[NDArray[np.uint8], Size] | None:
    """A JPEG's pixels ``[h, w, C]`` at a half, a quarter or an eighth of its sides, and its own size (height, width).

    Each pixel is about the mean of those it stands for. No side is shorter than that of ``at_least``; C is 1 where all
    is gray, else 3. None where the file is no plain JPEG, or too small, or has sides that do not divide so;
    TooLarge for one of too many scans.
    """
    _check_scans(data)
    plain = plain_picture(data, formats)
    if plain is None or plain.kind != "JPEG":
        return None
    shrink = next((by for by in _SHRINKS if _divides(plain, by, at_least)), None)
    pixels = None if shrink is None else plain_pixels(plain, gray=False, shrink=shrink)
    if pixels is None:
        return None
    gray = pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())
    return (pixels.reshape(*pixels.shape[:2], -1)[..., :1] if gray else pixels), (plain.height, plain.width)


def _divides(plain: Plain, by: int, at_least: Size) -> bool:
    sides = (plain.height, plain.width)
    return all(side % by == 0 and side // by >= least for side, least in zip(sides, at_least, strict=True))


def picture_size(path: Path, formats: Collection[str] = FILE_FORMATS) -> Size:
    """The size (height, width) a picture is seen at, from its header alone; InvalidInput if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path, formats=tuple(formats)) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _LYING
    except Exception as error:  # Pillow raises many kinds for broken files
        raise InvalidInput(shortened(f"{type(error).__name__}: {error}")) from None
    return (width, height) if turned else (height, width)


def _refusal(error: Exception, formats: Collection[str], max_pixels: int) -> StnError:
    """What is to be raised for ``error``; Pillow raises many kinds for broken files."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return InvalidInput(f"not a readable picture: expected {', '.join(formats)}")
    if isinstance(error, Image.DecompressionBombError):
        return TooLarge(f"expected at most {max_pixels} pixels in a picture, got more ({str(error).partition(',')[0]})")
    return InvalidInput(shortened(f"{type(error).__name__}: {error}"))


def _by_opencv(
    source: bytes | Path,
    channels: int | None,
    size: Size | None,
    formats: Collection[str],
    check: Callable[[int, int], None],
) -> NDArray[np.uint8] | None:
    """A plain file's pixels; None if the file is not plain, or broken: Pillow reads it then, or has the reason."""
    plain = plain_picture(source, formats)
    if plain is None:
        return None
    check(plain.height, plain.width)
    pixels = plain_pixels(plain, gray=channels == 1)
    if pixels is None:
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if size is not None:
        pixels = resized(pixels, size)
    return pixels if channels is None else in_channels(pixels, channels)


def _by_pillow(
    source: bytes | Path,
    channels: int | None,
    size: Size | None,
    formats: Collection[str],
    check: Callable[[int, int], None],
) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=tuple(formats)) as opened:
        width, height = opened.size  # from the header: a small file may hold a huge picture
        check(height, width)
        picture = _flattened(_in_8_bits(ImageOps.exif_transpose(opened)), keep_alpha=channels == 4)
        if size is not None and picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(picture.convert("L") if channels == 1 else picture)


def _in_8_bits(picture: Picture) -> Picture:
    from PIL import Image

    if picture.mode == "F":
        raise InvalidInput("expected whole numbers as pixels, got floating ones; save it with 8 or 16 bits a channel")
    if not picture.mode.startswith("I"):
        return picture
    values: NDArray[Any] = np.asarray(picture).clip(0, _SIXTEEN_BITS)  # Pillow's own conversion cuts off at 255
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        values = np.where(values == transparent, 0, values)
    return Image.fromarray((values // 257).astype(np.uint8))


def _flattened(picture: Picture, keep_alpha: bool) -> Picture:
    """RGB, with what is transparent on black; or RGBA as it is."""
    from PIL import Image

    if keep_alpha:
        return picture.convert("RGBA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return picture.convert("RGB")
