"""A slow, obvious bilinear warp in NumPy, for every family: the definition that the real sampler is held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stn_core.transforms import identity_like


def warp(images: Any, theta: Any, output_size: tuple[int, int], fill_mode: str, fill_value: float) -> Any:
    batch, height, width, channels = images.shape
    out = np.zeros((batch, *output_size, channels))
    for b in range(batch):
        source = _source_of(theta[b])
        for i in range(output_size[0]):
            for j in range(output_size[1]):
                x, y = source((2 * j + 1) / output_size[1] - 1, (2 * i + 1) / output_size[0] - 1)
                x_px, y_px = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
                out[b, i, j] = _read(images[b], x_px, y_px, fill_mode, fill_value)
    return out


def thetas(rng: np.random.Generator, shape: tuple[int, int], count: int, spread: float) -> Any:
    """Random thetas of a family, about the identity."""
    theta = identity_like(shape, count) + rng.normal(0, spread, (count, *shape))
    if shape == (3, 3):
        theta[:, 2] = [0, 0, 1] + rng.uniform(-0.3, 0.3, (count, 3)) * [1, 1, 0]  # the whole image is seen
    return theta


def _source_of(theta: Any) -> Callable[[float, float], Any]:
    """The function from an output point to its input point."""
    if theta.shape == (2, 3):
        return lambda x, y: theta @ [x, y, 1.0]
    if theta.shape == (3, 3):
        return lambda x, y: (theta @ [x, y, 1.0])[:2] / (theta @ [x, y, 1.0])[2]
    return spline(theta)


def spline(theta: Any) -> Callable[[float, float], Any]:
    """Bookstein's: a + b x + c y + Σ w_k U(distance to control point k), which is theta_k at control point k."""
    side = round(math.sqrt(len(theta)))
    control = [(2 * i / (side - 1) - 1, 2 * j / (side - 1) - 1) for j in range(side) for i in range(side)]

    def terms(x: float, y: float) -> list[float]:
        distances = [math.hypot(x - c[0], y - c[1]) for c in control]
        return [d * d * math.log(d) if d > 0 else 0.0 for d in distances] + [1.0, x, y]

    conditions = [terms(*c) for c in control]
    weights = np.zeros((3, len(control)))
    weights[0], weights[1], weights[2] = 1.0, [c[0] for c in control], [c[1] for c in control]
    system = np.concatenate([conditions, np.concatenate([weights, np.zeros((3, 3))], axis=1)])
    solved = np.linalg.solve(system, np.concatenate([theta, np.zeros((3, 2))]))
    return lambda x, y: np.array(terms(x, y)) @ solved


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
