"""The corner loss, and the guard against collapse."""

from __future__ import annotations

import tensorflow as tf

from stn_core.geometry import CORNERS, Size
from stn_core.transforms import apply, measuring_points

MAX_MOVE_SIDES = 4.0
"""A corner counts as at most this many image sides away: behind a homography's horizon it is anywhere."""


def corner_loss_px(theta_true: tf.Tensor, theta_predicted: tf.Tensor, size: Size) -> tf.Tensor:
    """How far from straight each image is left, ``[B]``: ``transforms.corner_errors_px``, differentiable."""
    points = measuring_points(tuple(theta_true.shape[1:]))
    x, y = (tf.constant(points[:, axis], theta_true.dtype)[None] for axis in (0, 1))
    left_x, left_y = apply(theta_true, *apply(theta_predicted, x, y))
    dx, dy = ((left - at) * (side / 2) for left, at, side in ((left_x, x, size[1]), (left_y, y, size[0])))
    limit = MAX_MOVE_SIDES * max(size)
    # The square root has no gradient at 0, which is where a straight image is.
    return tf.reduce_mean(tf.minimum(tf.sqrt(dx * dx + dy * dy + 1e-6), limit), axis=1)


def area_scale(theta: tf.Tensor) -> tf.Tensor:
    """The area of the source that each image is taken from, as a share of the source's own, ``[B]``.

    That of the quadrilateral its corners come from, by the shoelace formula; large where it is zoomed out.
    """
    x, y = apply(theta, *(tf.constant(CORNERS[:, axis], theta.dtype)[None] for axis in (0, 1)))
    doubled = tf.reduce_sum(x * tf.roll(y, -1, axis=1) - tf.roll(x, -1, axis=1) * y, axis=1)
    return tf.abs(doubled) / 8
