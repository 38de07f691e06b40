"""Iterative refinement: the localization network looks again at what it straightened (arXiv 1612.03897).

The transforms are composed and the source image is warped anew each time, so that nothing is interpolated twice and
nothing is cut off at an edge in between.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from stn_core.geometry import MIN_DETERMINANT, composed_parts
from stn_core.localization import theta_of
from stn_core.sampler import warp


def localize(network: Any, images: tf.Tensor, passes: int, fill_value: float, training: bool) -> tf.Tensor:
    """The theta of ``images [B, H, W, C]`` after ``passes`` looks of ``network``: ``[B, 2, 3]`` and so on by family."""
    return localize_each(network, images, passes, fill_value, training)[-1]


def localize_each(network: Any, images: tf.Tensor, passes: int, fill_value: float, training: bool) -> list[tf.Tensor]:
    """The theta after each of the passes, the first to the last."""
    thetas = [theta_of(network(images, training=training))]
    for _ in range(passes - 1):
        straighter = warp(images, tf.stop_gradient(thetas[-1]), fill_value=fill_value)
        correction = theta_of(network(straighter, training=training))
        thetas.append(composed(tf.stop_gradient(thetas[-1]), correction))
    return thetas


def composed(first: tf.Tensor, then: tf.Tensor) -> tf.Tensor:
    """``transforms.compose`` for tensors: affine or homography both, or an affine ``first`` and a spline ``then``."""
    if first.shape[1:] == then.shape[1:] == (2, 3):
        return tf.concat(composed_parts(first, then), axis=2)
    if then.shape[2] == 2:
        return tf.matmul(then, first[:, :, :2], transpose_b=True) + first[:, None, :, 2]
    first, then = _as_homography(first), _as_homography(then)
    product = first @ then
    last = tf.abs(product[:, 2:, 2:])
    return product / tf.where(last > MIN_DETERMINANT, last, tf.ones_like(last))


def _as_homography(theta: tf.Tensor) -> tf.Tensor:
    if theta.shape[1] == 3:
        return theta
    last = tf.broadcast_to(tf.constant([[[0.0, 0.0, 1.0]]], theta.dtype), [tf.shape(theta)[0], 1, 3])
    return tf.concat([theta, last], axis=1)
