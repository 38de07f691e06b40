"""The original system's four networks, trained the way its tutorial trains them: by classification loss alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset, to_float
from stn_core.layers import SpatialTransformer
from stn_core.localization import build_localization

ROWS = {"fc": "FC", "cnn": "CNN", "stn+fc": "STN + FC", "stn+cnn": "STN + CNN"}
BATCH_SIZE = 64
STEPS_PER_CALL = 20
EVALUATION_BATCH = 1000

Progress = Callable[[str, int, int], None]
"""Called now and then with what is trained, the steps done and the steps in all."""


@dataclass(frozen=True)
class Trained:
    """A network after its training: its parameters, the seconds it took, and training images a second.

    ``cpu_seconds`` is the time of all cores together: on a busy machine it tells more than the time on the wall.
    """

    network: Any
    parameters: int
    seconds: float
    cpu_seconds: float
    images_per_s: float


def build_row(key: str, input_shape: tuple[int, int, int], classes: int, seed: int) -> Any:
    """The untrained network of a row, for images of ``input_shape`` (H, W, C), giving logits."""
    transformer, _, kind = key.rpartition("+")
    images = tf_keras.layers.Input(input_shape, name="images")
    straight = images
    if transformer:
        localization = build_localization("tutorial", input_shape, seed=seed)
        straight = SpatialTransformer(localization=localization, name="transformer")(images)
    logits = build_classifier(kind, input_shape, classes=classes, seed=seed)(straight)
    return tf_keras.Model(images, logits, name=key.replace("+", "_"))


def train_row(key: str, data: Dataset, epochs: int, seed: int, progress: Progress) -> Trained:
    """A row's network trained on ``data`` as the tutorial does."""
    network = build_row(key, data.image_shape, len(data.classes), seed)
    tf_keras.utils.set_random_seed(seed)
    network.compile(
        optimizer=tf_keras.optimizers.Adam(),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=STEPS_PER_CALL,  # fewer round trips to Python; the arithmetic of a step is the same
    )
    batches = _batches(data, seed)
    steps = epochs * len(batches)
    started_s, cpu_started_s = time.perf_counter(), time.process_time()
    report = _Report(f"{ROWS[key]} on {data.name}", len(batches), steps, progress)
    network.fit(batches, epochs=epochs, verbose=0, callbacks=[report])
    seconds = time.perf_counter() - started_s
    cpu_seconds = time.process_time() - cpu_started_s
    return Trained(network, network.count_params(), seconds, cpu_seconds, epochs * len(data) / seconds)


def _batches(data: Dataset, seed: int) -> Any:
    """Shuffled anew each epoch. Only indices are shuffled: the images stay where and as small as they are."""
    images, labels = tf.constant(data.images), tf.constant(data.labels)
    scale = 255.0 if data.images.dtype == np.uint8 else 1.0

    def batch(indices: Any) -> tuple[Any, Any]:
        return tf.cast(tf.gather(images, indices), tf.float32) / scale, tf.gather(labels, indices)

    order = tf.data.Dataset.range(len(data)).shuffle(len(data), seed=seed, reshuffle_each_iteration=True)
    return order.batch(BATCH_SIZE).map(batch).prefetch(4)


def probabilities(network: Any, images: NDArray[Any]) -> NDArray[Any]:
    """What a row's network gives each class, ``[N, K]``, for images as a data set holds them."""
    starts = range(0, len(images), EVALUATION_BATCH)
    logits = [network(to_float(images[k : k + EVALUATION_BATCH]), training=False) for k in starts]
    softmax: NDArray[Any] = tf.nn.softmax(tf.concat(logits, axis=0)).numpy()
    return softmax


def predicted_theta(network: Any, images: NDArray[Any]) -> NDArray[Any]:
    """The theta ``[N, 2, 3]`` that a row's transformer predicts."""
    transformer = network.get_layer("transformer")
    starts = range(0, len(images), EVALUATION_BATCH)
    parts = [transformer.localize(to_float(images[k : k + EVALUATION_BATCH]), training=False) for k in starts]
    return np.concatenate([part.numpy() for part in parts])


def straightened(network: Any, images: NDArray[Any]) -> NDArray[np.float32]:
    """The images as a row's transformer hands them to its classifier."""
    warped: NDArray[np.float32] = network.get_layer("transformer")(to_float(images), training=False).numpy()
    return warped


def accuracy(network: Any, images: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The fraction of images that a row's network puts into their class."""
    return round(float((probabilities(network, images).argmax(axis=1) == labels).mean()), 4)


class _Report(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the progress display how many steps are done."""

    def __init__(self, title: str, steps_per_epoch: int, steps: int, progress: Progress) -> None:
        super().__init__()
        self.title, self.steps_per_epoch, self.steps, self.progress = title, steps_per_epoch, steps, progress
        self.epochs_done = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress(self.title, self.epochs_done * self.steps_per_epoch + batch + 1, self.steps)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs_done = epoch + 1
