from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core.augment import augment
from stn_core.backends.tensorflow import TensorFlowBackend
from stn_core.bundle import check_fields, load_network
from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadData, BadTensor, Unsupported
from stn_core.evaluation import evaluate
from stn_core.geometry import identity
from stn_core.layers import SpatialTransformer
from stn_core.localization import build_localization, theta_of
from stn_core.recipes import load_recipe
from stn_core.sampler import warp
from stn_core.transforms import compose


def test_it_gives_what_the_layer_and_the_networks_give(engine: Engine, digits: Dataset) -> None:
    images = augment(digits.images[:100], load_recipe("tutorial-mix"), 1).images
    layer = SpatialTransformer(load_network("digits", "localization"))
    classifier = load_network("digits", "classifier")
    straight = layer(tf.constant(images / 255, tf.float32), training=False)
    expected = tf.nn.softmax(classifier(straight, training=False)).numpy()
    rectified, theta = engine.rectify((images / 255).astype(np.float32))
    label, probabilities = engine.classify(rectified)
    np.testing.assert_allclose(rectified, straight.numpy(), atol=1e-4)
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    np.testing.assert_array_equal(label, expected.argmax(axis=1))
    assert theta.dtype == np.float32
    assert label.dtype == np.int64


def test_8_bits_in_8_bits_out_and_the_same_theta(engine: Engine, digits: Dataset) -> None:
    images = augment(digits.images[:50], load_recipe("tutorial-mix"), 1).images
    rectified, theta = engine.rectify(images)
    as_float, theta_float = engine.rectify((images / 255).astype(np.float32))
    assert rectified.dtype == np.uint8
    np.testing.assert_allclose(theta, theta_float, atol=1e-5)
    np.testing.assert_allclose(rectified, as_float * 255, atol=0.51)  # half a grey level, and the theta's rounding


def test_the_batch_an_image_comes_in_does_not_change_its_answer(engine: Engine, digits: Dataset) -> None:
    images = digits.images[:33]
    _, theta = engine.rectify(images)
    alone = np.concatenate([engine.localize(images[k : k + 1]) for k in range(33)])
    np.testing.assert_allclose(alone, theta, atol=1e-5)


def test_warping_by_the_identity_returns_any_image(engine: Engine) -> None:
    for shape, dtype in [((2, 1, 1, 1), np.uint8), ((1, 300, 201, 3), np.uint8), ((3, 17, 40, 4), np.float32)]:
        images = (np.random.default_rng(0).random(shape) * (255 if dtype == np.uint8 else 1)).astype(dtype)
        np.testing.assert_array_equal(engine.warp(images, identity(len(images))), images)


