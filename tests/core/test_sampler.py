"""The invariants that make a sampler a sampler."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core import geometry
from stn_core.datasets import Dataset
from stn_core.sampler import bilinear_sample, source_grid, warp, warp_chain
from stn_core.transforms import as_shape, compose, identity_like, map_points

SHAPES = {"affine": (2, 3), "homography": (3, 3), "spline": (16, 2), "spline of 9": (9, 2)}
FAMILIES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
SIZES = [(1, 1), (1, 5), (6, 1), (2, 2), (7, 7), (28, 28), (13, 40), (40, 13), (101, 64)]


def _images(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> Any:
    return rng.random(shape).astype(dtype)


@FAMILIES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identity_returns_the_input_bit_for_bit(size: Any, dtype: Any, shape: Any) -> None:
    for channels, fill_mode in itertools.product((1, 3, 4), ("constant", "edge", "reflect")):
        images = _images(np.random.default_rng(0), 3, *size, channels, dtype=dtype)
        theta = tf.constant(identity_like(shape, 3), dtype)
        out = warp(tf.constant(images), theta, fill_mode=fill_mode, fill_value=0.7)  # type: ignore[arg-type]
        np.testing.assert_array_equal(out.numpy(), images)


@FAMILIES
def test_identity_is_exact_for_every_side_up_to_200(shape: Any) -> None:
    theta = tf.constant(identity_like(shape, 1), tf.float32)
    for height in range(1, 201):
        width = 201 - height
        x, y = source_grid(theta, (height, width), (height, width))
        np.testing.assert_array_equal(x[0], np.tile(np.arange(width), (height, 1)))
        np.testing.assert_array_equal(y[0], np.tile(np.arange(height)[:, None], (1, width)))


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


@FAMILIES
@pytest.mark.parametrize("fill_mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    ("size", "output_size", "channels"), [((9, 7), (6, 11), 3), ((1, 4), (5, 5), 1), ((8, 8), (8, 8), 2)]
)
def test_equals_the_oracle(shape: Any, fill_mode: Any, size: Any, output_size: Any, channels: int) -> None:
    rng = np.random.default_rng(1)
    images, theta = _images(rng, 4, *size, channels, dtype=np.float64), sampler_oracle.thetas(rng, shape, 4, 0.5)
    out = warp(tf.constant(images), tf.constant(theta), output_size, fill_mode, 0.3)
    expected = sampler_oracle.warp(images, theta, output_size, fill_mode, 0.3)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("output_size", [None, (20, 50)])
@pytest.mark.parametrize("shape", [(3, 3), (16, 2), (49, 2)])
def test_an_affine_transform_is_the_same_warp_in_every_family(digits: Dataset, shape: Any, output_size: Any) -> None:
    images = tf.constant(digits.images[:6].astype(np.float32) / 255)
    theta = sampler_oracle.thetas(np.random.default_rng(3), (2, 3), 6, 0.3)
    expected = warp(images, tf.constant(theta), output_size)
    out = warp(images, tf.constant(as_shape(theta, shape)), output_size)
    np.testing.assert_allclose(out.numpy(), expected.numpy(), atol=5e-5)


def test_beyond_the_horizon_lies_the_fill_value() -> None:
    # The horizon runs through x = -0.5, the middle between columns 1 and 2 of 8.
    theta = tf.constant([[[1.0, 0, 0], [0, 1, 0], [2, 0, 1]]])
    out = warp(tf.ones([1, 8, 8, 1]), theta, fill_value=0.25).numpy()[0, :, :, 0]
    assert (out[:, :2] == 0.25).all()
    assert (out[:, 4:] == 1).all()


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


@FAMILIES
def test_gradients_of_theta_and_images_equal_finite_differences(shape: Any) -> None:
    rng = np.random.default_rng(3)
    images, theta = _images(rng, 2, 6, 5, 2, dtype=np.float64), sampler_oracle.thetas(rng, shape, 2, 0.1)
    weights = rng.random((2, 7, 4, 2))  # a scalar that depends on every output pixel

    def loss(images: Any, theta: Any) -> Any:
        return tf.reduce_sum(warp(images, theta, (7, 4)) * weights)

    theoretical, numerical = tf.test.compute_gradient(loss, [tf.constant(images), tf.constant(theta)], delta=1e-6)
    for exact, differences in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(exact, differences, atol=1e-6)
        assert np.abs(exact).max() > 0.01


@FAMILIES
def test_sizes_and_batch_may_be_unknown_when_traced(shape: Any) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None]), tf.TensorSpec([None, *shape])])
    def traced(images: Any, theta: Any) -> Any:
        return warp(images, theta)

    rng = np.random.default_rng(4)
    for images_shape in [(1, 5, 9, 3), (4, 28, 28, 1), (2, 1, 31, 2)]:
        images, count = _images(rng, *images_shape), images_shape[0]
        unmoved = traced(images, identity_like(shape, count).astype(np.float32))
        np.testing.assert_array_equal(unmoved.numpy(), images)
        theta = sampler_oracle.thetas(rng, shape, count, 0.3).astype(np.float32)
        expected = warp(tf.constant(images), tf.constant(theta)).numpy()
        np.testing.assert_allclose(traced(images, theta).numpy(), expected, atol=5e-5)


@FAMILIES
def test_the_output_keeps_what_is_known_of_its_shape(shape: Any) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 12, 9, 2]), tf.TensorSpec([None, *shape])])
    def traced(images: Any, theta: Any) -> Any:
        assert warp(images, theta).shape.as_list() == [None, 12, 9, 2]
        assert warp(images, theta, (5, 7)).shape.as_list() == [None, 5, 7, 2]
        return images

    traced(tf.zeros([1, 12, 9, 2]), tf.constant(identity_like(shape, 1), tf.float32))


def test_an_unknown_fill_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="expected constant, edge or reflect, got 'wrap'"):
        warp(tf.ones([1, 2, 2, 1]), tf.constant(geometry.IDENTITY[None]), fill_mode="wrap")  # type: ignore[arg-type]


def test_a_chain_of_warps_is_one_warp_by_their_composition() -> None:
    rng = np.random.default_rng(5)
    images = tf.constant(rng.random((3, 11, 14, 2)))
    affine = identity_like((2, 3), 3) + rng.normal(0, 0.2, (3, 2, 3))
    for shape in ((2, 3), (3, 3), (16, 2)):
        then = identity_like(shape, 3) + rng.normal(0, 0.05, (3, *shape))
        if shape == (3, 3):
            then[:, 2, 2] = 1.0
        expected = warp(images, tf.constant(compose(affine, then)), (9, 17), fill_value=0.3)
        chained = warp_chain(images, [tf.constant(affine), tf.constant(then)], (9, 17), fill_value=0.3)
        np.testing.assert_allclose(chained, expected, atol=1e-10)
    # What composes to no family: a spline, then a homography. The points go through one after the other.
    spline = identity_like((16, 2), 3) + rng.normal(0, 0.05, (3, 16, 2))
    homography = identity_like((3, 3), 3) + rng.normal(0, 0.05, (3, 3, 3))
    chained = warp_chain(images, [tf.constant(spline), tf.constant(homography)], (1, 1)).numpy()
    points = map_points(spline, map_points(homography, np.zeros((1, 2))))
    at = (points[:, 0] + 1) * np.array([14, 11]) / 2 - 0.5
    expected = bilinear_sample(images, tf.constant(at[:, None, None, 0]), tf.constant(at[:, None, None, 1]))
    np.testing.assert_allclose(chained, expected, atol=1e-10)
