"""The original system's training step, with the kernels that TensorFlow takes by itself, as it was published."""

from __future__ import annotations

# What our package sets, also in the process that started this one.
import os  # isort: skip

os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)

import tensorflow as tf  # isort: skip  # before our package is imported, which would set it again
import tf_keras  # isort: skip
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

from contestant import Case
from original_sampler import sample
from shapes import TRAINING_BATCHES
from training_batches import SHAPE, prepared_batches

from stn_core.classifiers import build_classifier
from stn_core.localization import build_localization, theta_of
from stn_core.stream import Batch

RATE = 1e-4


def original(batch_size: int) -> Case:
    localization, classifier = build_localization("tutorial", SHAPE), build_classifier("cnn", SHAPE)
    weights = [*classifier.trainable_variables, *localization.trainable_variables]
    optimizer = tf_keras.optimizers.Adam(RATE)
    optimizer.build(weights)
    loss_of = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            straight = sample(images, theta_of(localization(images, training=True)))
            loss = loss_of(labels, classifier(straight, training=True))
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    batches = cycle(prepared_batches(batch_size))
    return partial(_with_next, step, batches), batch_size


def _with_next(step: Callable[[Any, Any], Any], batches: Iterator[Batch]) -> None:
    batch = next(batches)
    step(batch.images, batch.labels)


CASES = {f"original {size}": partial(original, size) for size in TRAINING_BATCHES}
