"""Batches of distorted digits that are ready, for both trainings in TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from inputs import given

from stn_core.geometry import identity
from stn_core.stream import Batch

SHAPE = (28, 28, 1)


def prepared_batches(size: int) -> list[Batch]:
    """Several, as networks that see one alone again and again soon have nothing left to learn."""
    images, labels = given("images"), given("labels")
    nothing = tf.constant(identity(size), tf.float32)
    return [
        Batch(
            tf.constant(images[first : first + size]),
            nothing,
            tf.constant(np.ones(size, bool)),
            tf.constant(labels[first : first + size]),
            nothing,
        )
        for first in range(0, len(images) - size + 1, size)
    ]
