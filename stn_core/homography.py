"""The algebra of homographies ``[B, 3, 3]``; the convention is that of ``stn_core.geometry``, output to input.

A homography is known up to a positive factor: those made here have 1 or -1 in the lower right corner, where they can.
The sign matters: ``theta (x, y, 1)`` has a positive third number where the point is seen, in front of the horizon. It
survives composition and inversion; -1 in the corner says that the image's centre lies beyond the horizon.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.errors import BadTensor
from stn_core.geometry import MIN_DETERMINANT, Size

MIN_DENOMINATOR = 1e-3
"""Points nearer to the horizon than this, or beyond it, are sent far away, in general outside the image."""


def from_affine(theta: ArrayLike) -> NDArray[Any]:
    """``theta [B, 2, 3]`` with the row (0, 0, 1) below: ``[B, 3, 3]``."""
    theta = np.asarray(theta)
    last = np.broadcast_to(np.array([[0.0, 0.0, 1.0]], theta.dtype), (*theta.shape[:-2], 1, 3))
    return np.concatenate([theta, last], axis=-2)


def from_points(output: ArrayLike, source: ArrayLike) -> NDArray[np.float64]:
    """The homography ``[B, 3, 3]`` that maps four ``output`` points ``[B, 4, 2]`` to four ``source`` points.

    Both go around a convex quadrilateral, in the same sense. BadTensor if three of the points lie on a line.
    """
    return _normalized(_basis(source) @ np.linalg.inv(_basis(output)))


def _basis(points: ArrayLike) -> NDArray[np.float64]:
    """The matrix ``[B, 3, 3]`` that takes the unit vectors and their sum to four points, up to factors."""
    points = np.asarray(points, np.float64)
    columns = np.swapaxes(np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1), -1, -2)
    first, fourth = columns[..., :3], columns[..., 3:]
    # By Cramer's rule; each determinant is twice the area of a triangle of three of the points.
    replaced = [np.where(np.arange(3) == index, fourth, first) for index in range(3)]
    areas = np.stack([np.linalg.det(each) for each in (first, *replaced)], axis=-1)
    if not (np.abs(areas) > MIN_DETERMINANT).all():
        raise BadTensor("points: expected four points, no three of them on a line")
    return np.asarray(first * (areas[..., 1:] / areas[..., :1])[..., None, :])


def compose(first: ArrayLike, then: ArrayLike) -> NDArray[Any]:
    """The homography whose one warp equals warping by ``first`` and warping the result by ``then``."""
    return _normalized(np.asarray(first) @ np.asarray(then))


def invert(theta: ArrayLike) -> NDArray[Any]:
    """The homography that undoes ``theta [B, 3, 3]``; BadTensor if one of them is singular."""
    theta = np.asarray(theta)
    with np.errstate(invalid="ignore"):
        determinant = np.linalg.det(theta).reshape(-1)
    singular = np.flatnonzero(~(np.abs(determinant) > MIN_DETERMINANT) | ~np.isfinite(determinant))
    if singular.size:
        raise BadTensor(
            f"theta: expected invertible homographies, but number {singular[0]} has the determinant "
            f"{determinant[singular[0]]:.3g}"
        )
    return _normalized(np.linalg.inv(theta))


def apply(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """``theta [B, 3, 3]`` applied to points given as ``x`` and ``y`` (``[B, K]`` or ``[1, K]``), arrays or tensors."""
    t = theta[:, :, :, None]
    return _divided(*(t[:, row, 0] * x + t[:, row, 1] * y + t[:, row, 2] for row in range(3)))


def pixel_coefficients(theta: Any, input_size: Size, output_size: Size) -> tuple[tuple[Any, Any, Any], ...]:
    """``((a, b, c), (d, e, f), (g, h, k))``: output pixel (column j, row i) comes from input pixel
    ((a j + b i + c) / w, (d j + e i + f) / w) with w = g j + h i + k.

    As in ``geometry.pixel_coefficients`` the terms are arranged so that the identity at equal sizes is exact.
    """
    (in_height, in_width), (out_height, out_width) = input_size, output_size

    def denominator() -> tuple[Any, Any, Any]:
        t_x, t_y, t_1 = theta[..., 2, 0], theta[..., 2, 1], theta[..., 2, 2]
        constant = t_x * (1.0 / out_width - 1.0) + t_y * (1.0 / out_height - 1.0) + t_1
        return t_x * (2.0 / out_width), t_y * (2.0 / out_height), constant

    def row(index: int, in_side: Any) -> tuple[Any, Any, Any]:
        per_column, per_row, half_span = in_side / out_width, in_side / out_height, 0.5 * (in_side - 1.0)
        t_x, t_y, t_1 = theta[..., index, 0], theta[..., index, 1], theta[..., index, 2]
        constant = 0.5 * (t_x * (per_column - in_side) + t_y * (per_row - in_side) + t_1 * in_side)
        own = (t_x * per_column, t_y * per_row, constant)
        return tuple(one + half_span * below for one, below in zip(own, last, strict=True))

    last = denominator()
    return row(0, in_width), row(1, in_height), last


def pixel_grid(theta: Any, column: Any, row: Any, input_size: Size, output_size: Size) -> tuple[Any, Any]:
    """The input pixel indices that the output pixels ``column``, ``row`` come from."""
    x, y, w = (
        a[:, None, None] * column + b[:, None, None] * row + c[:, None, None]
        for a, b, c in pixel_coefficients(theta, input_size, output_size)
    )
    return _divided(x, y, w)


def _divided(x: Any, y: Any, w: Any) -> tuple[Any, Any]:
    safe = _at_least(w, MIN_DENOMINATOR)
    return x / safe, y / safe


def _at_least(values: Any, low: float) -> Any:
    if isinstance(values, np.ndarray):
        return np.maximum(values, low)
    import tensorflow as tf

    return tf.maximum(values, low)


def _normalized(theta: NDArray[Any]) -> NDArray[Any]:
    last = np.abs(theta[..., 2:, 2:])
    return np.asarray(theta / np.where(last > MIN_DETERMINANT, last, 1.0))
