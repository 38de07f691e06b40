"""The measures of rectification, image by image: thetas and pixels in, figures out. NumPy only, no network is run.

Throughout, ``theta_true`` made a distorted image from its original, ``distorted(u) = original(theta_true u)``, and
``theta`` is how that image is shown: rectified by a network's theta, or as it comes. What is left of the distortion is
the residual ``R = theta_true ∘ theta``, the identity if the image is straight. Points are normalized, (x, y);
lengths in px are those of the original, whose ``size`` is (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core import geometry
from stn_core.coverage import Coverage
from stn_core.errors import Unsupported
from stn_core.geometry import IDENTITY, Size, affine_fits
from stn_core.tps import control_grid
from stn_core.transforms import invert, map_points, measuring_points

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_AREA_FACTOR = 4.0
MIN_CONTENT_SHARE = 0.5
POSE_STEPS = 50
MIDDLE: NDArray[np.float64] = control_grid() / 4


@dataclass(frozen=True)
class Residuals:
    """What is left of each distortion, read from the affine transform ``x -> M x + t`` nearest to R, in px.

    Nearest, by least squares, over 4 x 4 points of the middle quarter of each side: a homography may send a corner to
    the horizon, which would drown all else. Where R is affine itself the points make no difference.

    ``angle_rad [N]`` is atan2(M10 - M01, M00 + M11), ``log_scale [N]`` is ln|det M| / 2, ``shift_px [N, 2]`` is t, and
    ``mirrored [N]`` says where det M <= 0.
    """

    angle_rad: Floats
    log_scale: Floats
    shift_px: Floats
    mirrored: Mask


def left_px(theta_true: ArrayLike, theta: ArrayLike, pose: ArrayLike, size: Size) -> Floats:
    """How far each measuring point is from its place in px, ``[N, K, 2]``: ``R_i C c_k - c_k``.

    ``pose [2, 3]`` is C. The points c_k are the corners, or a spline's control points (``measuring_points``).
    """
    points = _points(theta_true)
    posed = geometry.map_points(pose, points)
    return np.asarray((_residual(theta_true, theta, posed) - points) * _half(size))


def pose_free_errors_px(theta_true: ArrayLike, theta: ArrayLike, pose: ArrayLike, size: Size) -> Floats:
    """The corner error of each image ``[N]`` without the constant ``pose``: the mean over k of |R_i C c_k - c_k|.

    With the identity as pose it is ``transforms.corner_errors_px``.
    """
    return np.asarray(np.linalg.norm(left_px(theta_true, theta, pose, size), axis=-1).mean(axis=-1))


def fit_pose(theta_true: ArrayLike, theta: ArrayLike, size: Size) -> Floats:
    """The affine C ``[2, 3]`` that lowers the mean of ``min(|R_i C c_k - c_k|, diagonal)`` over all images and points.

    A network may settle on a pose of its own, turned or moved alike for all images; C is its inverse. Distances are
    summed, not squares: where a tenth of the images end upside down, least squares would shrink C, and with it all
    the others. Found by Gauss-Newton steps on reweighted squares from the better of two starts (the identity, and the
    pose of the median image), each step taken only as far as it lowers the mean; it never ends above the identity's.
    """
    theta_true, theta = np.asarray(theta_true, np.float64), np.asarray(theta, np.float64)
    if not len(theta_true):
        return IDENTITY.copy()
    most_px = float(np.hypot(*size))

    def cost_px(pose: Floats) -> float:
        distance = np.linalg.norm(left_px(theta_true, theta, pose, size), axis=-1)
        return float(np.minimum(np.nan_to_num(distance, nan=most_px), most_px).mean())

    pose = min(IDENTITY, _median_pose(theta_true, theta), key=cost_px)
    cost = cost_px(pose)
    for _ in range(POSE_STEPS):
        step = _pose_step(theta_true, theta, pose, size, most_px)
        candidates = ((cost_px(pose + share * step), share) for share in (1.0, 0.5, 0.25, 0.125))
        lower, share = next((one for one in candidates if one[0] < cost), (cost, 0.0))
        pose = pose + share * step
        if lower > cost * (1 - 1e-5):
            break
        cost = lower
    return np.asarray(pose)


def residuals(theta_true: ArrayLike, theta: ArrayLike, size: Size) -> Residuals:
    """Turn, scale and shift of what is left of each distortion."""
    half = _half(size)
    nearest = affine_fits(MIDDLE * half, _residual(theta_true, theta, MIDDLE) * half)
    m = nearest[:, :, :2]
    determinant = np.linalg.det(m)
    with np.errstate(divide="ignore"):
        log_scale = 0.5 * np.log(np.abs(determinant))
    angle = np.arctan2(m[:, 1, 0] - m[:, 0, 1], m[:, 0, 0] + m[:, 1, 1])
    return Residuals(angle, log_scale, nearest[:, :, 2], determinant <= 0)


def circular_sd_deg(angles_rad: Floats) -> float:
    """The circular standard deviation ``sqrt(-2 ln |mean of exp(i a)|)`` in degrees; NaN of no angles."""
    if not angles_rad.size:
        return float("nan")
    length = min(float(np.abs(np.exp(1j * angles_rad).mean())), 1.0)  # rounding may lift it above
    return float(np.rad2deg(np.sqrt(2 * np.log(1 / length)))) if length > 0 else float("inf")


def sd(values: Floats) -> float:
    """The root mean square distance of vectors ``[N, D]`` from their mean; NaN of none, or where one is infinite."""
    if not len(values) or not np.isfinite(values).all():
        return float("nan")
    return float(np.sqrt(values.var(axis=0).sum()))


def collapsed(found: Coverage, true: Coverage) -> Mask:
    """Where ``[N]`` the image was zoomed by more than a factor 4 in area from the truth, or lost half of its content.

    ``true`` is the coverage of the theta that straightens exactly. What is not a number counts as collapsed.
    """
    ratio = found.area_scale / true.area_scale
    sized = (ratio <= MAX_AREA_FACTOR) & (ratio >= 1 / MAX_AREA_FACTOR)
    return np.asarray(~(sized & (found.content_kept >= MIN_CONTENT_SHARE * true.content_kept)))


def rectifying(theta_true: ArrayLike) -> Floats:
    """The theta that straightens: the inverse, or the spline that undoes a spline at its control points."""
    theta_true = np.asarray(theta_true, np.float64)
    try:
        return np.asarray(invert(theta_true))
    except Unsupported:
        return _spline_inverse(theta_true)


def psnr_db(images: NDArray[Any], references: NDArray[Any], mask: Mask | None = None) -> Floats:
    """The peak signal-to-noise ratio ``10 log10(1 / MSE)`` of each of ``images [N, H, W, C]``, values in 0..1.

    Over the px of ``mask [N, H, W]`` where given: infinite where there is no difference, NaN where no px is left.
    """
    squared = ((images.astype(np.float64) - references) ** 2).mean(axis=-1)
    counted = np.ones(squared.shape) if mask is None else mask.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10 * np.log10((squared * counted).sum(axis=(1, 2)) / counted.sum(axis=(1, 2))))


def eroded(mask: Mask) -> Mask:
    """``mask [N, H, W]`` without the px that touch one outside it, diagonally too, or the image's edge."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    height, width = mask.shape[1:]
    shifted = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.asarray(np.logical_and.reduce(shifted))


