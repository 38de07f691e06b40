"""The families of transforms a theta may belong to, told apart by its shape, and what can be done with any of them.

==========  ==========  =============================================================================================
family      theta       numbers the localization head regresses
==========  ==========  =============================================================================================
affine      [B, 2, 3]   6: theta itself
similarity  [B, 2, 3]   4: (s cos a, s sin a, t_x, t_y); turn, scale and shift of the pixels
attention   [B, 2, 3]   3: (s, t_x, t_y); scale and shift (equation 2 of arXiv 1506.02025)
homography  [B, 3, 3]   8: all but the last, which is 1
tps         [B, 16, 2]  32: the source of each of 4 x 4 control points (thin-plate spline)
==========  ==========  =============================================================================================

In all of them theta maps normalized output points to normalized input points (``stn_core.geometry``). All but the
spline have an inverse of their family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core import geometry, homography, tps
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import CORNERS, IDENTITY, Size

FamilyName = Literal["affine", "similarity", "attention", "homography", "tps"]


@dataclass(frozen=True)
class Family:
    """A family: the shape of one theta, and the linear map to it from the numbers a localization head regresses.

    ``theta.reshape(-1) = start + directions.T @ (numbers)``, at ``start`` (the identity) all numbers are 0.
    """

    theta_shape: tuple[int, int]
    directions: NDArray[np.float64]
    start: NDArray[np.float64]

    def after(self, first: NDArray[np.float64]) -> Family:
        """The family behind the affine theta ``first [2, 3]``, such as a cut from the middle of a canvas."""
        linear = first[:, :2]
        moves: NDArray[np.float64] = self.directions.reshape(-1, *self.theta_shape)
        if self.theta_shape == (3, 3):
            moves = homography.from_affine(first) @ moves
        else:
            moves = linear @ moves if self.theta_shape == (2, 3) else moves @ linear.T
        start = as_shape(first[None], self.theta_shape)
        return Family(self.theta_shape, moves.reshape(len(moves), -1), start.reshape(-1))


def family(name: str, aspect: float = 1.0) -> Family:
    """The family of that name for images of ``aspect`` = height / width; ValueError if there is none."""
    shape = THETA_SHAPES.get(name)
    if shape is None:
        raise ValueError(f"transform: expected one of {', '.join(THETA_SHAPES)}, got {name!r}")
    start = identity_like(shape)
    size = start.size
    directions = np.eye(size)
    if name == "similarity":  # a turn of pixels, in half widths and half heights
        directions = np.array(
            [[1, 0, 0, 0, 1, 0], [0, -aspect, 0, 1 / aspect, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
        )
    elif name == "attention":
        directions = np.array([[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
    elif name == "homography":
        directions = directions[:-1]
    return Family(shape, directions.astype(np.float64), start.reshape(-1))


THETA_SHAPES: dict[str, tuple[int, int]] = {
    "affine": (2, 3),
    "similarity": (2, 3),
    "attention": (2, 3),
    "homography": (3, 3),
    "tps": (tps.SIDE**2, 2),
}
FAMILIES = tuple(THETA_SHAPES)


def theta_shape(numbers: int) -> tuple[int, int]:
    """The shape of a theta of that many numbers: 6 affine, 9 homography, 2 K² spline; BadTensor if it is none."""
    if numbers == 6:
        return (2, 3)
    if numbers == 9:
        return (3, 3)
    if numbers % 2:
        raise BadTensor(f"theta: expected 6 numbers, 9, or two for each control point of a spline, got {numbers}")
    return (tps.side_of(numbers // 2) ** 2, 2)


def check_shape(shape: tuple[int, ...]) -> None:
    """BadTensor if thetas of this shape, ``[B, ...]``, belong to no family."""
    if len(shape) == 3 and (shape[1:] in ((2, 3), (3, 3)) or _is_spline(shape)):
        return
    raise BadTensor(
        "theta: expected the shape [B, 2, 3] (affine), [B, 3, 3] (homography) or [B, K*K, 2] (thin-plate spline, "
        f"K from {tps.MIN_SIDE} to {tps.MAX_SIDE}), got {list(shape)}"
    )


def identity_like(shape: tuple[int, ...], count: int | None = None) -> NDArray[np.float64]:
    """The identity as a theta of that shape, or ``count`` of them."""
    one = IDENTITY if shape == (2, 3) else np.eye(3) if shape == (3, 3) else tps.control_grid(tps.side_of(shape[0]))
    return one if count is None else np.tile(one, (count, 1, 1))


def as_shape(theta: ArrayLike, shape: tuple[int, int]) -> NDArray[Any]:
    """The same transforms as thetas of another family's shape; Unsupported if that family cannot hold them."""
    theta = np.asarray(theta)
    if theta.shape[1:] == shape:
        return theta
    if theta.shape[1:] == (2, 3) and shape == (3, 3):
        return homography.from_affine(theta)
    if theta.shape[1:] == (2, 3):
        return geometry.map_points(theta, identity_like(shape))
    raise Unsupported(f"theta: {list(theta.shape)} cannot be given as {[len(theta), *shape]}")


