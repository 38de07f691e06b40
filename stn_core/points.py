"""Points of images mapped through theta, both ways: from a rectified image to its source, and back.

Pixel coordinates
    Points are (x, y) in pixels, continuous, counted from the image's upper left corner, x to the right and y down, as
    COCO and imgaug have them: pixel i spans i to i + 1, its centre is at i + 0.5, and an image of width W spans 0 to W.
    In the normalized coordinates of ``stn_core.geometry``, in which theta is given, that is ``x = 2 x_px / W - 1``, and
    ``x_px = (x + 1) W / 2``; y likewise, by the height. (Pixel indices, which the sampler counts in, are a half less.)

*Rectified* is the image that a warp by theta makes, *source* the one that it is made of, whether the warp straightens
or distorts: ``rectified(u) = source(theta u)``. Theta is of any family of ``stn_core.transforms``. Sizes are (height,
width), one for all images or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core import tps_inverse, transforms
from stn_core.errors import BadTensor, brief
from stn_core.geometry import Size
from stn_core.homography import MIN_DENOMINATOR

EDGE_PX = 1e-6
"""A point this far off the canvas is on its edge: rounding put it there."""
MAX_AT_ONCE = 1 << 14
"""Of more points, so many are mapped at a time, to save memory."""

Sizes = Size | ArrayLike
Mapping = Callable[[NDArray[Any], NDArray[np.intp]], NDArray[np.float64]]
"""Normalized points ``[S, 2]``, and the number of the theta of each: where they go. NaN where they go nowhere."""


@dataclass(frozen=True, eq=False)
class MappedPoints:
    """``points_px [..., 2]`` on the image they were mapped to, and which of them are ``inside`` its canvas, ``[...]``.

    The canvas includes its edges. NaN, and not inside, is a point that has no place there: it lies beyond the horizon
    of a homography, or no place was found where a spline shows it; or it was not finite before.
    """

    points_px: NDArray[np.float64]
    inside: NDArray[np.bool_]


def to_source(points_px: ArrayLike, theta: ArrayLike, rectified_size: Sizes, source_size: Sizes) -> MappedPoints:
    """Points of rectified images as points of their sources: theta applied.

    ``points_px [N, ..., 2]`` with theta of N images, or ``[..., 2]`` with that of one (``[2, 3]``, ``[3, 3]`` or
    ``[K², 2]``); the result has the shape of the points. BadTensor for other shapes.
    """
    return _map_array(_read_from, points_px, theta, rectified_size, source_size)


def to_rectified(points_px: ArrayLike, theta: ArrayLike, rectified_size: Sizes, source_size: Sizes) -> MappedPoints:
    """Points of source images as points of the rectified ones: theta undone, of a spline numerically.

    Arguments as for ``to_source``, the points on the sources. BadTensor if an affine theta or a homography is singular.
    """
    return _map_array(_shown_at, points_px, theta, source_size, rectified_size)


def to_source_each(
    points_px: Sequence[ArrayLike], theta: ArrayLike, rectified_size: Sizes, source_size: Sizes
) -> list[MappedPoints]:
    """``to_source`` for N images with different numbers of points: a list of ``[..., 2]``, and a list back."""
    return _map_lists(_read_from, points_px, theta, rectified_size, source_size)


def to_rectified_each(
    points_px: Sequence[ArrayLike], theta: ArrayLike, rectified_size: Sizes, source_size: Sizes
) -> list[MappedPoints]:
    """``to_rectified`` for N images with different numbers of points: a list of ``[..., 2]``, and a list back."""
    return _map_lists(_shown_at, points_px, theta, source_size, rectified_size)


def read_from(theta: NDArray[Any], points: NDArray[Any]) -> NDArray[np.float64]:
    """Normalized output points ``[N, P, 2]`` as input points; NaN beyond the horizon of a homography."""
    if theta.shape[1:] != (3, 3):
        return transforms.map_points(theta, points)
    places, w = _projected(theta, points)
    return np.where((w > MIN_DENOMINATOR)[..., None], places, np.nan)


def _read_from(theta: NDArray[Any]) -> Mapping:
    return lambda points, of: read_from(theta[of], points[:, None])[:, 0]


def _shown_at(theta: NDArray[Any]) -> Mapping:
    """The mapping from normalized input points to the output points that are read from there."""
    if theta.shape[2] == 2:
        return lambda points, of: tps_inverse.output_points(theta, points, of)
    inverse = transforms.invert(theta)
    if theta.shape[1] == 2:
        return lambda points, of: transforms.map_points(inverse[of], points[:, None])[:, 0]

    def seen(points: NDArray[Any], of: NDArray[np.intp]) -> NDArray[np.float64]:
        places = _projected(inverse[of], points[:, None])[0]
        w = _projected(theta[of], places)[1]  # as near to the horizon as the warp itself goes
        return np.where((w > MIN_DENOMINATOR)[..., None], places, np.nan)[:, 0]

    return seen


def _projected(theta: NDArray[Any], points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Homographies ``[N, 3, 3]`` applied to ``[N, P, 2]``; and the third number, positive before the horizon."""
    whole = points @ np.swapaxes(theta[..., :2], -1, -2) + theta[..., None, :, 2]
    return whole[..., :2] / whole[..., 2:], whole[..., 2]


