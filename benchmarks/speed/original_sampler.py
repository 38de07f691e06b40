"""The original system's sampler, written anew in plain TensorFlow as its tutorial has it: a regular grid, the four
neighbours by ``gather_nd``, and their weights. Only for images of one channel and results of the input's size.

It keeps the original's faults, which cost no time: the last row and column of an unmoved image come out black, and
turns are about a point half a pixel off the middle.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def sample(images: Any, theta: Any) -> Any:
    """``images [B, H, W, 1]`` warped by ``theta [B, 2, 3]``."""
    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    places = theta @ tf.tile(_regular_grid(height, width)[None], [count, 1, 1])
    x = tf.reshape((places[:, 0] + 1) * width / 2, [count, height, width])
    y = tf.reshape((places[:, 1] + 1) * height / 2, [count, height, width])
    left, right, top, bottom = _neighbours(x, width) + _neighbours(y, height)
    of_image = tf.tile(tf.range(count)[:, None, None], [1, height, width])

    def term(column: Any, row: Any, weight: Any) -> Any:
        values = tf.gather_nd(images[..., 0], tf.stack([of_image, row, column], axis=-1))
        return weight * values

    before_x, after_x = tf.cast(right, x.dtype) - x, x - tf.cast(left, x.dtype)
    before_y, after_y = tf.cast(bottom, y.dtype) - y, y - tf.cast(top, y.dtype)
    terms = [
        term(left, top, before_x * before_y),
        term(left, bottom, before_x * after_y),
        term(right, top, after_x * before_y),
        term(right, bottom, after_x * after_y),
    ]
    return tf.add_n(terms)[..., None]


def _regular_grid(height: int, width: int) -> Any:
    """``[3, H * W]``: x, y and 1 of each pixel."""
    x, y = tf.meshgrid(tf.linspace(-1.0, 1.0, width), tf.linspace(-1.0, 1.0, height))
    x, y = tf.reshape(x, [-1]), tf.reshape(y, [-1])
    return tf.stack([x, y, tf.ones_like(x)])


def _neighbours(position: Any, side: int) -> tuple[Any, Any]:
    below = tf.cast(tf.floor(position), tf.int32)
    return tf.clip_by_value(below, 0, side - 1), tf.clip_by_value(below + 1, 0, side - 1)
