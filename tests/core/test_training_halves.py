"""A step on the two halves of a batch is the step on the whole, where images know nothing of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset
from stn_core.localization import build_localization
from stn_core.recipes import load_recipe
from stn_core.refinement import localize
from stn_core.stream import Batch, DistortionStream, warp_batch
from stn_core.training import Journal
from stn_core.training.fitting import Learner, Losses, Phase, fit
from stn_core.training.losses import area_scale

SHAPE = (28, 28, 1)


def trained(digits: Dataset, localization: str, batch_size: int, by_image: bool) -> tuple[list[Any], list[int], float]:
    """The weights after three steps of both networks, the sizes of batches that the loss saw, and the first loss."""
    networks = [build_localization(localization, SHAPE, seed=3), build_classifier("cnn", SHAPE, seed=4)]
    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    seen: list[int] = []

    def losses_of(batch: Batch) -> Losses:
        seen.append(batch.images.shape[0])
        theta = localize(networks[0], batch.images, 1, 0.0, training=True)
        rectified = warp_batch(batch.images, theta, 0.0, SHAPE[:2])
        return Losses(cross_entropy(batch.labels, networks[1](rectified, training=True)), area_scale(theta))

    stream = DistortionStream(digits.images, digits.labels, load_recipe("tutorial-mix"), batch_size, 0.0, seed=1)
    learners = [Learner(network, 1e-3) for network in networks]
    losses: list[float] = []
    journal = Journal(lambda _phase, _done, _steps, loss: losses.append(loss))
    fit(learners, losses_of, stream, Phase("both", 3), journal, by_image)
    return [weights.numpy() for network in networks for weights in network.trainable_variables], seen, losses[0]


def test_two_halves_teach_what_the_whole_batch_does(digits: Dataset) -> None:
    whole, seen, loss = trained(digits, "dense", 32, by_image=False)
    assert set(seen) == {32}
    halves, seen, same_loss = trained(digits, "dense", 32, by_image=True)
    assert set(seen) == ({32} if tf.config.list_physical_devices("GPU") else {16})
    assert same_loss == pytest.approx(loss, rel=1e-5)
    for one, other in zip(halves, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("localization", "batch_size"), [("small", 32), ("dense", 31)])
def test_batch_normalization_and_odd_batches_keep_it_whole(digits: Dataset, localization: str, batch_size: int) -> None:
    assert set(trained(digits, localization, batch_size, by_image=True)[1]) == {batch_size}
