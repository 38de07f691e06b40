"""The heads of the localization networks: each regresses its family's numbers and never leaves the family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from stn_core.bundle import load_keras, load_network, read_manifest, write_bundle
from stn_core.classifiers import build_classifier
from stn_core.localization import build_localization, theta_of
from stn_core.recipes import load_recipe
from stn_core.transforms import FAMILIES, THETA_SHAPES, as_shape, identity_like

NUMBERS = {"affine": 6, "similarity": 4, "attention": 3, "homography": 8, "tps": 32}
OBLONG = (20, 32, 1)
every_family = pytest.mark.parametrize("transform", FAMILIES)


@pytest.fixture
def images() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((8, *OBLONG)), tf.float32)


def _head(network: Any) -> Any:
    """The layer that regresses the numbers."""
    theta = network.get_layer("theta")
    return theta if theta.trainable else network.get_layer("numbers")


def _disturbed(transform: str, start: Any = None) -> Any:
    """A network of random weights, far from where it started."""
    network = build_localization("dense", OBLONG, transform=transform, start=start)
    rng = np.random.default_rng(1)
    for weights in (_head(network).kernel, _head(network).bias):
        weights.assign_add(rng.normal(0, 0.3, weights.shape))
    return network


def _in_pixels(theta: Any) -> Any:
    """The linear part of affine thetas as what it does to pixels of an oblong image."""
    half = np.diag([OBLONG[1] / 2, OBLONG[0] / 2])
    return half @ np.asarray(theta, np.float64)[:, :, :2] @ np.linalg.inv(half)


@every_family
def test_a_new_network_answers_the_identity(transform: str, images: tf.Tensor) -> None:
    theta = theta_of(build_localization("dense", OBLONG, transform=transform)(images))
    np.testing.assert_array_equal(theta.numpy(), identity_like(THETA_SHAPES[transform], 8).astype(np.float32))


@every_family
def test_a_new_network_answers_the_start_it_was_given(transform: str, images: tf.Tensor) -> None:
    start = np.array([[0.5, 0.0, 0.1], [0.0, 0.5, -0.2]])
    theta = theta_of(build_localization("dense", OBLONG, transform=transform, start=start)(images))
    expected = as_shape(np.tile(start, (8, 1, 1)), THETA_SHAPES[transform])
    np.testing.assert_array_equal(theta.numpy(), expected.astype(np.float32))


@every_family
def test_it_regresses_as_many_numbers_as_its_family_has(transform: str) -> None:
    network = build_localization("dense", OBLONG, transform=transform)
    assert _head(network).units == NUMBERS[transform]
    assert network.output_shape == (None, np.prod(THETA_SHAPES[transform]))


def test_a_similarity_turns_and_scales_pixels_whatever_the_aspect(images: tf.Tensor) -> None:
    theta = theta_of(_disturbed("similarity")(images)).numpy()
    linear = _in_pixels(theta)
    scale = np.linalg.det(linear)[:, None, None]
    np.testing.assert_allclose(np.swapaxes(linear, 1, 2) @ linear, scale * np.eye(2), atol=1e-5)
    assert (np.abs(linear[:, 0, 1]) > 0.01).all(), "nothing was turned"
    assert np.unique(theta[:, :, 2]).size == 16


def test_attention_scales_and_shifts(images: tf.Tensor) -> None:
    theta = theta_of(_disturbed("attention")(images)).numpy()
    np.testing.assert_array_equal(theta[:, 0, 0], theta[:, 1, 1])
    assert not theta[:, [0, 1], [1, 0]].any()
    assert np.unique(theta[:, 0, 0]).size == 8


def test_the_last_number_of_a_homography_is_1(images: tf.Tensor) -> None:
    theta = theta_of(_disturbed("homography")(images)).numpy()
    assert (theta[:, 2, 2] == 1).all()
    assert (theta[:, 2, :2] != 0).all()


@pytest.mark.parametrize("transform", ["similarity", "attention", "homography"])
def test_training_leaves_the_map_to_theta_as_it_is(transform: str, images: tf.Tensor) -> None:
    network = build_localization("dense", OBLONG, transform=transform)
    theta = network.get_layer("theta")
    assert not theta.trainable
    frozen, numbers = [w.numpy() for w in theta.weights], network.get_layer("numbers").kernel.numpy()
    network.compile("adam", "mse")
    network.fit(images, tf.zeros([8, network.output_shape[1]]), epochs=2, verbose=0)
    for before, after in zip(frozen, theta.weights, strict=True):
        np.testing.assert_array_equal(after.numpy(), before)
    assert (network.get_layer("numbers").kernel.numpy() != numbers).any()


@every_family
def test_every_number_is_learned(transform: str, images: tf.Tensor) -> None:
    network = build_localization("dense", OBLONG, transform=transform)
    weights = np.random.default_rng(2).random(network.output_shape[1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(images) * weights)
    assert (tape.gradient(loss, _head(network).bias).numpy() != 0).all()


@every_family
def test_through_a_bundle_it_stays_the_same(transform: str, images: tf.Tensor, tmp_path: Path) -> None:
    network = _disturbed(transform, start=[[0.9, 0, 0], [0, 0.9, 0]])
    networks = {"localization": network, "classifier": build_classifier("fc", OBLONG, 2)}
    fields = {"name": "b", "created": "2026-01-01", "input_shape": OBLONG, "classes": ["a", "b"]}
    write_bundle(tmp_path / "b", networks, {}, transform=transform, recipe=load_recipe("rotation"), **fields)
    manifest, loaded = read_manifest(tmp_path / "b"), load_network(tmp_path / "b", "localization")
    assert (manifest.transform, manifest.theta_shape) == (transform, THETA_SHAPES[transform])
    np.testing.assert_array_equal(loaded(images).numpy(), network(images).numpy())
    assert [layer.trainable for layer in loaded.layers] == [layer.trainable for layer in network.layers]


def test_the_seed_alone_decides_the_weights() -> None:
    one, same, other = (build_localization("dense", OBLONG, seed, "homography") for seed in (3, 3, 4))
    tf_keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(one.get_weights()[0], same.get_weights()[0])
    assert (one.get_weights()[0] != other.get_weights()[0]).any()


@pytest.mark.parametrize("transform", ["similarity", "attention"])
def test_a_head_behind_a_canvas_of_another_aspect_stays_in_its_family(transform: str) -> None:
    # 28 x 28 in the middle of 40 x 60: in pixels of either, the transform must stay one of the family.
    start = np.array([[28 / 60, 0.0, 0.0], [0.0, 28 / 40, 0.0]])
    network = build_localization("dense", (40, 60, 1), seed=1, transform=transform, start=start)
    np.testing.assert_allclose(network(np.ones((1, 40, 60, 1), np.float32)), [start.reshape(-1)], atol=1e-7)
    numbers = network.get_layer("numbers")
    numbers.set_weights([np.random.default_rng(0).normal(0, 0.1, weight.shape) for weight in numbers.get_weights()])
    theta = network(np.ones((1, 40, 60, 1), np.float32)).numpy().reshape(2, 3)
    in_px = np.diag([30.0, 20.0]) @ theta[:, :2] @ np.diag([1 / 14, 1 / 14])
    np.testing.assert_allclose(in_px.T @ in_px, np.eye(2) * (in_px.T @ in_px)[0, 0], atol=1e-6)
    if transform == "attention":
        np.testing.assert_allclose(in_px, np.eye(2) * in_px[0, 0], atol=1e-6)


def test_of_view_disc_it_sees_nothing_outside_of_the_disc_in_the_middle(images: Any, tmp_path: Path) -> None:
    network = build_localization("dense", OBLONG, view="disc")
    _head(network).kernel.assign(np.random.default_rng(1).normal(size=_head(network).kernel.shape))
    y, x = np.meshgrid(
        np.linspace(-1, 1, 2 * OBLONG[0] + 1)[1::2], np.linspace(-1, 1, 2 * OBLONG[1] + 1)[1::2], indexing="ij"
    )
    outside = tf.constant((x**2 + y**2 > 1)[..., None], tf.float32)
    assert 0.2 < float(tf.reduce_mean(outside)) < 0.23, "a square less its disc: 1 - pi / 4"
    elsewhere = network(images * (1 - outside) + (1 - images) * outside)
    np.testing.assert_array_equal(network(images), elsewhere)
    within = network(images * outside + (1 - images) * (1 - outside))
    assert np.abs(network(images) - within).max() > 0.01
    network.save(tmp_path / "one.keras")
    np.testing.assert_array_equal(load_keras(tmp_path / "one.keras")(images), network(images))
