"""The coordinate convention and the algebra of theta, by exact invariants and by values worked out by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stn_core.errors import BadTensor
from stn_core.geometry import (
    CORNERS,
    IDENTITY,
    apply_affine,
    compose,
    from_pixels,
    identity,
    invert,
    map_points,
    pixel_coefficients,
    to_pixels,
)


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[[c, -s, 0.0], [s, c, 0.0]]])


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[[1.0, 0.0, x], [0.0, 1.0, y]]])


def scale(x: float, y: float) -> np.ndarray:
    return np.array([[[x, 0.0, 0.0], [0.0, y, 0.0]]])


numbers = st.floats(-2, 2, width=32)
transforms = st.lists(numbers, min_size=6, max_size=6).map(lambda six: np.array(six).reshape(1, 2, 3))
invertible = transforms.filter(lambda theta: abs(np.linalg.det(theta[0, :, :2])) > 0.05)


# --- from theta to pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identity_coefficients_are_exact_for_every_size(dtype: Any) -> None:
    theta = IDENTITY.astype(dtype)
    for height in range(1, 65):
        for width in range(1, 65):
            for sides in ((height, width), tuple(np.array([height, width], dtype))):
                assert pixel_coefficients(theta, sides, sides) == ((1, 0, 0), (0, 1, 0)), (height, width)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", [1000, 4095, 4096, 16383])
def test_identity_coefficients_are_exact_for_large_images(dtype: Any, side: int) -> None:
    theta = IDENTITY.astype(dtype)
    assert pixel_coefficients(theta, (side, side + 1), (side, side + 1)) == ((1, 0, 0), (0, 1, 0))


@given(theta=transforms, sizes=st.tuples(*[st.integers(1, 40)] * 4))
@settings(max_examples=100, deadline=None)
def test_coefficients_say_the_same_as_normalized_points(theta: np.ndarray, sizes: tuple[int, ...]) -> None:
    input_size, output_size = (sizes[0], sizes[1]), (sizes[2], sizes[3])
    (a, b, c), (d, e, f) = pixel_coefficients(theta[0], input_size, output_size)
    j, i = np.meshgrid(np.arange(output_size[1]), np.arange(output_size[0]))
    direct = np.stack([a * j + b * i + c, d * j + e * i + f], axis=-1).reshape(-1, 2)
    outputs = from_pixels(np.stack([j, i], axis=-1).reshape(-1, 2), output_size)
    assert np.allclose(direct, to_pixels(map_points(theta, outputs)[0], input_size), atol=1e-9)


@pytest.mark.parametrize("pixels", [-3, 1, 2])
def test_a_whole_pixel_shift_is_exact_in_pixels(pixels: int) -> None:
    (a, b, c), (d, e, f) = pixel_coefficients(shift(2 * pixels / 8, 0)[0], (4, 8), (4, 8))
    assert (a, b, c, d, e, f) == (1, 0, pixels, 0, 1, 0)


def test_halving_the_size_samples_between_pixels() -> None:
    assert pixel_coefficients(IDENTITY, (8, 8), (4, 4)) == ((2, 0, 0.5), (0, 2, 0.5))


def test_pixel_centres() -> None:
    assert from_pixels([[0, 0], [3, 1]], (2, 4)).tolist() == [[-0.75, -0.5], [0.75, 0.5]]
    assert to_pixels([[-1, -1], [1, 1]], (2, 4)).tolist() == [[-0.5, -0.5], [3.5, 1.5]]


@given(points=st.lists(st.tuples(numbers, numbers), min_size=1), size=st.tuples(*[st.integers(1, 500)] * 2))
@settings(max_examples=50, deadline=None)
def test_pixels_and_points_are_inverse(points: list[tuple[float, float]], size: tuple[int, int]) -> None:
    assert np.allclose(from_pixels(to_pixels(points, size), size), points, atol=1e-9)


# --- algebra ------------------------------------------------------------------------------------------------------


def test_points_by_hand() -> None:
    # A quarter turn takes (1, 0) to (0, 1) and (0, 1) to (-1, 0).
    assert np.allclose(map_points(rotation(90), [[1, 0], [0, 1]]), [[[0, 1], [-1, 0]]])
    assert map_points(shift(0.5, -1), [[1, 1]]).tolist() == [[[1.5, 0]]]
    assert map_points(scale(2, 3), [[[1, 1]]]).tolist() == [[[2, 3]]]


def test_composition_by_hand() -> None:
    # Warp by a shift, then by a scale: an output point is scaled first, then shifted to where the input has it.
    assert compose(shift(1, 0), scale(2, 2)).tolist() == [[[2, 0, 1], [0, 2, 0]]]
    assert compose(scale(2, 2), shift(1, 0)).tolist() == [[[2, 0, 2], [0, 2, 0]]]


@given(first=transforms, then=transforms)
@settings(max_examples=100, deadline=None)
def test_composition_maps_points_one_after_the_other(first: np.ndarray, then: np.ndarray) -> None:
    both = map_points(compose(first, then), CORNERS)
    assert np.allclose(both, map_points(first, map_points(then, CORNERS)))


@given(theta=invertible)
@settings(max_examples=100, deadline=None)
def test_the_inverse_undoes(theta: np.ndarray) -> None:
    assert np.allclose(compose(theta, invert(theta)), IDENTITY, atol=1e-6)
    assert np.allclose(compose(invert(theta), theta), IDENTITY, atol=1e-6)
    assert np.allclose(invert(invert(theta)), theta, atol=1e-5)


def test_batches_are_independent() -> None:
    thetas = np.concatenate([rotation(30), shift(0.2, 0.1), scale(0.5, 2)])
    one_by_one = np.concatenate([invert(theta[None]) for theta in thetas])
    assert np.array_equal(invert(thetas), one_by_one)
    assert np.array_equal(compose(thetas, identity(3)), thetas)
    assert invert(np.zeros((0, 2, 3))).shape == (0, 2, 3)


def test_a_single_theta_needs_no_batch() -> None:
    assert np.allclose(invert(shift(1, 2)[0]), shift(-1, -2)[0])
    assert map_points(IDENTITY, [[0.5, 0.5]]).tolist() == [[0.5, 0.5]]


def test_float32_stays_float32() -> None:
    theta = rotation(20).astype(np.float32)
    assert compose(theta, theta).dtype == invert(theta).dtype == np.float32


def test_apply_affine_agrees_with_map_points() -> None:
    theta = np.concatenate([rotation(25), shift(0.3, -0.2)])
    x, y = apply_affine(theta, CORNERS[:, 0], CORNERS[:, 1])
    assert np.allclose(np.stack([x, y], axis=-1), map_points(theta, CORNERS))


def test_identity_is_not_shared() -> None:
    identity(2)[:] = 0
    assert identity(1).tolist() == [[[1, 0, 0], [0, 1, 0]]]


# --- what is refused ----------------------------------------------------------------------------------------------

SINGULAR = np.concatenate([identity(1), scale(0, 1)])


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (SINGULAR, "expected invertible transforms, but number 1 has the determinant 0"),
        (scale(1e-5, 1e-5), "number 0 has the determinant 1e-10"),
        (scale(np.nan, 1), "number 0 has the determinant nan"),
        (scale(np.inf, 1), "number 0 has the determinant inf"),
        (SINGULAR[1], "number 0 has the determinant 0"),
    ],
)
def test_what_cannot_be_undone_is_refused(theta: np.ndarray, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        invert(theta)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.zeros((4, 3, 3)), r"expected numbers of the shape \[B, 2, 3\], got float64 \[4, 3, 3\]"),
        (np.zeros(6), r"got float64 \[6\]"),
        ([[1, 0], [0]], "got lists of unequal lengths"),
        (np.full((1, 2, 3), "a"), r"got <U1 \[1, 2, 3\]"),
    ],
)
def test_what_is_not_a_theta_is_refused(theta: Any, message: str) -> None:
    for use in (invert, lambda t: compose(t, t), lambda t: map_points(t, CORNERS)):
        with pytest.raises(BadTensor, match=message):
            use(theta)
