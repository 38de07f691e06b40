"""A slow, obvious bilinear warp in NumPy: the definition that the real sampler is held against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def warp(images: Any, theta: Any, output_size: tuple[int, int], fill_mode: str, fill_value: float) -> Any:
    batch, height, width, channels = images.shape
    out = np.zeros((batch, *output_size, channels))
    for b in range(batch):
        for i in range(output_size[0]):
            for j in range(output_size[1]):
                u = np.array([(2 * j + 1) / output_size[1] - 1, (2 * i + 1) / output_size[0] - 1, 1.0])
                x, y = theta[b] @ u
                x_px, y_px = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
                out[b, i, j] = _read(images[b], x_px, y_px, fill_mode, fill_value)
    return out


def _read(image: Any, x: float, y: float, fill_mode: str, fill_value: float) -> Any:
    x0, y0 = math.floor(x), math.floor(y)
    total = np.zeros(image.shape[-1])
    for yy, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for xx, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            total += wy * wx * _pixel(image, xx, yy, fill_mode, fill_value)
    return total


def _pixel(image: Any, x: int, y: int, fill_mode: str, fill_value: float) -> Any:
    height, width, _ = image.shape
    if fill_mode == "constant" and not (0 <= x < width and 0 <= y < height):
        return fill_value
    return image[_index(y, height, fill_mode), _index(x, width, fill_mode)]


def _index(k: int, side: int, fill_mode: str) -> int:
    if fill_mode == "reflect":
        k %= 2 * side
        return k if k < side else 2 * side - 1 - k
    return min(max(k, 0), side - 1)
