"""Images rendered in other ways: the kernels are Pillow's, and theta means the same whatever made the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import sample_digits, to_float
from stn_core.geometry import identity
from stn_core.native import warp
from stn_core.recipes import load_recipe, theta_shape_of
from stn_core.rendering import ALL_RENDERINGS, KERNELS, Kernel, Rendering, render, resample
from stn_core.stream import DistortionStream

PILLOWS = {"box": "BOX", "triangle": "BILINEAR", "cubic": "BICUBIC", "lanczos": "LANCZOS"}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(39, 51), (26, 17), (7, 5), (13, 17)])
def test_resampling_is_pillows(kernel: Kernel, size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, 13, 17, 3), np.float32)
    found = resample(images, size, kernel)
    assert found.dtype == np.float32
    for image, one in zip(images, found, strict=True):
        for channel in range(3):
            picture = Image.fromarray(image[..., channel])
            expected = picture.resize((size[1], size[0]), getattr(Image.Resampling, PILLOWS[kernel]))
            np.testing.assert_allclose(one[..., channel], expected, atol=1e-6)


def test_enlarged_and_reduced_by_boxes_an_image_is_what_it_was() -> None:
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    found = render(images, identity(3), (28, 28), Rendering(3, "box", "box"))
    np.testing.assert_allclose(found, images, atol=1e-6)


@pytest.mark.parametrize("rendering", ALL_RENDERINGS, ids=str)
def test_theta_means_the_same_whatever_made_the_pixels(rendering: Rendering) -> None:
    """A smooth image, which all kernels reproduce, comes out as one bilinear warp makes it."""
    y, x = np.mgrid[0:28, 0:28].astype(np.float32)
    smooth = np.exp(-((x - 12) ** 2 + (y - 16) ** 2) / 40)[None, ..., None].astype(np.float32)
    theta = np.array([[[0.8, 0.5, 0.1], [-0.5, 0.8, -0.15]]])
    found = render(smooth, theta, (28, 28), rendering)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found, warp(smooth, theta), atol=0.03)


@pytest.mark.parametrize("recipe", ["tutorial-mix", "rotation-scale-translation", "perspective", "elastic"])
def test_a_stream_renders_about_the_share_and_keeps_its_thetas(recipe: str) -> None:
    digits = sample_digits()
    plain, rendered, again = (
        next(DistortionStream(digits.images, digits.labels, load_recipe(recipe), 64, 0.15, 3, None, share).batches())
        for share in (0.0, 0.5, 0.5)
    )
    np.testing.assert_array_equal(rendered.theta, plain.theta)
    assert rendered.theta.shape[1:] == theta_shape_of(load_recipe(recipe))
    np.testing.assert_array_equal(rendered.images, again.images)
    differ = np.abs(rendered.images.numpy() - plain.images.numpy()).max(axis=(1, 2, 3)) > 1e-3
    assert 0.25 < differ.mean() < 0.75


def test_a_recipe_that_no_other_resolution_knows_is_left_alone() -> None:
    digits = sample_digits()
    recipe = load_recipe("translated-clutter")
    plain, asked = (
        next(DistortionStream(digits.images, digits.labels, recipe, 16, 0.15, 3, None, share).batches())
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(asked.images, plain.images)


def test_fill_is_kept() -> None:
    images = to_float(sample_digits().images[:2])
    far_away = np.array([[[1, 0, 9], [0, 1, 9]]] * 2, np.float64)
    found = render(images, far_away, (28, 28), Rendering(2, "lanczos", "cubic"), fill_fraction=1.0)
    np.testing.assert_allclose(found, 1, atol=1e-6)
