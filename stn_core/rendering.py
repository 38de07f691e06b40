"""How else the same distorted image may have come to be: enlarged, warped and made small again, by other kernels.

A network that only ever sees images moved by one bilinear warp learns to look for the traces of that warp, and leaves
alone what shows none of them, such as a picture of a camera or an image that other software turned. So part of what it
is taught on is rendered: theta, which knows no resolution, is applied to an enlarged image, and the result is reduced.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from stn_core.geometry import Size
from stn_core.native import warp

Kernel = Literal["box", "triangle", "cubic", "lanczos"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
FACTORS = (2, 3)
_SUPPORT: dict[Kernel, float] = {"box": 0.5, "triangle": 1.0, "cubic": 2.0, "lanczos": 3.0}


class Rendering(NamedTuple):
    """Sides ``factor`` times as long by the kernel ``enlarging``, a warp, and the way back by ``reducing``."""

    factor: int
    enlarging: Kernel
    reducing: Kernel


ALL_RENDERINGS = tuple(
    Rendering(factor, enlarging, reducing) for factor in FACTORS for enlarging in KERNELS for reducing in KERNELS
)


def render(
    images: NDArray[np.float32], theta: NDArray[Any], size: Size, rendering: Rendering, fill_fraction: float = 0.0
) -> NDArray[np.float32]:
    """``images [N, H, W, C]``, float32 in [0, 1], warped by ``theta`` (of any family) as ``rendering`` says.

    ``[N, *size, C]``, of the same range: what a kernel overshoots is cut off.
    """
    factor = rendering.factor
    height, width = images.shape[1] * factor, images.shape[2] * factor
    large = resample(images, (height, width), rendering.enlarging).clip(0.0, 1.0)
    warped = warp(large, theta, (size[0] * factor, size[1] * factor), fill_fraction)
    return resample(warped, size, rendering.reducing).clip(0.0, 1.0)


def resample(images: NDArray[np.float32], size: Size, kernel: Kernel) -> NDArray[np.float32]:
    """``images [N, H, W, C]`` at ``size`` by a separable kernel, which is as much wider as images become smaller."""
    count, height, width, channels = images.shape
    down = _weights(height, size[0], kernel) @ images.reshape(count, height, width * channels)
    rows = down.reshape(-1, width, channels).swapaxes(1, 2).reshape(-1, width)
    across = rows @ _weights(width, size[1], kernel).T
    return np.ascontiguousarray(across.reshape(count, size[0], channels, size[1]).swapaxes(2, 3))


@lru_cache(maxsize=64)
def _weights(side: int, wanted: int, kernel: Kernel) -> NDArray[np.float32]:
    """``[wanted, side]``: how much of each pixel goes into each new one; what would lie outside counts for nothing."""
    ratio = side / wanted
    stretch = max(1.0, ratio)
    middles = (np.arange(wanted) + 0.5) * ratio
    away = (np.arange(side) + 0.5 - middles[:, None]) / stretch
    weights = np.where(np.abs(away) <= _SUPPORT[kernel], _SHAPES[kernel](away), 0.0)
    shares: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def _cubic(away: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel (1981) with a = -1/2."""
    x = np.abs(away)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)


_SHAPES: dict[Kernel, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    # Half open, or a pixel on the border between two would go into both.
    "box": lambda away: ((away > -0.5) & (away <= 0.5)).astype(np.float64),
    "triangle": lambda away: 1 - np.abs(away),
    "cubic": _cubic,
    "lanczos": lambda away: np.sinc(away) * np.sinc(away / 3),
}
