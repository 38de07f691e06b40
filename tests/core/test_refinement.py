"""Iterative refinement: what several looks of a localization network amount to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf
import tf_keras

from stn_core import transforms
from stn_core.localization import theta_of
from stn_core.refinement import composed, localize, localize_each
from stn_core.sampler import warp
from stn_core.transforms import identity_like

AFFINE, HOMOGRAPHY, SPLINE = (2, 3), (3, 3), (16, 2)


def _network(shape: tuple[int, int]) -> Any:
    """A network of random weights whose thetas are near the identity."""
    tf_keras.utils.set_random_seed(0)
    start = tf_keras.initializers.Constant(identity_like(shape).reshape(-1).tolist())
    small = tf_keras.initializers.RandomNormal(stddev=0.02)
    numbers = shape[0] * shape[1]
    return tf_keras.Sequential([tf_keras.layers.Flatten(), tf_keras.layers.Dense(numbers, None, True, small, start)])


@pytest.fixture
def images() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((4, 10, 12, 1)), tf.float32)


@pytest.mark.parametrize(
    ("first", "then"),
    [(AFFINE, AFFINE), (AFFINE, HOMOGRAPHY), (HOMOGRAPHY, AFFINE), (HOMOGRAPHY, HOMOGRAPHY), (AFFINE, SPLINE)],
)
def test_tensors_compose_as_arrays_do(first: tuple[int, int], then: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    one, two = (sampler_oracle.thetas(rng, shape, 6, 0.3) for shape in (first, then))
    tensors = composed(tf.constant(one), tf.constant(two))
    np.testing.assert_allclose(tensors.numpy(), transforms.compose(one, two), atol=1e-12)


def test_no_composition_divides_by_zero() -> None:
    # The centre is read at -2, on the horizon of the first.
    tilt = tf.constant([[[1.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]])
    shift = tf.constant([[[1.0, 0, -2], [0, 1, 0]]])
    np.testing.assert_array_equal(composed(tilt, shift).numpy(), [[[1, 0, -2], [0, 1, 0], [0.5, 0, 0]]])


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_each_pass_looks_at_what_the_last_one_straightened(
    shape: tuple[int, int], passes: int, images: tf.Tensor
) -> None:
    network = _network(shape)
    by_hand = [theta_of(network(images)).numpy()]
    for _ in range(passes - 1):
        straighter = warp(images, tf.constant(by_hand[-1]), fill_value=0.5)
        by_hand.append(transforms.compose(by_hand[-1], theta_of(network(straighter)).numpy()))
    each = localize_each(network, images, passes, 0.5, training=False)
    assert len(each) == passes
    for theta, expected in zip(each, by_hand, strict=True):
        np.testing.assert_allclose(theta.numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(localize(network, images, passes, 0.5, training=False), each[-1])


def test_one_pass_serves_a_spline(images: tf.Tensor) -> None:
    network = _network(SPLINE)
    np.testing.assert_array_equal(localize(network, images, 1, 0.0, training=False), theta_of(network(images)))


def test_a_pass_learns_from_its_own_correction_alone(images: tf.Tensor) -> None:
    network = _network(AFFINE)
    with tf.GradientTape(persistent=True) as tape:
        first, second = localize_each(network, images, 2, 0.0, training=True)
        correction = theta_of(network(tf.constant(warp(images, first).numpy())))
        expected = tf.reduce_sum(composed(tf.constant(first.numpy()), correction) ** 2)
        loss = tf.reduce_sum(second**2)
    for own, wanted in zip(
        tape.gradient(loss, network.trainable_variables),
        tape.gradient(expected, network.trainable_variables),
        strict=True,
    ):
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(own, wanted, rtol=1e-3, atol=1e-4)