def _map_array(
    mapping: Callable[[NDArray[Any]], Mapping], points_px: ArrayLike, theta: ArrayLike, from_size: Sizes, to_size: Sizes
) -> MappedPoints:
    thetas, points = numbers("theta", theta), _points("points_px", points_px)
    shape = points.shape
    if thetas.ndim == 2:
        thetas, points = thetas[None], points[None]
    _check_theta(thetas)
    if points.ndim < 2 or points.shape[-1] != 2 or len(points) != len(thetas):
        raise BadTensor(
            f"points_px: expected [{len(thetas)}, ..., 2], the (x, y) of points of each image, or [..., 2] with one "
            f"theta, got {list(shape)}; lists of different lengths go to to_source_each and to_rectified_each"
        )
    of = np.repeat(np.arange(len(thetas)), prod(points.shape[1:-1]))
    mapped = _map(mapping, points.reshape(-1, 2), of, thetas, from_size, to_size)
    return MappedPoints(mapped.points_px.reshape(shape), mapped.inside.reshape(shape[:-1]))


def _map_lists(
    mapping: Callable[[NDArray[Any]], Mapping],
    points_px: Sequence[ArrayLike],
    theta: ArrayLike,
    from_size: Sizes,
    to_size: Sizes,
) -> list[MappedPoints]:
    thetas = numbers("theta", theta)
    _check_theta(thetas)
    if len(points_px) != len(thetas):
        raise BadTensor(f"points_px: expected {len(thetas)} lists of points, one for each theta, got {len(points_px)}")
    lists = [_points(f"points_px[{number}]", points) for number, points in enumerate(points_px)]
    wrong = next((number for number, points in enumerate(lists) if points.shape[-1] != 2), None)
    if wrong is not None:
        raise BadTensor(f"points_px[{wrong}]: expected [..., 2], the (x, y) of points, got {list(lists[wrong].shape)}")
    counts = [points.size // 2 for points in lists]
    flat = np.concatenate([points.reshape(-1, 2) for points in lists]) if lists else np.empty((0, 2))
    mapped = _map(mapping, flat, np.repeat(np.arange(len(thetas)), counts), thetas, from_size, to_size)
    ends = np.cumsum(counts)[:-1]
    parts = zip(lists, np.split(mapped.points_px, ends), np.split(mapped.inside, ends), strict=False)
    return [MappedPoints(px.reshape(like.shape), inside.reshape(like.shape[:-1])) for like, px, inside in parts]


def _map(
    mapping: Callable[[NDArray[Any]], Mapping],
    points_px: NDArray[Any],
    of: NDArray[np.intp],
    theta: NDArray[Any],
    from_size: Sizes,
    to_size: Sizes,
) -> MappedPoints:
    """``points_px [S, 2]``, each by its own of the thetas, ``of``."""
    from_extent, to_extent = (_extents(size, len(theta)) for size in (from_size, to_size))
    mapped = np.empty(points_px.shape)
    with np.errstate(all="ignore"):  # what is not finite is NaN in the result
        map_normalized = mapping(theta)
        for start in range(0, len(of), MAX_AT_ONCE):
            part = slice(start, start + MAX_AT_ONCE)
            normalized = map_normalized(2 * points_px[part] / from_extent[of[part]] - 1, of[part])
            mapped[part] = (normalized + 1) * to_extent[of[part]] / 2
        mapped[~np.isfinite(mapped).all(axis=1)] = np.nan
        inside = np.asarray(((mapped >= -EDGE_PX) & (mapped <= to_extent[of] + EDGE_PX)).all(axis=1))
    return MappedPoints(mapped, inside)


def _extents(size: Sizes, count: int) -> NDArray[np.float64]:
    """Widths and heights ``[count, 2]``."""
    sizes = numbers("size", size)
    if sizes.shape not in ((2,), (count, 2)) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise BadTensor(
            f"size: expected (height, width) in pixels, both above 0, or one for each of the {count} images, got "
            f"{brief(size)}"
        )
    return np.broadcast_to(sizes[..., ::-1], (count, 2))


def _check_theta(theta: NDArray[np.float64]) -> None:
    transforms.check_shape(theta.shape)
    if not np.isfinite(theta).all():
        raise BadTensor("theta: expected finite numbers, got NaN or infinity")


def _points(name: str, values: ArrayLike) -> NDArray[np.float64]:
    points = numbers(name, values)
    return points.reshape(0, 2) if points.shape == (0,) else points


def numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """``values`` as a new float64 array; BadTensor, with ``name``, if they are not an array of numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise BadTensor(f"{name}: expected an array of numbers, got lists of unequal lengths") from None
    if array.dtype.kind not in "fiu":
        raise BadTensor(f"{name}: expected numbers, got {array.dtype}")
    return array.astype(np.float64)
