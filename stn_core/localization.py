"""Localization networks: from images ``[B, H, W, C]`` to the numbers of theta, ``[B, 6]`` for an affine one.

Any network that ends in a regression layer serves; these are the named ones. All start at the identity transform:
the last layer has zero weights and the identity as bias (appendix A.4 of arXiv 1506.02025). The choice of the
transform's family is a choice of that last layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import ArrayLike
from tf_keras import layers

from stn_core.transforms import family, theta_shape
from stn_core.view import Disc, View

Shape = tuple[int, int, int]


def build_localization(
    kind: str,
    input_shape: Shape,
    seed: int = 0,
    transform: str = "affine",
    start: ArrayLike | None = None,
    view: View = "whole",
) -> Any:
    """A new localization network (a ``tf_keras.Model``) of a named kind, for images of ``input_shape`` (H, W, C).

    ``transform`` is the family of theta (``stn_core.transforms``). ``start``, an affine theta ``[2, 3]``, is what the
    untrained network answers in place of the identity. Of ``view`` "disc" it sees the disc in the middle of each image
    alone. ValueError for an unknown kind or family.
    """
    if kind not in LOCALIZATION_KINDS:
        raise ValueError(f"localization: expected one of {', '.join(LOCALIZATION_KINDS)}, got {kind!r}")
    tf_keras.utils.set_random_seed(seed)
    images = layers.Input(input_shape, name="images")
    head = family(transform, _aspect(input_shape, start))
    if start is not None:
        head = head.after(np.asarray(start, np.float64))
    bias = head.start
    x = LOCALIZATION_KINDS[kind](images if view == "whole" else Disc()(images))
    if len(head.directions) < len(bias):
        # The family is smaller than theta's numbers: regress its own, and map them by a layer that does not learn.
        x = layers.Dense(len(head.directions), kernel_initializer="zeros", name="numbers")(x)
    x = layers.Dense(len(bias), kernel_initializer="zeros", name="theta")(x)
    network = tf_keras.Model(images, x, name=f"localization_{kind}")
    theta = network.get_layer("theta")
    theta.bias.assign(bias)
    if len(head.directions) < len(bias):
        theta.kernel.assign(head.directions)
        theta.trainable = False
    return network


def _aspect(input_shape: Shape, start: ArrayLike | None) -> float:
    """Height by width of the straightened image: that of the part of the input that ``start`` cuts out."""
    scale_x, scale_y = (1.0, 1.0) if start is None else np.diag(np.asarray(start, np.float64)[:, :2])
    return float(input_shape[0] * scale_y / (input_shape[1] * scale_x))


def theta_of(numbers: tf.Tensor) -> tf.Tensor:
    """A localization network's output ``[B, n]`` as theta, of the family that has n numbers."""
    return tf.reshape(numbers, [-1, *theta_shape(numbers.shape[-1])])


def _tutorial(images: Any) -> Any:
    x = layers.Conv2D(14, 5, activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 5, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(120, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    return layers.Dense(84, activation="relu")(x)


def _dense(images: Any) -> Any:
    x = layers.Flatten()(images)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(x)
    return layers.Dense(32, activation="relu")(x)


def _deep(images: Any) -> Any:
    """Three resolutions of 3x3 convolutions; the first layer halves the image, which keeps the network cheap."""
    x = _convolution(images, 24, kernel=5, stride=2)
    x = _convolution(x, 48)
    x = _convolution(x, 64, stride=2)
    return _two_dense(_convolution(x, 64), 128)


def _fast(images: Any) -> Any:
    """Strided 3x3 convolutions down to about 7 px a side: at 28 px within twice the time of the tutorial's."""
    return _two_dense(_convolution(_shrunk(images, 24, 48), 64), 128)


def _small(images: Any) -> Any:
    """About a quarter of ``fast``'s numbers, for where the parameters of both networks are counted together."""
    x = _convolution(_shrunk(images, 16, 32), 48)
    return _two_dense(_convolution(x, 48, stride=2), 96)


def _medium(images: Any) -> Any:
    """Half of ``fast``'s numbers, in one convolution more: for transforms of more numbers than an affine one's."""
    x = _convolution(_shrunk(images, 24, 48), 64)
    return _two_dense(_convolution(x, 64, stride=2), 160)


def _shrunk(images: Any, first_filters: int, filters: int) -> Any:
    """A quarter of the sides by strided convolutions, and on until they are at most 10 px."""
    x = _convolution(images, first_filters, kernel=5, stride=2)
    x = _convolution(x, filters, stride=2)
    while max(x.shape[1:3]) > 10:
        x = _convolution(x, filters, stride=2)
    return x


def _two_dense(x: Any, units: int) -> Any:
    x = layers.Flatten()(x)
    x = layers.Dense(units, activation="relu")(x)
    return layers.Dense(64, activation="relu")(x)


def _convolution(x: Any, filters: int, kernel: int = 3, stride: int = 1) -> Any:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    return layers.ReLU()(x)


LOCALIZATION_KINDS: dict[str, Callable[[Any], Any]] = {
    "tutorial": _tutorial,
    "dense": _dense,
    "deep": _deep,
    "fast": _fast,
    "medium": _medium,
    "small": _small,
}