def apply(theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Output points given as ``x`` and ``y`` (``[B, K]`` or ``[1, K]``) as input points; arrays or tensors."""
    if theta.shape[1] == 2:
        return geometry.apply_affine(theta, x, y)
    return homography.apply(theta, x, y) if theta.shape[2] == 3 else tps.apply(theta, x, y)


def compose(first: ArrayLike, then: ArrayLike) -> NDArray[Any]:
    """The theta whose one warp equals warping by ``first`` and warping the result by ``then``.

    Affine and homography compose in any order; a spline only as ``then`` after an affine ``first``, which moves its
    control points. Unsupported otherwise: the result would belong to no family.
    """
    first, then = np.asarray(first), np.asarray(then)
    if first.shape[1:] == then.shape[1:] == (2, 3):
        return geometry.compose(first, then)
    if _is_spline(then.shape) and first.shape[1:] == (2, 3):
        return geometry.map_points(first, then)
    if _is_spline(first.shape) or _is_spline(then.shape):
        raise Unsupported("theta: a thin-plate spline composes only with an affine transform before it")
    return homography.compose(as_shape(first, (3, 3)), as_shape(then, (3, 3)))


def invert(theta: ArrayLike) -> NDArray[Any]:
    """The theta that undoes ``theta``; BadTensor if one is singular, Unsupported for a spline, which has none."""
    theta = np.asarray(theta)
    if theta.shape[1:] == (2, 3):
        return geometry.invert(theta)
    if _is_spline(theta.shape):
        raise Unsupported("theta: a thin-plate spline has no inverse of its kind")
    return homography.invert(theta)


def map_points(theta: ArrayLike, points: ArrayLike) -> NDArray[Any]:
    """Normalized output points ``[B, K, 2]`` (or ``[K, 2]``) mapped to normalized input points ``[B, K, 2]``."""
    points = np.asarray(points, np.float64)
    points = points if points.ndim == 3 else points[None]
    return np.stack(apply(np.asarray(theta), points[..., 0], points[..., 1]), axis=-1)


def measuring_points(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Where straightness is measured: the image's corners; for a spline the control points, which bend between."""
    return CORNERS if shape in ((2, 3), (3, 3)) else tps.control_grid(tps.side_of(shape[0]))


def corner_errors_px(theta_true: ArrayLike, theta_predicted: ArrayLike, size: Size) -> NDArray[Any]:
    """How far from straight each image is left, ``[B]``: the mean distance in px of the corners from their place.

    ``theta_true`` made the distorted image (``distorted(u) = original(theta_true u)``), ``theta_predicted`` rectified
    it, and one after the other would be the identity if the prediction were exact. Any two families go together.
    ``size`` is that of the original; where a spline made the distortion its 16 control points serve as corners.
    """
    theta_true = np.asarray(theta_true)
    points = measuring_points(theta_true.shape[1:])
    left = map_points(theta_true, map_points(theta_predicted, points)) - points
    height, width = size
    return np.asarray(np.hypot(left[..., 0] * width / 2, left[..., 1] * height / 2).mean(axis=-1))


def _is_spline(shape: tuple[int, ...]) -> bool:
    side = round(shape[1] ** 0.5) if len(shape) == 3 else 0
    return len(shape) == 3 and shape[2] == 2 and side * side == shape[1] and tps.MIN_SIDE <= side <= tps.MAX_SIDE
