"""Endless batches of freshly distorted images, with the theta that distorted each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stn_core.datasets import to_float
from stn_core.draws import Ids
from stn_core.geometry import identity
from stn_core.recipes import Recipe, affine_theta, draw, is_affine
from stn_core.sampler import warp


class Batch(NamedTuple):
    """``images [B, H, W, C]`` float32 in [0, 1], part of them distorted by ``theta [B, 2, 3]``; ``labels [B]``.

    ``jitter [B, 2, 3]`` is a further small theta for each image, not yet applied: the identity where none is wanted.
    """

    images: tf.Tensor
    theta: tf.Tensor
    labels: tf.Tensor
    jitter: tf.Tensor


class DistortionStream:
    """An endless stream of fresh batches; batch k is a pure function of (images, recipe, seed, k).

    ``original_share`` of each batch stays undistorted, with the identity as theta. A recipe of affine steps alone is
    warped once by the composed theta; any other goes through imgaug. ``jitter``, if given, is a recipe of affine steps.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        recipe: Recipe,
        batch_size: int,
        original_share: float,
        seed: int,
        jitter: Recipe | None = None,
    ) -> None:
        self._images, self._labels, self._recipe, self._seed = images, labels, recipe, seed
        self._jitter = jitter
        self._batch_size = batch_size
        self._distorted = batch_size - round(batch_size * original_share)
        self._through_imgaug = not is_affine(recipe)

    def __iter__(self) -> Iterator[Batch]:
        generator = np.random.default_rng(self._seed)
        drawn, count = np.uint64(0), len(self._images)
        order: NDArray[np.int64] = np.empty(0, np.int64)
        while True:
            while len(order) < self._batch_size:
                order = np.concatenate([order, generator.permutation(count)])
            chosen, order = order[: self._batch_size], order[self._batch_size :]
            yield self._batch(chosen, drawn + np.arange(self._batch_size, dtype=np.uint64))
            drawn += np.uint64(self._batch_size)

    def _batch(self, chosen: NDArray[np.int64], ids: Ids) -> Batch:
        images = to_float(self._images[chosen])
        size = (images.shape[1], images.shape[2])
        theta = identity(len(chosen)).astype(np.float32)
        part = slice(0, self._distorted)
        part_ids = ids[part]
        if self._through_imgaug:
            from stn_core.augment import augment

            result = augment(images[part], self._recipe, self._seed, part_ids)
            images[part], theta[part] = result.images, result.theta
            warped = tf.constant(images)
        else:
            theta[part] = affine_theta(draw(self._recipe, self._seed, part_ids), size)[0]
            warped = warp_batch(tf.constant(images), tf.constant(theta), self._recipe.fill_fraction)
        jitter = identity(len(chosen))
        if self._jitter is not None:
            jitter = affine_theta(draw(self._jitter, self._seed, ids), size)[0]
        return Batch(
            warped, tf.constant(theta), tf.constant(self._labels[chosen]), tf.constant(jitter.astype(np.float32))
        )


@tf.function(jit_compile=True)
def warp_batch(images: tf.Tensor, theta: tf.Tensor, fill_fraction: float) -> tf.Tensor:
    """``sampler.warp`` at the images' own size, compiled: one compilation for each shape of batch."""
    return warp(images, theta, fill_value=fill_fraction)
