"""Grid generator, bilinear sampler and warp: pure, differentiable TensorFlow functions.

Convention: see ``stn_core.geometry``. Any floating dtype, any number of channels, any sizes; batch and sizes may be
dynamic. Gradients flow to the images and to theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from stn_core import homography, tps
from stn_core.geometry import Size, pixel_coefficients
from stn_core.transforms import apply

FillMode = Literal["constant", "edge", "reflect"]


def source_grid(theta: tf.Tensor, input_size: Any, output_size: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each output pixel is sampled: ``x_px`` and ``y_px``, each ``[B, H_out, W_out]``, as input pixel indices.

    Equation 1 of arXiv 1506.02025 in pixel units, for theta of any family in ``stn_core.transforms``: affine
    ``[B, 2, 3]``, homography ``[B, 3, 3]``, thin-plate spline ``[B, K², 2]``. The identity at equal sizes gives whole
    numbers exactly.
    """
    if theta.shape[1] == 2:
        return _affine_grid(theta, input_size, output_size)
    row, column = _indices(output_size, theta.dtype)
    pixel_grid = homography.pixel_grid if theta.shape[2] == 3 else tps.pixel_grid
    return pixel_grid(theta, column, row, _as(input_size, theta.dtype), _as(output_size, theta.dtype))


def _affine_grid(theta: tf.Tensor, input_size: Any, output_size: Any) -> tuple[tf.Tensor, tf.Tensor]:
    (a, b, c), (d, e, f) = pixel_coefficients(theta, _as(input_size, theta.dtype), _as(output_size, theta.dtype))
    row, column = _indices(output_size, theta.dtype)

    def source(per_column: Any, per_row: Any, constant: Any) -> Any:
        return per_column[:, None, None] * column + per_row[:, None, None] * row + constant[:, None, None]

    return source(a, b, c), source(d, e, f)


def bilinear_sample(
    images: tf.Tensor,
    x_px: tf.Tensor,
    y_px: tf.Tensor,
    fill_mode: FillMode = "constant",
    fill_value: float = 0.0,
) -> tf.Tensor:
    """``images [B, H, W, C]`` read at the pixel indices ``x_px, y_px [B, H_out, W_out]``: ``[B, H_out, W_out, C]``.

    Bilinear interpolation between the four neighbours (equation 5 of arXiv 1506.02025). A neighbour outside the image
    is the fill value (``constant``), the nearest pixel (``edge``), or the image mirrored about its edge (``reflect``).
    """
    height, width = _spatial_size(images)
    if fill_mode == "constant":
        # One pixel of padding turns everything outside into fill without a mask on each of the four neighbours.
        images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=tf.cast(fill_value, images.dtype))
        x_px, y_px, height, width = x_px + 1, y_px + 1, height + 2, width + 2
    elif fill_mode == "reflect":
        x_px, y_px = _reflect(x_px, width), _reflect(y_px, height)
    elif fill_mode != "edge":
        raise ValueError(f"fill_mode: expected constant, edge or reflect, got {fill_mode!r}")
    x_low, x_high, x_weight = _neighbours(x_px, width)
    y_low, y_high, y_weight = _neighbours(y_px, height)

    flat = tf.reshape(images, [-1, images.shape[-1] or tf.shape(images)[-1]])
    first = tf.range(tf.shape(images)[0])[:, None, None] * (height * width)
    low, high = first + y_low * width, first + y_high * width
    top = _mix(tf.gather(flat, low + x_low), tf.gather(flat, low + x_high), x_weight)
    bottom = _mix(tf.gather(flat, high + x_low), tf.gather(flat, high + x_high), x_weight)
    return _mix(top, bottom, y_weight)


def warp(
    images: tf.Tensor,
    theta: tf.Tensor,
    output_size: Size | None = None,
    fill_mode: FillMode = "constant",
    fill_value: float = 0.0,
) -> tf.Tensor:
    """``images [B, H, W, C]`` (floating) warped by ``theta``: ``[B, H_out, W_out, C]``, H and W unless given.

    ``output(u) = images(theta u)``: theta, of any family in ``stn_core.transforms``, maps output to input coordinates.
    """
    input_size = _spatial_size(images)
    output_size = input_size if output_size is None else output_size
    x_px, y_px = source_grid(tf.cast(theta, images.dtype), input_size, output_size)
    return bilinear_sample(images, x_px, y_px, fill_mode, fill_value)


def warp_chain(images: tf.Tensor, thetas: Sequence[tf.Tensor], output_size: Size, fill_value: float = 0.0) -> tf.Tensor:
    """``images`` warped by the first of ``thetas``, the result by the next, and so on, interpolated only once.

    The thetas may be of any families, also of such as do not compose. Floating point makes the identity nearly exact.
    """
    row, column = _indices(output_size, images.dtype)
    x = tf.reshape(tf.broadcast_to((2 * column + 1) / output_size[1] - 1, [1, *output_size]), [1, -1])
    y = tf.reshape(tf.broadcast_to((2 * row + 1) / output_size[0] - 1, [1, *output_size]), [1, -1])
    for theta in reversed(thetas):
        x, y = apply(theta, x, y)
    height, width = _as(_spatial_size(images), images.dtype)
    x_px, y_px = ((position + 1) * side / 2 - 0.5 for position, side in ((x, width), (y, height)))
    shape = [-1, *output_size]
    return bilinear_sample(images, tf.reshape(x_px, shape), tf.reshape(y_px, shape), fill_value=fill_value)


def _indices(size: tuple[Any, Any], dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(tf.range(size[0]), dtype)[None, :, None], tf.cast(tf.range(size[1]), dtype)[None, None, :]


def _spatial_size(images: tf.Tensor) -> tuple[Any, Any]:
    dynamic = tf.shape(images)
    height, width = images.shape[1], images.shape[2]
    return dynamic[1] if height is None else height, dynamic[2] if width is None else width


def _as(size: tuple[Any, Any], dtype: tf.DType) -> tuple[Any, Any]:
    height, width = size
    return (
        tf.cast(height, dtype) if tf.is_tensor(height) else height,
        tf.cast(width, dtype) if tf.is_tensor(width) else width,
    )


def _reflect(position: tf.Tensor, side: Any) -> tf.Tensor:
    """Positions folded into [-0.5, side - 0.5] by mirroring about the image's edges (the edge pixel is repeated)."""
    side = tf.cast(side, position.dtype)
    return side - tf.abs(tf.math.floormod(position + 0.5, 2 * side) - side) - 0.5


def _neighbours(position: tf.Tensor, side: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixel below, the pixel above and the weight of the one above, for positions clipped to the image."""
    last = tf.cast(side, position.dtype) - 1
    position = tf.clip_by_value(position, 0, last)
    low = tf.floor(position)
    low_index = tf.cast(low, tf.int32)
    return low_index, tf.minimum(low_index + 1, side - 1), (position - low)[..., None]


def _mix(low: tf.Tensor, high: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    # Not low + weight * (high - low): at weight 0 and 1 this form returns the neighbour itself, bit for bit.
    return (1 - weight) * low + weight * high
