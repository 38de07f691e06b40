"""Localization networks: from images ``[B, H, W, C]`` to the six numbers of theta ``[B, 6]``.

Any network that ends in a regression layer serves; these are the named ones. All start at the identity transform:
the last layer has zero weights and the identity as bias (appendix A.4 of arXiv 1506.02025).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras
from tf_keras import layers

from stn_core.geometry import IDENTITY

Shape = tuple[int, int, int]


def build_localization(kind: str, input_shape: Shape, seed: int = 0) -> Any:
    """A new localization network (a ``tf_keras.Model``) of a named kind, for images of ``input_shape`` (H, W, C)."""
    if kind not in LOCALIZATION_KINDS:
        raise ValueError(f"localization: expected one of {', '.join(LOCALIZATION_KINDS)}, got {kind!r}")
    tf_keras.utils.set_random_seed(seed)
    images = layers.Input(input_shape, name="images")
    features = LOCALIZATION_KINDS[kind](images)
    theta = layers.Dense(
        6,
        kernel_initializer="zeros",
        bias_initializer=tf_keras.initializers.Constant(IDENTITY.astype(np.float32).reshape(-1).tolist()),
        name="theta",
    )(features)
    return tf_keras.Model(images, theta, name=f"localization_{kind}")


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
    x = _convolution(x, 64)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dense(64, activation="relu")(x)


def _convolution(x: Any, filters: int, kernel: int = 3, stride: int = 1) -> Any:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    return layers.ReLU()(x)


LOCALIZATION_KINDS: dict[str, Callable[[Any], Any]] = {"tutorial": _tutorial, "dense": _dense, "deep": _deep}
