"""Images that show nothing to straighten: what a rectifier is given when something went wrong before it.

They teach the confidence what a network does with images it knows nothing of. Float32 in [0, 1], of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.geometry import Size, identity
from stn_core.native import warp

Images = NDArray[np.float32]
Generator = np.random.Generator

STROKE_CANVAS_PX, STROKE_POINTS, MAX_STROKES = 28, 24, 4
TILES = 4


def blank(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    """Images ``[count, *shape]`` of one value each, half of them black."""
    values = random.random((count, 1, 1, 1), np.float32) * (random.random((count, 1, 1, 1)) < 0.5)
    return np.broadcast_to(values, (count, *shape)).astype(np.float32)


def noise(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    """Noise of one of four kinds each: uniform, normal, single bright pixels, and smooth."""
    makers = (_uniform, _normal, _specks, _smooth)
    kinds = random.integers(0, len(makers), count)
    images = np.empty((count, *shape), np.float32)
    for kind, make in enumerate(makers):
        rows = np.flatnonzero(kinds == kind)
        images[rows] = np.clip(make(len(rows), shape, random), 0, 1)
    return images


def strokes(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    """One to four random curves each (cubic Bézier), light on black."""
    side = STROKE_CANVAS_PX
    t = np.linspace(0, 1, STROKE_POINTS)[:, None]
    basis = np.concatenate([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3], axis=1)
    y, x = np.mgrid[:side, :side]
    drawn = np.empty((count, side, side, 1), np.float32)
    for image in drawn:
        curves = basis @ random.uniform(0.1 * side, 0.9 * side, (random.integers(1, MAX_STROKES + 1), 4, 2))
        points = curves.reshape(-1, 2)
        distance_px = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1]).min(axis=-1)
        image[..., 0] = np.clip(random.uniform(1.5, 2.5) - distance_px, 0, 1)
    return np.repeat(_resized(drawn, shape[:2]), shape[2], axis=3)


def shuffled(images: NDArray[Any], random: Generator) -> NDArray[Any]:
    """Each of ``images [N, H, W, C]`` cut into 4 x 4 tiles that change places; what is left over at an edge stays."""
    height, width = (side // TILES for side in images.shape[1:3])
    out = images.copy()
    places = [(row * height, column * width) for row in range(TILES) for column in range(TILES)]
    orders = random.permuted(np.tile(np.arange(len(places)), (len(images), 1)), axis=1)
    for number, (top, left) in enumerate(places):
        for source, (from_top, from_left) in enumerate(places):
            rows = orders[:, number] == source
            tile = images[rows, from_top : from_top + height, from_left : from_left + width]
            out[rows, top : top + height, left : left + width] = tile
    return out


def _uniform(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    return random.random((count, *shape), np.float32)


def _normal(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    level, sd = random.uniform(0, 1, (count, 1, 1, 1)), random.uniform(0.01, 0.25, (count, 1, 1, 1))
    return (level + sd * random.standard_normal((count, *shape), np.float32)).astype(np.float32)


def _specks(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    share = random.uniform(0.01, 0.3, (count, 1, 1, 1))
    return np.repeat(random.random((count, *shape[:2], 1)) < share, shape[2], axis=3).astype(np.float32)


def _smooth(count: int, shape: tuple[int, int, int], random: Generator) -> Images:
    images = np.empty((count, *shape), np.float32)
    for row in range(count):
        coarse = random.standard_normal((1, *random.integers(4, 15, 2), shape[2]), np.float32)
        images[row] = _resized(coarse, shape[:2])[0]
    return (random.uniform(0, 0.6, (count, 1, 1, 1)) + 0.4 * images).astype(np.float32)


def _resized(images: Images, size: Size) -> Images:
    return np.asarray(warp(images, identity(len(images)), size))


GENERATED: dict[str, Callable[[int, tuple[int, int, int], Generator], Images]] = {
    "blank": blank,
    "noise": noise,
    "strokes": strokes,
}
"""Those that need no image to begin with, by name."""
