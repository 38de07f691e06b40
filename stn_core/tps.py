"""Thin-plate splines: smooth bendings ``[B, K², 2]`` given by where the points of a K x K control grid come from.

``theta[b, k]`` is the normalized input point (x, y) that output control point k is sampled from; the control grid is
regular over the image, edges included, row by row. In between runs the surface of least bending energy (Bookstein 1989;
section 3 of arXiv 1506.02025): ``T(u) = u + Σ_k b_k(u) (theta_k - c_k)``, with ``b_k`` the spline that is 1 at
control point c_k and 0 at the others. It reproduces affine transforms exactly. A spline has no inverse of its kind.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor
from stn_core.geometry import Size

SIDE = 4
"""Control points along a side, where nothing else is said: 16 in all, as in the paper."""
MIN_SIDE, MAX_SIDE = 3, 10
MAX_KEPT_PX = 256 * 256
"""The basis of a grid is kept for the next call up to this size: 8 MiB where there are 16 control points."""
MAX_EXACT_PX = 1 << 20
"""Of larger outputs, arrays of places are interpolated."""
_LATTICE_PX = 4


def control_grid(side: int = SIDE) -> NDArray[np.float64]:
    """The control points ``[side², 2]`` (x, y); also the identity transform."""
    line = np.linspace(-1.0, 1.0, side)
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=-1)


def side_of(points: int) -> int:
    """Control points along a side of ``points`` in all; BadTensor if that is no square between 9 and 100."""
    side = isqrt(points)
    if side * side != points or not MIN_SIDE <= side <= MAX_SIDE:
        raise BadTensor(f"theta: expected a square number of control points from 9 to 100, got {points}")
    return side


def basis(x: Any, y: Any, side: int = SIDE) -> Any:
    """``b_k`` at the points ``x, y`` (any shape S, arrays or tensors): ``S + [side²]``."""
    control, solution = control_grid(side), _solution(side)
    if isinstance(x, np.ndarray):
        radial = _radial((x[..., None] - control[:, 0]) ** 2 + (y[..., None] - control[:, 1]) ** 2)
        features: Any = np.concatenate([radial, np.stack([np.ones_like(x), x, y], axis=-1)], axis=-1)
        return features @ solution
    import tensorflow as tf

    at_x, at_y = (tf.constant(control[:, axis], x.dtype) for axis in (0, 1))
    distance = (x[..., None] - at_x) ** 2 + (y[..., None] - at_y) ** 2
    radial = distance * tf.math.log(tf.maximum(distance, 1e-12))
    features = tf.concat([radial, tf.stack([tf.ones_like(x), x, y], axis=-1)], axis=-1)
    return tf.tensordot(features, tf.constant(solution, x.dtype), 1)


def apply(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """``theta [B, K², 2]`` applied to points given as ``x`` and ``y`` (``[B, P]`` or ``[1, P]``), arrays or tensors."""
    side = side_of(theta.shape[1])
    moved = theta - _constant(control_grid(side), theta)
    bent = basis(x, y, side) @ moved
    return x + bent[..., 0], y + bent[..., 1]


def jacobian(theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """The derivatives of ``apply``, ``[B, P, 2, 2]``: ``[..., i, j]`` is that of input axis i along output axis j.

    ``theta [B, K², 2]``; ``x`` and ``y`` ``[B, P]`` or ``[1, P]``. Arrays alone.
    """
    side = side_of(theta.shape[1])
    control, solution = control_grid(side), _solution(side)
    across, down = x[..., None] - control[:, 0], y[..., None] - control[:, 1]
    slope = 2 * np.log(np.maximum(across**2 + down**2, 1e-12)) + 2  # of r² log r², divided by the way in x or in y
    by_x = (slope * across) @ solution[:-3] + solution[-2]
    by_y = (slope * down) @ solution[:-3] + solution[-1]
    moved = theta - control
    return np.asarray(np.eye(2) + np.stack([by_x @ moved, by_y @ moved], axis=-1))


def pixel_grid(theta: Any, column: Any, row: Any, input_size: Any, output_size: Any) -> tuple[Any, Any]:
    """The input pixel indices, ``[B, H_out, W_out]`` each, that the output pixels ``column``, ``row`` come from.

    The identity is exact at equal sizes. Tensors; sizes that are numbers, not tensors, save work.
    """
    import tensorflow as tf

    (in_height, in_width), (out_height, out_width) = input_size, output_size
    side = side_of(theta.shape[1])
    moved = theta - tf.constant(control_grid(side), theta.dtype)
    if isinstance(out_height, int) and isinstance(out_width, int) and out_height * out_width <= MAX_KEPT_PX:
        at_pixels = tf.constant(_grid_basis(out_height, out_width, side), theta.dtype)
    else:
        x, y = tf.meshgrid((2 * column[0, 0] + 1) / out_width - 1, (2 * row[0, :, 0] + 1) / out_height - 1)
        at_pixels = tf.reshape(basis(x, y, side), [-1, side * side])
    bent = tf.reshape(at_pixels @ moved, [-1, tf.shape(row)[1], tf.shape(column)[2], 2])
    x = (column + 0.5) * (in_width / out_width) - 0.5
    y = (row + 0.5) * (in_height / out_height) - 0.5
    return x + bent[..., 0] * (in_width / 2), y + bent[..., 1] * (in_height / 2)


def pixel_places(
    theta: NDArray[Any], input_size: Size, output_size: Size, rows: range | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """``pixel_grid`` of all output pixels, or of some ``rows``, for arrays: ``[B, rows, W_out]`` float32 each.

    Of an output above ``MAX_EXACT_PX``, the bending is computed at every fourth pixel of every fourth row, and
    interpolated in between: some hundredths of a pixel off where it bends most, less the larger the output.
    """
    (in_height, in_width), (out_height, out_width) = input_size, output_size
    rows = rows or range(out_height)
    side, halves = side_of(theta.shape[1]), np.array([in_width / 2, in_height / 2])
    moved_px = (theta - control_grid(side)) * halves
    if out_height * out_width <= MAX_EXACT_PX:
        bent = _grid_basis(out_height, out_width, side)[rows.start * out_width : rows.stop * out_width] @ moved_px
        bent = bent.reshape(-1, len(rows), out_width, 2)
        bent_x, bent_y = bent[..., 0], bent[..., 1]
    else:
        bent_x, bent_y = _bent_between(moved_px, output_size, rows)
    x = (np.arange(out_width) + 0.5) * (in_width / out_width) - 0.5
    y = ((np.array(rows) + 0.5) * (in_height / out_height) - 0.5)[:, None]
    x, y = (line.astype(bent_x.dtype) for line in (x, y))
    return (x + bent_x).astype(np.float32, copy=False), (y + bent_y).astype(np.float32, copy=False)


def _bent_between(moved_px: NDArray[Any], size: Size, rows: range) -> tuple[NDArray[Any], NDArray[Any]]:
    """How far the pixels of ``rows`` are moved right and down, ``[B, rows, W]`` each, interpolated from a lattice."""
    height, width = size
    above = np.arange(rows.start // _LATTICE_PX, (rows.stop - 1) // _LATTICE_PX + 2)
    left = np.arange((width - 1) // _LATTICE_PX + 2)
    x, y = np.meshgrid((2 * _LATTICE_PX * left + 1) / width - 1, (2 * _LATTICE_PX * above + 1) / height - 1)
    lattice = (basis(x, y, side_of(moved_px.shape[1])) @ moved_px[:, None]).astype(np.float32)
    at, past = np.divmod(np.array(rows), _LATTICE_PX)
    down, right = ((line / _LATTICE_PX).astype(np.float32) for line in (past[:, None], np.arange(_LATTICE_PX)))

    def between(values: NDArray[Any]) -> NDArray[Any]:
        upper, lower = values[:, at - above[0]], values[:, at - above[0] + 1]
        lines = upper + (lower - upper) * down
        found = lines[..., :-1, None] + (lines[..., 1:] - lines[..., :-1])[..., None] * right
        return np.asarray(found.reshape(*lines.shape[:2], -1)[..., :width])

    return between(lattice[..., 0]), between(lattice[..., 1])


def _grid_basis(height: int, width: int, side: int) -> NDArray[np.float64]:
    """``b_k`` at all pixels, ``[H W, side²]``; kept for the next call where it is small."""
    make = _kept_grid_basis if height * width <= MAX_KEPT_PX else _kept_grid_basis.__wrapped__
    return make(height, width, side)


@lru_cache(maxsize=8)
def _kept_grid_basis(height: int, width: int, side: int) -> NDArray[np.float64]:
    y, x = np.meshgrid((2 * np.arange(height) + 1) / height - 1, (2 * np.arange(width) + 1) / width - 1, indexing="ij")
    return np.asarray(basis(x.reshape(-1), y.reshape(-1), side))


@lru_cache(maxsize=8)
def _solution(side: int) -> NDArray[np.float64]:
    """Features (radial, 1, x, y) to ``b_k``: the left part of the inverse of the spline's linear system."""
    control = control_grid(side)
    count = len(control)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(((control[:, None] - control[None]) ** 2).sum(axis=-1))
    system[:count, count], system[:count, count + 1 :] = 1.0, control
    system[count, :count], system[count + 1 :, :count] = 1.0, control.T
    return np.asarray(np.linalg.inv(system)[:, :count])


def _radial(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """``r² log r²``, 0 at 0."""
    return np.asarray(squared * np.log(np.maximum(squared, 1e-12)))


def _constant(values: NDArray[Any], like: Any) -> Any:
    if isinstance(like, np.ndarray):
        return values
    import tensorflow as tf

    return tf.constant(values, like.dtype)
