"""What a theta does to what is in an image, in the terms a limit is put in: how far it moves it, scale, turn and shear.

Of the middle of the image, where its content is: a homography may send a corner to the horizon. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.geometry import IDENTITY, MIN_DETERMINANT, Size, affine_fits
from stn_core.tps import control_grid
from stn_core.transforms import map_points

MIDDLE: NDArray[np.float64] = control_grid() / 2
"""4 x 4 points ``[16, 2]`` over the middle half of each side."""

_MIDDLE_HOMOGENEOUS = np.concatenate([MIDDLE.T, np.ones((1, len(MIDDLE)))])

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Motion:
    """What each theta does to an image, ``[N]`` each; of the nearest affine transform where it is none.

    ``moved_px``: the mean distance of 16 points of the middle from where they were, in px of the image that comes.
    ``scale``: how many px long what was 1 px is shown, the geometric mean of both directions. ``turn_deg`` (0..180) and
    ``shear_deg`` (how far from a right angle two sides of a pixel end, 0..90) have no sign. ``shift_px`` is the
    centre's. ``singular``: it shows a line or a point at most, or is not a number; scale and angles then mean nothing.
    """

    moved_px: Floats
    scale: Floats
    turn_deg: Floats
    shear_deg: Floats
    shift_px: Floats
    mirrored: Mask
    singular: Mask


def motion_of(theta: ArrayLike, input_size: Size, output_size: Size) -> Motion:
    """What ``theta [N, ...]`` (of any family) does to images of ``input_size``, shown at ``output_size``."""
    theta = np.asarray(theta, np.float64)
    (in_height, in_width), (out_height, out_width) = input_size, output_size
    with np.errstate(all="ignore"):  # what is not a number is singular
        nearest = theta if theta.shape[1:] == (2, 3) else affine_fits(MIDDLE, map_points(theta, MIDDLE))
        # In px, as what is a right angle there need not be one in an image's own coordinates.
        a, b = nearest[:, 0, 0] * (in_width / out_width), nearest[:, 0, 1] * (in_width / out_height)
        d, e = nearest[:, 1, 0] * (in_height / out_width), nearest[:, 1, 1] * (in_height / out_height)
        determinant = a * e - b * d
        cosine = (a * b + d * e) / np.sqrt((a * a + d * d) * (b * b + e * e))
        return Motion(
            moved_px=off_px(theta, input_size),
            scale=1 / np.sqrt(np.abs(determinant)),
            turn_deg=np.degrees(np.abs(np.arctan2(d - b, a + e))),
            shear_deg=np.degrees(np.arcsin(np.minimum(np.abs(cosine), 1.0))),
            shift_px=np.hypot(nearest[:, 0, 2] * (in_width / 2), nearest[:, 1, 2] * (in_height / 2)),
            mirrored=determinant < 0,
            singular=~(np.abs(determinant) > MIN_DETERMINANT) | ~np.isfinite(theta).all(axis=(1, 2)),
        )


def off_px(theta: ArrayLike, size: Size, theta_true: ArrayLike | None = None) -> Floats:
    """How far the middle of each image ``[N]`` is from its place: the mean distance of 16 points, in px of ``size``.

    From where it was in the image that comes; with ``theta_true [N, ...]`` (``distorted(u) = original(theta_true u)``)
    from where it was in the original, so that 0 is straight.
    """
    theta = np.asarray(theta)
    if theta_true is None and theta.shape[1:] == (2, 3):
        off = (theta - IDENTITY) @ _MIDDLE_HOMOGENEOUS
    else:
        found = map_points(theta, MIDDLE)
        off = np.swapaxes((found if theta_true is None else map_points(theta_true, found)) - MIDDLE, 1, 2)
    off *= np.array([[size[1] / 2], [size[0] / 2]])
    off *= off
    return np.asarray(np.sqrt(np.add.reduce(off, axis=1)).mean(axis=1))


def motion_shown(theta: NDArray[Any], source_size: NDArray[Any], rectified_size: NDArray[Any]) -> tuple[Floats, Floats]:
    """How far images of many sizes are turned (of their pixels, degrees, 0 to 180) and scaled, ``[N]`` each.

    The sizes ``[N, 2]`` are (height, width). The scale is that of what is in an image against its frame, whatever the
    number of pixels: 2 shows it twice as large. Of a spline they are those of the nearest affine transform.
    """
    if theta.shape[1:] != (2, 3):
        theta = affine_fits(MIDDLE, map_points(theta, MIDDLE))
    in_px = theta.copy()
    in_px[:, :, :2] *= source_size[:, ::-1, None] / rectified_size[:, None, ::-1]
    return motion_of(in_px, (1, 1), (1, 1)).turn_deg, motion_of(theta, (1, 1), (1, 1)).scale
