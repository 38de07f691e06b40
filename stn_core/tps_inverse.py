"""Thin-plate splines backwards: the output points that are read from given input points, found numerically.

A spline has no closed inverse. Of a grid of output points whose sources are known, the nearest to the point asked for
is where Newton's method starts; a step that leads away is taken shorter. Where a spline folds the image over, a point
is read more than once, and one of the places is found: one on the canvas before others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import tps
from stn_core.transforms import map_points

GRID_SIDE = 9
STARTS = 16
"""So many of the grid's points are tried, the nearest first, until one leads to a place."""
STARTS_FOR_THE_CANVAS = 4
"""So many until one leads to a place on the canvas: most points that have none there have none."""
MAX_STEPS = 30
TOLERANCE = 1e-11
"""How far, in half sides of the image, a found place may read from the point asked for."""


def output_points(theta: NDArray[Any], points: NDArray[Any], of: NDArray[np.intp]) -> NDArray[np.float64]:
    """The normalized output points ``[S, 2]`` that are read from the normalized input ``points [S, 2]``.

    ``theta [N, K², 2]``, of which point s belongs to number ``of[s]``. NaN where none was found: there may be none, as
    behind a fold.
    """
    found = np.full(points.shape, np.nan)
    starts = _starts(theta, points, of)
    for attempt in range(STARTS):
        left = np.isnan(found[:, 0]) & np.isfinite(points).all(axis=1)
        if attempt < STARTS_FOR_THE_CANVAS:
            left |= (np.abs(found) > 1).any(axis=1)
        left = np.flatnonzero(left)
        if not left.size:
            break
        place = _newton(theta[of[left]], points[left], starts[left, attempt])
        better = np.isnan(found[left, 0]) | (np.abs(place) <= 1).all(axis=1)
        found[left[better]] = place[better]
    return found


def _starts(theta: NDArray[Any], points: NDArray[Any], of: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each point the output points ``[S, STARTS, 2]`` of a grid that are read from nearest to it."""
    grid = tps.control_grid(GRID_SIDE)
    away = map_points(theta, grid)[of] - points[:, None]
    nearest = np.argsort((away**2).sum(axis=2), axis=1, kind="stable")[:, :STARTS]
    return grid[nearest]


def _newton(theta: NDArray[Any], points: NDArray[Any], start: NDArray[Any]) -> NDArray[np.float64]:
    """Places ``[S, 2]`` that ``theta [S, K², 2]`` reads from ``points [S, 2]``; NaN where the steps led to none."""
    place, share = start.copy(), np.ones(len(points))
    off = _read(theta, place) - points
    for _ in range(MAX_STEPS):
        left = np.flatnonzero(~(_length(off) <= TOLERANCE))
        if not left.size:
            break
        tried = place[left] - share[left, None] * _step(theta[left], place[left], off[left])
        off_there = _read(theta[left], tried) - points[left]
        nearer = _length(off_there) < _length(off[left])
        place[left[nearer]], off[left[nearer]] = tried[nearer], off_there[nearer]
        share[left] = np.where(nearer, np.minimum(1.0, share[left] * 4), share[left] / 4)
    return np.where((_length(off) <= TOLERANCE)[:, None], place, np.nan)


def _step(theta: NDArray[Any], place: NDArray[Any], off: NDArray[Any]) -> NDArray[np.float64]:
    """Newton's step ``[S, 2]``, cut where the spline is so flat that it would lead far away."""
    (a, b), (c, d) = np.moveaxis(tps.jacobian(theta, place[:, :1], place[:, 1:])[:, 0], 0, -1)
    determinant = a * d - b * c
    determinant = np.where(np.abs(determinant) < MIN_DETERMINANT, MIN_DETERMINANT, determinant)
    step = np.stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]], axis=1) / determinant[:, None]
    longest = 0.5 + 4 * _length(off)
    return np.asarray(step * np.minimum(1.0, longest / np.maximum(_length(step), longest))[:, None])


MIN_DETERMINANT = 1e-6


def _read(theta: NDArray[Any], place: NDArray[Any]) -> NDArray[np.float64]:
    return map_points(theta, place[:, None])[:, 0]


def _length(vectors: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.hypot(vectors[:, 0], vectors[:, 1]))
