"""Brings pixels to the size and the channels that a network takes: alike for a training set, a picture and a request.

Sizes are made by Pillow, which averages what it makes smaller, and what has another shape than the target is stretched:
normalized coordinates stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor
from stn_core.geometry import Size
from stn_core.plain_pictures import luma

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # what Pillow weighs colours by
_BAND_PIXELS = 2**19


def as_input(image: NDArray[Any], shape: tuple[int, int, int], threads: int = 1) -> NDArray[Any]:
    """``image [H, W, C]`` as a network of the input ``shape`` (height, width, channels) takes it, in its own datatype.

    uint8, or float32 in [0, 1]. As a picture file with these pixels is read (``pictures.decode_picture``): transparent
    parts become black, then it is resized, then colours become gray, or gray colours. BadTensor if its channels can not
    become the network's.
    """
    height, width, channels = shape
    came = image.shape[2]
    if came != channels and not {came, channels} <= {1, 3, 4}:
        raise BadTensor(f"images: expected {channels} channels, which is what the network takes, got {came}")
    prepared = _on_black if came == 4 != channels else _as_it_is
    return in_channels(resized(image, (height, width), threads, prepared), channels)


def resized(
    image: NDArray[Any],
    size: Size,
    threads: int = 1,
    prepared: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[Any]:
    """``image [H, W, C]``, uint8 or float32, at ``size`` (height, width); each band of rows is ``prepared`` first.

    A large image is resized across first, in bands of rows, then down. Pillow does the same, but copies it whole; and
    it may go down first, which rounds otherwise.
    """
    height, width = size
    prepared = prepared or _as_it_is
    if image.shape[0] * image.shape[1] <= _BAND_PIXELS:
        return _by_pillow(prepared(image), (height, width))
    rows = max(1, _BAND_PIXELS // image.shape[1])
    bands = [image[top : top + rows] for top in range(0, len(image), rows)]

    def across(band: NDArray[Any]) -> NDArray[Any]:
        return _by_pillow(prepared(band), (len(band), width))

    if threads == 1:
        narrow = list(map(across, bands))
    else:
        with ThreadPoolExecutor(threads) as pool:  # Pillow resizes without the interpreter lock
            narrow = list(pool.map(across, bands))
    return _by_pillow(np.concatenate(narrow), (height, width))


def in_channels(pixels: NDArray[Any], channels: int) -> NDArray[Any]:
    """``pixels [..., W, C]`` of 1 (gray), 3 (colour) or 4 (colour and opacity) channels with as many as asked for.

    Colours become gray by their luma, to the bit as in Pillow; BadTensor for anything else but more of them.
    """
    came = pixels.shape[-1]
    if came == channels:
        return pixels
    if (came, channels) == (3, 1):
        if pixels.dtype == np.uint8:
            return luma(pixels.reshape(-1, *pixels.shape[-2:])).reshape(*pixels.shape[:-1], 1)
        return np.asarray((pixels @ _LUMA)[..., None], np.float32)
    if came not in (1, 3) or channels not in (3, 4):
        raise BadTensor(f"images: images of {came} channels can not become ones of {channels}")
    colours = np.repeat(pixels, 3, axis=-1) if came == 1 else pixels
    if channels == 3:
        return colours
    opaque = np.full_like(pixels[..., :1], 255 if pixels.dtype == np.uint8 else 1)
    return np.concatenate([colours, opaque], axis=-1)


def _as_it_is(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels


def _on_black(pixels: NDArray[Any]) -> NDArray[Any]:
    """``[H, W, 4]`` without its opacity: what is transparent is black."""
    if pixels.dtype != np.uint8:
        return np.asarray(pixels[..., :3] * pixels[..., 3:])
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB"))


def _by_pillow(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return _plane_by_pillow(pixels, size)
    return np.stack([_plane_by_pillow(plane, size) for plane in _planes(pixels)], axis=-1)


def _planes(pixels: NDArray[Any]) -> Iterable[NDArray[Any]]:
    return (pixels[..., channel] for channel in range(pixels.shape[2]))


def _plane_by_pillow(plane: NDArray[Any], size: Size) -> NDArray[Any]:
    """uint8 or float32 ``[H, W]``, or uint8 ``[H, W, 3]``."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
