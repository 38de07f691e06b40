"""Pixels as PIL images, and PNG files as pixels. Pillow is not installed with the client: it is loaded when needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor, Unsupported


def as_picture(pixels: NDArray[Any], what_for: str) -> Any:
    """``pixels`` (``[H, W, C]`` or ``[H, W]``, uint8 or floating in [0, 1]) as a PIL image.

    Unsupported, which names ``what_for``, without Pillow; BadTensor for other channels than 1, 3 or 4.
    """
    library = _pillow(what_for)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[-1] not in (3, 4):
        raise BadTensor(f"{what_for}: expected images of 1, 3 or 4 channels, got {pixels.shape[-1]}")
    if pixels.dtype.kind == "f":
        pixels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return library.fromarray(np.ascontiguousarray(pixels))


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG file that the service made, ``[H, W, C]``; Unsupported without Pillow."""
    with _pillow("to read the images that came as PNG files").open(io.BytesIO(file)) as picture:
        pixels = np.array(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _pillow(what_for: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise Unsupported(f"{what_for} needs Pillow, which is not installed: pip install pillow") from None
    return Image
