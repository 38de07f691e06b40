"""Fresh distortions, with the theta of each, as a ``tf.data`` set for a training loop of your own."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from stn_core.recipes import Recipe, distorted_size, theta_shape_of
from stn_core.stream import DistortionStream


def distortions(
    images: NDArray[Any],
    labels: NDArray[Any],
    recipe: Recipe,
    batch_size: int,
    seed: int,
    original_share: float = 0.0,
    skip: int = 0,
) -> tf.data.Dataset:
    """An endless set of batches (images, labels, theta), made ahead of the training step.

    ``images [N, H, W, C]`` are uint8, or float32 in [0, 1]; ``labels [N]`` whole numbers. A batch holds images
    ``[B, h, w, C]`` float32 in [0, 1], the labels ``[B]`` int64, and ``theta [B, ...]`` float32 of the recipe's family,
    which distorted them: ``distorted(u) = original(theta u)``; ``transforms.invert`` gives the one that straightens.
    ``original_share`` of each batch stays as it is, and images of rare classes come more often
    (``stream.DistortionStream``). Batch k is a pure function of (images, recipe, seed, k); ``skip`` begins with a later
    one.
    """
    stream = DistortionStream(images, labels.astype("int64"), recipe, batch_size, original_share, seed)
    size = distorted_size(recipe, stream.original_size)
    signature = (
        tf.TensorSpec((batch_size, *size, images.shape[3]), tf.float32),
        tf.TensorSpec((batch_size,), tf.int64),
        tf.TensorSpec((batch_size, *theta_shape_of(recipe)), tf.float32),
    )
    made = tf.data.Dataset.from_generator(
        lambda: ((batch.images, batch.labels, batch.theta) for batch in stream.batches(skip)),
        output_signature=signature,
    )
    return made.prefetch(tf.data.AUTOTUNE)
