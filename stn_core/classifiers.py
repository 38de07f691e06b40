"""Classifiers, the first two those of the original system: from images ``[B, H, W, C]`` to logits ``[B, K]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras
from tf_keras import layers

from stn_core.localization import Shape


def build_classifier(kind: str, input_shape: Shape, classes: int = 10, seed: int = 0) -> Any:
    """A new classifier (a ``tf_keras.Model`` that gives logits) of a named kind, for images of ``input_shape``."""
    if kind not in CLASSIFIER_KINDS:
        raise ValueError(f"classifier: expected one of {', '.join(CLASSIFIER_KINDS)}, got {kind!r}")
    tf_keras.utils.set_random_seed(seed)
    images = layers.Input(input_shape, name="images")
    logits = layers.Dense(classes, name="logits")(CLASSIFIER_KINDS[kind](images))
    return tf_keras.Model(images, logits, name=f"classifier_{kind}")


def _fc(images: Any) -> Any:
    x = layers.Flatten()(images)
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dropout(0.2)(x)


def _cnn(images: Any) -> Any:
    x = layers.Conv2D(6, 3, activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(120, activation="relu")(x)
    return layers.Dense(84, activation="relu")(x)


def _paper(images: Any) -> Any:
    """The paper's: 9x9 and 7x7 convolutions with pooling between and after, and one layer to the classes."""
    x = layers.Conv2D(32, 9, use_bias=False)(images)
    x = layers.BatchNormalization(momentum=0.98)(x)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    x = layers.Conv2D(64, 7, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.98)(x)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    return layers.Dropout(0.3)(layers.Flatten()(x))


def _medium(images: Any) -> Any:
    """Four convolutions with batch normalization at two resolutions, and one layer to the classes."""
    x = _convolutions(images, (32, 5, 2), (48, 3, 1), (64, 3, 2), (64, 3, 1))
    return layers.Dropout(0.3)(layers.Flatten()(x))


def _large(images: Any) -> Any:
    """Five convolutions with batch normalization at two resolutions: a teacher for the small ones."""
    x = _convolutions(images, (32, 5, 2), (64, 3, 1), (64, 3, 1), (96, 3, 2), (96, 3, 1))
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    return layers.Dropout(0.3)(layers.Dense(128, activation="relu")(x))


def _convolutions(x: Any, *shapes: tuple[int, int, int]) -> Any:
    for filters, kernel, stride in shapes:
        x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.98)(x))
    return x


CLASSIFIER_KINDS: dict[str, Callable[[Any], Any]] = {
    "fc": _fc,
    "cnn": _cnn,
    "paper": _paper,
    "medium": _medium,
    "large": _large,
}