def _points(theta_true: ArrayLike) -> Floats:
    """Where straightness is measured, ``[K, 2]``: the corners, or a spline's control points."""
    rows, columns = np.shape(theta_true)[1:]
    return measuring_points((rows, columns))


def _residual(theta_true: ArrayLike, theta: ArrayLike, points: ArrayLike) -> Floats:
    """``R`` of ``points``, ``[N, K, 2]``."""
    return map_points(theta_true, map_points(theta, points))


def _half(size: Size) -> Floats:
    """Half the width and half the height: px per normalized unit of x and y."""
    return np.array([size[1] / 2, size[0] / 2])


def _median_pose(theta_true: Floats, theta: Floats) -> Floats:
    """The pose that sends the measuring points, as the median image leaves them, back to their places."""
    points = _points(theta_true)
    median = np.nanmedian(_residual(theta_true, theta, points), axis=0)
    typical = affine_fits(points, median[None])[0]
    if not np.isfinite(typical).all() or abs(np.linalg.det(typical[:, :2])) < 1e-6:
        return IDENTITY.copy()
    return np.asarray(geometry.invert(typical))


def _pose_step(theta_true: Floats, theta: Floats, pose: Floats, size: Size, most_px: float) -> Floats:
    """The Gauss-Newton step ``[2, 3]`` from ``pose``, every point weighted by 1 / its distance; by 0 if it is lost."""
    points = _points(theta_true)
    homogeneous = np.column_stack([points, np.ones(len(points))])
    left = left_px(theta_true, theta, pose, size)
    slopes = _slopes(theta_true, theta, geometry.map_points(pose, points)) * _half(size)[:, None]
    distance = np.linalg.norm(left, axis=-1)
    weight = np.where(distance < most_px, 1 / np.maximum(distance, 1e-3), 0.0)
    weight[~np.isfinite(slopes).all(axis=(-1, -2))] = 0.0
    kept = weight > 0
    design = np.einsum("poa,pb->poab", slopes[kept], np.broadcast_to(homogeneous, (*distance.shape, 3))[kept])
    design = design.reshape(-1, 2, 6)
    normal = np.einsum("p,poi,poj->ij", weight[kept], design, design)
    gradient = np.einsum("p,poi,po->i", weight[kept], design, left[kept])
    return np.asarray(np.linalg.lstsq(normal, -gradient, rcond=None)[0].reshape(2, 3))


def _slopes(theta_true: Floats, theta: Floats, points: Floats, reach: float = 1e-4) -> Floats:
    """The derivatives of R at ``points``, ``[N, K, 2 (of), 2 (by)]``, by central differences."""
    by_axis = [
        (_residual(theta_true, theta, points + step) - _residual(theta_true, theta, points - step)) / (2 * reach)
        for step in reach * np.eye(2)
    ]
    return np.stack(by_axis, axis=-1)


def _spline_inverse(theta: Floats, steps: int = 20, reach: float = 1e-4) -> Floats:
    """``x_k`` with ``T(x_k) = c_k`` for every control point c_k, ``[N, K², 2]``, by Newton's method."""
    control = _points(theta)
    found = np.broadcast_to(control, theta.shape).copy()
    for _ in range(steps):
        off = map_points(theta, found) - control
        columns = [(map_points(theta, found + step) - map_points(theta, found - step)) / (2 * reach)
                   for step in reach * np.eye(2)]  # fmt: skip
        slopes = np.stack(columns, axis=-1)
        # A fold has no slope to follow; a bounded step keeps the point near until there is one again.
        step = (np.linalg.pinv(slopes, rcond=1e-3) @ off[..., None])[..., 0]
        found -= np.clip(step, -0.5, 0.5)
    return found
