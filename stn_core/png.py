"""Pixels as PNG files, with NumPy and Pillow alone: one image, or rows of small ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor

GAP_PX = 2
_LEVEL = 4
"""Of zlib: higher ones take several times as long and save little of what scans and photographs take."""


def encode_png(pixels: NDArray[Any], level: int = _LEVEL) -> bytes:
    """``pixels`` (uint8 ``[H, W, C]``, C 1 gray, 3 colour, 4 colour and opacity) as a PNG; BadTensor for others."""
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise BadTensor(
            f"pixels: expected uint8 [H, W, C] with 1, 3 or 4 channels, got {pixels.dtype} {list(pixels.shape)}"
        )
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def mosaic(rows: Sequence[NDArray[Any]], background: int = 255) -> NDArray[np.uint8]:
    """Rows of images (uint8 ``[N, H, W, C]``, H and W the row's own) as one image, each in the middle of its tile.

    All rows have the same N and C; column k is image k in each of them. ``background`` is what lies between.
    """
    count, channels = rows[0].shape[0], rows[0].shape[-1]
    if any((row.shape[0], row.shape[-1]) != (count, channels) for row in rows):
        raise BadTensor(f"rows: expected as many images and channels in each, got {[list(row.shape) for row in rows]}")
    width = max(row.shape[2] for row in rows)
    height = sum(row.shape[1] + GAP_PX for row in rows) + GAP_PX
    drawn = np.full((height, count * (width + GAP_PX) + GAP_PX, channels), background, np.uint8)
    top = GAP_PX
    for row in rows:
        for column, image in enumerate(row):
            left = GAP_PX + column * (width + GAP_PX) + (width - image.shape[1]) // 2
            drawn[top : top + image.shape[0], left : left + image.shape[1]] = image
        top += row.shape[1] + GAP_PX
    return drawn
