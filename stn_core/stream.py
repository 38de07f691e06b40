"""Endless batches of freshly distorted images, with the theta that distorted each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stn_core import native
from stn_core.augment import augment
from stn_core.datasets import to_float
from stn_core.draws import Ids
from stn_core.geometry import Size, identity
from stn_core.recipes import (
    Recipe,
    canvas_theta,
    distorted_size,
    draw,
    is_geometric,
    known_theta,
    theta_shape_of,
)
from stn_core.rendering import ALL_RENDERINGS, render
from stn_core.sampler import warp, warp_chain
from stn_core.transforms import as_shape


class Batch(NamedTuple):
    """``images [B, H, W, C]`` float32 in [0, 1], part of them distorted by ``theta``; ``labels [B]``.

    ``theta`` is of the recipe's family (``recipes.theta_shape_of``), ``exact [B]`` is false where it does not tell all.
    ``jitter`` is a further small theta for each image, not yet applied: the identity where none is wanted.
    """

    images: tf.Tensor
    theta: tf.Tensor
    exact: tf.Tensor
    labels: tf.Tensor
    jitter: tf.Tensor


class DistortionStream:
    """An endless stream of fresh batches; batch k is a pure function of (images, recipe, seed, k).

    ``original_share`` of each batch stays undistorted (on the recipe's canvas, if it has one). ``jitter``, if given, is
    a recipe of geometric steps. About ``rendered_share`` of each batch, distorted or not, is rendered in another way
    (``rendering``), one a batch; not by recipes with steps that are not geometric, which no other resolution knows.
    Images of rare classes come more often (``repeats``).
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
        rendered_share: float = 0.0,
    ) -> None:
        self._images, self._labels, self._recipe, self._seed = images, labels, recipe, seed
        self._jitter = jitter
        self._rendered_share = rendered_share if is_geometric(recipe) else 0.0
        self._batch_size = batch_size
        self._distorted = batch_size - round(batch_size * original_share)
        self.original_size: Size = (images.shape[1], images.shape[2])
        self._distorted_size = distorted_size(recipe, self.original_size)

    def batches(self, skip: int = 0) -> Iterator[Batch]:
        """The batches from number ``skip`` on; those before are not made."""
        generator = np.random.default_rng(self._seed)
        drawn, members = np.uint64(0), np.repeat(np.arange(len(self._labels)), repeats(self._labels))
        order: NDArray[np.int64] = np.empty(0, np.int64)
        while True:
            while len(order) < self._batch_size:
                order = np.concatenate([order, generator.permutation(members)])
            chosen, order = order[: self._batch_size], order[self._batch_size :]
            if skip > 0:
                skip -= 1
            else:
                yield self._batch(chosen, drawn + np.arange(self._batch_size, dtype=np.uint64))
            drawn += np.uint64(self._batch_size)

    def _batch(self, chosen: NDArray[np.int64], ids: Ids) -> Batch:
        count, recipe = len(chosen), self._recipe
        images = to_float(self._images[chosen])
        part, rest = slice(0, self._distorted), slice(self._distorted, count)
        theta = as_shape(np.tile(canvas_theta(recipe, self.original_size), (count, 1, 1)), theta_shape_of(recipe))
        exact, distorted = np.ones(count, bool), np.empty((count, *self._distorted_size, images.shape[3]), np.float32)
        made = augment(images[part], recipe, self._seed, ids[part])
        distorted[part], theta[part], exact[part] = made.images, made.theta, made.exact
        distorted[rest] = native.warp(images[rest], theta[rest], self._distorted_size, recipe.fill_fraction)
        if self._rendered_share:
            self._render_some(distorted, images, theta, int(ids[0]))
        jitter = identity(count)
        if self._jitter is not None:
            jitter = known_theta(self._jitter, draw(self._jitter, self._seed, ids), self.original_size)[0]
        return Batch(
            tf.constant(distorted),
            tf.constant(theta, tf.float32),
            tf.constant(exact),
            tf.constant(self._labels[chosen]),
            tf.constant(jitter, tf.float32),
        )

    def _render_some(
        self, made: NDArray[np.float32], images: NDArray[np.float32], theta: NDArray[Any], number: int
    ) -> None:
        """Makes part of ``made``, a batch of this number, anew in another way."""
        generator = np.random.default_rng((self._seed, number))
        chosen = np.flatnonzero(generator.random(len(made)) < self._rendered_share)
        rendering = ALL_RENDERINGS[generator.integers(len(ALL_RENDERINGS))]
        if chosen.size:
            fill = self._recipe.fill_fraction
            made[chosen] = render(images[chosen], theta[chosen], self._distorted_size, rendering, fill)


MAX_REPEATS = 10


def repeats(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each image is drawn an epoch, ``[N]``: once, or more where its class is rare.

    The square root of how much larger the largest class is, at most 10: halfway to equal shares, so that a rare class
    is learned and its few images are not learned by heart.
    """
    counts = np.bincount(labels)
    wanted = np.sqrt(counts.max() / np.maximum(counts, 1))
    each: NDArray[np.int64] = np.minimum(np.round(wanted), MAX_REPEATS).astype(np.int64)
    return np.asarray(each[labels])


@tf.function(jit_compile=True)
def warp_batch(images: tf.Tensor, theta: tf.Tensor, fill_fraction: float, size: Size | None = None) -> tf.Tensor:
    """``sampler.warp``, compiled: one compilation for each shape of batch and size."""
    return warp(images, theta, size, fill_value=fill_fraction)


@tf.function(jit_compile=True)
def warp_batch_through(images: tf.Tensor, thetas: tuple[tf.Tensor, ...], fill_fraction: float, size: Size) -> tf.Tensor:
    """``sampler.warp_chain``, compiled likewise."""
    return warp_chain(images, thetas, size, fill_fraction)