def test_one_engine_warps_by_every_family_at_any_size(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    for count, size in ((3, None), (5, (9, 14)), (1, None), (4, (30, 6))):
        images = rng.random((count, 20, 12, 2)).astype(np.float32)
        for shape in ((2, 3), (3, 3), (16, 2), (9, 2)):
            theta = sampler_oracle.thetas(rng, shape, count, 0.2)
            expected = warp(tf.constant(images), tf.constant(theta, tf.float32), size)
            np.testing.assert_allclose(engine.warp(images, theta, size), expected.numpy(), atol=5e-5)


def _small_engine(**fields: Any) -> tuple[Engine, dict[str, Any]]:
    """An engine for images of 20 x 16 px, or others, with networks of random weights, and the networks."""
    manifest = check_fields(
        {"name": "small", "created": "2026-01-01", "input_shape": (20, 16, 1), "classes": ["a", "b"],
         "recipe": load_recipe("rotation"), **fields}
    )  # fmt: skip
    networks = {
        "localization": build_localization("dense", manifest.input_shape, transform=manifest.transform),
        "classifier": build_classifier("fc", manifest.rectified_shape, 2),
    }
    head = networks["localization"].layers[-1 if networks["localization"].layers[-1].trainable else -2]
    head.kernel.assign(np.random.default_rng(1).normal(0, 0.05, head.kernel.shape))
    return Engine(manifest, TensorFlowBackend(manifest, networks)), networks


@pytest.mark.parametrize("transform", ["affine", "attention", "homography"])
@pytest.mark.parametrize("fill_fraction", [0.0, 1.0])
def test_two_passes_equal_two_passes_by_hand(transform: str, fill_fraction: float) -> None:
    engine, networks = _small_engine(transform=transform, passes=2, fill_fraction=fill_fraction)
    images = tf.constant(np.random.default_rng(2).random((6, 20, 16, 1)), tf.float32)
    first = theta_of(networks["localization"](images))
    straighter = warp(images, first, fill_value=fill_fraction)
    then = theta_of(networks["localization"](straighter))
    expected = compose(first.numpy(), then.numpy())
    rectified, theta = engine.rectify(images.numpy())
    np.testing.assert_allclose(theta, expected, atol=1e-5)
    assert np.abs(theta - first.numpy()).max() > 0.01, "the second look changed nothing"
    # The source image is warped once, by the composed theta.
    once = warp(images, tf.constant(expected, tf.float32), fill_value=fill_fraction)
    np.testing.assert_allclose(rectified, once.numpy(), atol=1e-4)


@pytest.mark.parametrize("transform", ["similarity", "tps"])
def test_the_straightened_images_may_have_another_size(transform: str) -> None:
    engine, networks = _small_engine(transform=transform, rectified_size=(10, 12))
    images = np.random.default_rng(2).random((3, 20, 16, 1)).astype(np.float32)
    rectified, theta = engine.rectify(images)
    assert rectified.shape == (3, 10, 12, 1)
    assert theta.shape == (3, *engine.manifest.theta_shape)
    np.testing.assert_array_equal(rectified, engine.warp(images, theta, (10, 12)))
    label, _ = engine.classify(rectified)
    np.testing.assert_array_equal(label, networks["classifier"](rectified).numpy().argmax(axis=1))
    with pytest.raises(BadTensor, match=r"expected uint8 or float32 \[N, 10, 12, 1\], got float32 \[3, 20, 16, 1\]"):
        engine.classify(images)
    engine.warm_up()


def test_threads_share_an_engine(engine: Engine, digits: Dataset) -> None:
    expected = engine.rectify(digits.images[:64])[0]
    with ThreadPoolExecutor(4) as pool:
        for rectified in pool.map(lambda _: engine.rectify(digits.images[:64])[0], range(12)):
            np.testing.assert_array_equal(rectified, expected)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 28, 28), np.uint8),
        np.zeros((2, 32, 28, 1), np.uint8),
        np.zeros((2, 28, 28, 3), np.uint8),
        np.zeros((2, 28, 28, 1), np.float64),
    ],
)
def test_wrong_images_are_refused(engine: Engine, images: Any) -> None:
    with pytest.raises(BadTensor, match=r"expected uint8 or float32 \[N, 28, 28, 1\], got"):
        engine.localize(images)


def test_a_theta_for_each_image_and_a_network_for_each_call(engine: Engine) -> None:
    with pytest.raises(BadTensor, match=r"theta: expected 3, one for each image, got 2"):
        engine.warp(np.zeros((3, 8, 8, 1), np.uint8), identity(2))
    with pytest.raises(BadTensor, match=r"expected the shape \[B, 2, 3\] \(affine\), .*, got \[3, 6\]"):
        engine.warp(np.zeros((3, 8, 8, 1), np.uint8), np.zeros((3, 6)))
    half = Engine.load("digits", networks=("localization",))
    with pytest.raises(Unsupported, match="without the classifier"):
        half.classify(np.zeros((1, 28, 28, 1), np.uint8))


def test_the_shipped_bundle_straightens_digits_it_was_not_trained_on(engine: Engine, digits: Dataset) -> None:
    # The sample's digits are the validation set of the shipped bundle; its test figures are in metrics.json.
    result = evaluate(engine, digits, load_recipe("tutorial-mix"), seed=11)
    assert result.accuracy_original > 0.99
    assert result.accuracy_distorted > 0.985
    assert result.accuracy_distorted_unrectified < 0.95
    assert result.corner_error_px.median < 1.0
    assert result.corner_error_unrectified_px.median > 6.5
    assert result.hurt_rate < 0.006
    assert result.helped_rate > 10 * result.hurt_rate


def test_other_classes_than_the_bundles_are_not_measured(engine: Engine, digits: Dataset) -> None:
    letters = dataclasses.replace(digits, classes=tuple("abcdefghij"))
    with pytest.raises(BadData, match="expected the bundle's 10 classes"):
        evaluate(engine, letters, load_recipe("rotation"), seed=1)
