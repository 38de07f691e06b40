"""What of an image a localization network sees: all of it, or the disc in its middle.

Turning an image uncovers its corners, and a network would rather look at those than at what is in the image. A disc
looks the same however it is turned.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from stn_core.geometry import Size

View = Literal["whole", "disc"]


def disc(size: Size) -> NDArray[np.float32]:
    """``[H, W, 1]``: 1 in the ellipse that touches the middles of the sides, 0 outside of it."""
    y, x = ((2 * np.arange(side) + 1) / side - 1 for side in size)
    return (y[:, None] ** 2 + x**2 <= 1).astype(np.float32)[..., None]


@tf_keras.utils.register_keras_serializable(package="stn_core")
class Disc(tf_keras.layers.Layer):  # type: ignore[misc]
    """Images ``[B, H, W, C]``, 0 outside of the disc in their middle."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return images * tf.constant(disc((images.shape[1], images.shape[2])), images.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
