"""The invariants that make a sampler a sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core import geometry
from stn_core.datasets import Dataset
from stn_core.sampler import warp

SIZES = [(1, 1), (1, 5), (6, 1), (2, 2), (7, 7), (28, 28), (13, 40), (40, 13), (101, 64)]


def _images(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> Any:
    return rng.random(shape).astype(dtype)


def _thetas(rng: np.random.Generator, count: int, spread: float = 0.4) -> Any:
    return geometry.identity(count) + rng.normal(0, spread, (count, 2, 3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fill_mode", ["constant", "edge", "reflect"])
def test_identity_returns_the_input_bit_for_bit(size: Any, channels: int, dtype: Any, fill_mode: Any) -> None:
    images = _images(np.random.default_rng(0), 3, *size, channels, dtype=dtype)
    out = warp(tf.constant(images), tf.constant(geometry.identity(3), dtype), fill_mode=fill_mode, fill_value=0.7)
    np.testing.assert_array_equal(out.numpy(), images)


def test_identity_is_exact_for_every_side_up_to_200() -> None:
    for side in range(1, 201):
        images = _images(np.random.default_rng(side), 1, side, 3, 1)
        np.testing.assert_array_equal(warp(tf.constant(images), tf.constant(geometry.IDENTITY[None])).numpy(), images)


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -2), (-5, 4), (27, 0), (28, 0)])
def test_a_whole_pixel_shift_equals_slicing(digits: Dataset, shift: tuple[int, int]) -> None:
    images = digits.images[:4].astype(np.float32) / 255
    right, down = shift
    theta = np.tile([[[1, 0, -2 * right / 28], [0, 1, -2 * down / 28]]], (4, 1, 1))
    expected = np.zeros_like(images)
    ys, xs = np.arange(28) - down, np.arange(28) - right
    inside = np.ix_(range(4), (ys >= 0) & (ys < 28), (xs >= 0) & (xs < 28))
    expected[inside] = images[np.ix_(range(4), ys[(ys >= 0) & (ys < 28)], xs[(xs >= 0) & (xs < 28)])]
    np.testing.assert_allclose(warp(tf.constant(images), tf.constant(theta)).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("output_size", [(28, 28), (14, 14), (56, 56), (37, 19), (1, 1), (100, 3)])
def test_another_output_size_equals_tf_image_resize(digits: Dataset, output_size: tuple[int, int]) -> None:
    images = tf.constant(digits.images[:4].astype(np.float32) / 255)
    out = warp(images, tf.constant(geometry.identity(4)), output_size, fill_mode="edge")
    expected = tf.image.resize(images, output_size, method="bilinear", antialias=False)
    np.testing.assert_allclose(out.numpy(), expected.numpy(), atol=1e-5)


def test_a_scale_equals_resizing_the_middle(digits: Dataset) -> None:
    images = tf.constant(digits.images[:4].astype(np.float32) / 255)
    theta = np.tile([[[0.5, 0, 0], [0, 0.5, 0]]], (4, 1, 1))  # the middle half, enlarged twice
    expected = tf.image.resize(images, (56, 56))[:, 14:42, 14:42]
    np.testing.assert_allclose(warp(images, tf.constant(theta)).numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("fill_mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    ("size", "output_size", "channels"), [((9, 7), (6, 11), 3), ((1, 4), (5, 5), 1), ((8, 8), (8, 8), 2)]
)
def test_equals_the_oracle(fill_mode: Any, size: Any, output_size: Any, channels: int) -> None:
    rng = np.random.default_rng(1)
    images, theta = _images(rng, 6, *size, channels, dtype=np.float64), _thetas(rng, 6, 0.6)
    out = warp(tf.constant(images), tf.constant(theta), output_size, fill_mode, 0.3)
    expected = sampler_oracle.warp(images, theta, output_size, fill_mode, 0.3)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-12)


def test_there_and_back_again_returns_a_smooth_image_where_it_stayed_inside() -> None:
    y, x = np.mgrid[0:64, 0:64] / 64
    image = (0.5 + 0.25 * np.sin(5 * x) + 0.25 * np.cos(4 * y))[None, ..., None]
    angle, scale = 0.4, 0.9
    theta = np.array([[[scale * np.cos(angle), -np.sin(angle), 0.05], [np.sin(angle), scale * np.cos(angle), -0.1]]])

    def there_and_back(images: Any) -> Any:
        return warp(warp(tf.constant(images), tf.constant(theta)), tf.constant(geometry.invert(theta))).numpy()

    inside = there_and_back(np.ones_like(image)) > 0.999
    assert inside.mean() > 0.5
    np.testing.assert_allclose(there_and_back(image)[inside], image[inside], atol=2e-3)


def test_composing_thetas_equals_composing_linear_warps() -> None:
    # A ramp is reproduced exactly by bilinear sampling, so two warps must equal one by the composed theta.
    y, x = np.mgrid[0:40, 0:60].astype(np.float64)
    ramp = np.stack([x, y], axis=-1)[None]
    rng = np.random.default_rng(2)
    first, then = (geometry.identity(1) * 0.5 + rng.normal(0, 0.05, (1, 2, 3)) for _ in range(2))
    twice = warp(warp(tf.constant(ramp), tf.constant(first)), tf.constant(then))
    once = warp(tf.constant(ramp), tf.constant(geometry.compose(first, then)))
    np.testing.assert_allclose(twice.numpy(), once.numpy(), atol=1e-9)


def test_far_outside_and_huge_coordinates_give_the_fill_value() -> None:
    images = tf.ones([2, 5, 5, 1])
    theta = tf.constant([[[1.0, 0, 50], [0, 1, 0]], [[1e9, 0, 3e9], [0, 1e9, 0]]])
    np.testing.assert_array_equal(warp(images, theta, fill_value=0.25).numpy(), np.full((2, 5, 5, 1), 0.25, np.float32))


def test_gradients_of_theta_and_images_equal_finite_differences() -> None:
    rng = np.random.default_rng(3)
    images, theta = _images(rng, 2, 6, 5, 2, dtype=np.float64), _thetas(rng, 2, 0.15)
    weights = rng.random((2, 7, 4, 2))  # a scalar that depends on every output pixel

    def loss(images: Any, theta: Any) -> Any:
        return tf.reduce_sum(warp(images, theta, (7, 4)) * weights)

    theoretical, numerical = tf.test.compute_gradient(loss, [tf.constant(images), tf.constant(theta)], delta=1e-6)
    for exact, differences in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(exact, differences, atol=1e-6)
        assert np.abs(exact).max() > 0.01


def test_sizes_and_batch_may_be_unknown_when_traced() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None]), tf.TensorSpec([None, 2, 3])])
    def traced(images: Any, theta: Any) -> Any:
        return warp(images, theta)

    rng = np.random.default_rng(4)
    for shape in [(1, 5, 9, 3), (4, 28, 28, 1)]:
        images = _images(rng, *shape)
        np.testing.assert_array_equal(traced(images, geometry.identity(shape[0]).astype(np.float32)).numpy(), images)
        theta = _thetas(rng, shape[0]).astype(np.float32)
        np.testing.assert_allclose(
            traced(images, theta).numpy(), warp(tf.constant(images), tf.constant(theta)).numpy(), atol=2e-5
        )


def test_an_unknown_fill_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="expected constant, edge or reflect, got 'wrap'"):
        warp(tf.ones([1, 2, 2, 1]), tf.constant(geometry.IDENTITY[None]), fill_mode="wrap")  # type: ignore[arg-type]
