"""The one place that knows the coordinate convention, and the algebra of theta.

Convention
    Images are ``[B, H, W, C]``. Coordinates are normalized with half-pixel centres: pixel i of W has its centre at
    ``(2 i + 1) / W - 1``, so that the image spans [-1, 1] from edge to edge and theta does not depend on resolution.
    ``theta [B, 2, 3]`` maps a normalized **output** point (x, y, 1) to the normalized **input** point (x, y) it is
    sampled from: the inverse mapping of Spatial Transformer Networks (arXiv 1506.02025), equation 1. Points are
    (x, y); sizes are (height, width).

All functions take and give NumPy arrays, in float64 unless the input says otherwise. ``pixel_coefficients``,
``composed_parts`` and ``apply_affine`` use operators alone and so serve TensorFlow tensors too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.errors import BadTensor

IDENTITY: NDArray[np.float64] = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
CORNERS: NDArray[np.float64] = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
MIN_DETERMINANT = 1e-9

Size = tuple[int, int]


def identity(count: int) -> NDArray[np.float64]:
    """``count`` identity thetas, ``[count, 2, 3]``."""
    return np.tile(IDENTITY, (count, 1, 1))


def compose(first: ArrayLike, then: ArrayLike) -> NDArray[Any]:
    """The theta whose one warp equals warping by ``first`` and warping the result by ``then`` (``[B, 2, 3]``).

    With inverse mappings the matrices multiply in reading order: an output point goes through ``then`` to the
    intermediate image and through ``first`` to the input.
    """
    return np.concatenate(composed_parts(_check(first), _check(then)), axis=-1)


def composed_parts(first: Any, then: Any) -> tuple[Any, Any]:
    """``compose`` in two parts, ``[B, 2, 2]`` and ``[B, 2, 1]``, for arrays or tensors."""
    return first[..., :2] @ then[..., :2], first[..., :2] @ then[..., 2:] + first[..., 2:]


def invert(theta: ArrayLike) -> NDArray[Any]:
    """The theta that undoes ``theta`` (``[B, 2, 3]``); BadTensor if one of them is singular."""
    theta = _check(theta)
    (a, b, c), (d, e, f) = (np.moveaxis(theta[..., row, :], -1, 0) for row in range(2))
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused below
        determinant = np.asarray(a * e - b * d)
    singular = np.flatnonzero(~(np.abs(determinant) > MIN_DETERMINANT) | ~np.isfinite(determinant))
    if singular.size:
        raise BadTensor(
            f"theta: expected invertible transforms, but number {singular[0]} has the determinant "
            f"{determinant.flat[singular[0]]:.3g}"
        )
    rows = ((e, -b, b * f - c * e), (-d, a, c * d - a * f))
    inverse: NDArray[Any] = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2) / determinant[..., None, None]
    return inverse


def map_points(theta: ArrayLike, points: ArrayLike) -> NDArray[Any]:
    """Normalized output points ``[B, K, 2]`` (or ``[K, 2]``) mapped to normalized input points ``[B, K, 2]``."""
    theta = _check(theta)
    mapped: NDArray[Any] = np.asarray(points) @ np.swapaxes(theta[..., :2], -1, -2) + theta[..., None, :, 2]
    return mapped


def affine_fits(points: ArrayLike, mapped: ArrayLike) -> NDArray[np.float64]:
    """For each image the affine ``[2, 3]`` that takes ``points [K, 2]`` nearest to ``mapped [N, K, 2]``, by squares."""
    homogeneous = np.column_stack([points, np.ones(len(np.asarray(points)))])
    return np.asarray(np.swapaxes(np.linalg.pinv(homogeneous) @ np.asarray(mapped), -1, -2))


def apply_affine(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """``theta [B, 2, 3]`` applied to points given as ``x`` and ``y`` (``[B, K]`` or ``[K]``), for arrays or tensors."""
    t = theta[:, :, :, None]
    return (
        t[:, 0, 0] * x + t[:, 0, 1] * y + t[:, 0, 2],
        t[:, 1, 0] * x + t[:, 1, 1] * y + t[:, 1, 2],
    )


def to_pixels(points: ArrayLike, size: Size) -> NDArray[Any]:
    """Normalized points (x, y) as pixel indices: the centre of the first pixel is (0, 0)."""
    height, width = size
    pixels: NDArray[Any] = (np.asarray(points) + 1.0) * np.array([width, height]) / 2.0 - 0.5
    return pixels


def from_pixels(points: ArrayLike, size: Size) -> NDArray[Any]:
    """Pixel indices (x, y) as normalized points; the inverse of ``to_pixels``."""
    height, width = size
    points = (2.0 * np.asarray(points) + 1.0) / np.array([width, height]) - 1.0
    return np.asarray(points)


def pixel_coefficients(theta: Any, input_size: Size, output_size: Size) -> tuple[tuple[Any, Any, Any], ...]:
    """``((a, b, c), (d, e, f))``: output pixel (column j, row i) comes from input pixel (a j + b i + c, d j + e i + f).

    The terms are arranged so that the identity theta at equal sizes gives exactly ((1, 0, 0), (0, 1, 0)) in floating
    point: sampling by it then returns the input bit for bit. Takes arrays or tensors; sizes may be tensors of theta's
    dtype as well as numbers.
    """
    (in_height, in_width), (out_height, out_width) = input_size, output_size

    def row(index: int, in_side: Any) -> tuple[Any, Any, Any]:
        per_column, per_row = in_side / out_width, in_side / out_height
        t_x, t_y, t_1 = theta[..., index, 0], theta[..., index, 1], theta[..., index, 2]
        constant = (t_x * (per_column - in_side) + t_y * (per_row - in_side) + (t_1 * in_side + in_side) - 1.0) * 0.5
        return t_x * per_column, t_y * per_row, constant

    return row(0, in_width), row(1, in_height)


def _check(theta: ArrayLike) -> NDArray[Any]:
    try:
        theta = np.asarray(theta)
    except ValueError:
        raise BadTensor("theta: expected numbers of the shape [B, 2, 3], got lists of unequal lengths") from None
    if theta.shape[-2:] != (2, 3) or theta.dtype.kind not in "fiu":
        raise BadTensor(f"theta: expected numbers of the shape [B, 2, 3], got {theta.dtype} {list(theta.shape)}")
    return theta
