"""Points of a result's images mapped through their thetas, in the client: rows with errors have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.errors import BadTensor, Unsupported
from stn_core.points import MappedPoints, numbers, to_rectified, to_rectified_each, to_source, to_source_each

Mapping = Callable[..., Any]
BOTH_WAYS: dict[str, tuple[Mapping, Mapping]] = {
    "to_source": (to_source, to_source_each),
    "to_rectified": (to_rectified, to_rectified_each),
}
"""For an array of points, and for a list."""


class Geometry(NamedTuple):
    """What was done to N images: ``theta [N, ...]``, NaN where there is none; sizes (height, width) ``[N, 2]``, px."""

    theta: NDArray[Any]
    rectified_size: NDArray[np.int64]
    source_size: NDArray[np.int64]

    def known(self) -> NDArray[np.intp]:
        """The rows with a theta; Unsupported if a size of one of them is not known."""
        rows = np.flatnonzero(np.isfinite(self.theta).reshape(len(self.theta), -1).all(axis=1))
        untold = rows[(self.source_size[rows] < 1).any(axis=1)]
        if untold.size:
            raise Unsupported(
                f"the size of image {untold[0]} as it was sent is not known: the beginning of its file does not tell "
                "it; stn_core.points maps with a size that you give"
            )
        return rows

    def of(self, rows: NDArray[np.intp]) -> Geometry:
        return Geometry(*(column[rows] for column in self))


def mapped_array(direction: str, points_px: ArrayLike, geometry: Geometry) -> MappedPoints:
    """``points_px [N, ..., 2]`` mapped; NaN and not inside for an image without theta. BadTensor for other shapes."""
    points = numbers("points_px", points_px)
    if points.ndim < 2 or len(points) != len(geometry.theta) or points.shape[-1] != 2:
        raise BadTensor(
            f"points_px: expected [{len(geometry.theta)}, ..., 2], the (x, y) of points of each image, or a list of as "
            f"many arrays, got {list(points.shape)}"
        )
    known = geometry.known()
    found = _nowhere(points)
    if known.size:
        mapped = BOTH_WAYS[direction][0](points[known], *geometry.of(known))
        found.points_px[known], found.inside[known] = mapped.points_px, mapped.inside
    return found


def mapped_list(direction: str, points_px: Sequence[ArrayLike], geometry: Geometry) -> list[MappedPoints]:
    """The same of a list with an array ``[..., 2]`` for each image, of any lengths."""
    if len(points_px) != len(geometry.theta):
        raise BadTensor(f"points_px: expected {len(geometry.theta)} arrays, one for each image, got {len(points_px)}")
    known = geometry.known()
    found = [_nowhere(numbers(f"points_px[{row}]", points)) for row, points in enumerate(points_px)]
    mapped = BOTH_WAYS[direction][1]([points_px[row] for row in known], *geometry.of(known)) if known.size else []
    for row, one in zip(known, mapped, strict=True):
        found[row] = one
    return found


def _nowhere(points: NDArray[Any]) -> MappedPoints:
    return MappedPoints(np.full(points.shape, np.nan), np.zeros(points.shape[:-1], np.bool_))
