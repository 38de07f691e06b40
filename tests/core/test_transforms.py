"""What holds for every family of theta, and between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core import tps, transforms
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import CORNERS, identity
from stn_core.transforms import (
    FAMILIES,
    THETA_SHAPES,
    as_shape,
    check_shape,
    compose,
    corner_errors_px,
    family,
    identity_like,
    invert,
    map_points,
    theta_shape,
)

AFFINE, HOMOGRAPHY, SPLINE = (2, 3), (3, 3), (16, 2)
POINTS = np.random.default_rng(0).uniform(-1, 1, (20, 2))


def _thetas(shape: tuple[int, int], count: int = 5, spread: float = 0.1, seed: int = 0) -> Any:
    return sampler_oracle.thetas(np.random.default_rng(seed), shape, count, spread)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[[1.0, 0.0, x], [0.0, 1.0, y]]])


def scale(x: float, y: float) -> np.ndarray:
    return np.array([[[x, 0.0, 0.0], [0.0, y, 0.0]]])


# --- families told apart by shape ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "shape"), [(6, (2, 3)), (9, (3, 3)), (18, (9, 2)), (32, (16, 2)), (50, (25, 2)), (200, (100, 2))]
)
def test_the_number_of_numbers_tells_the_family(numbers: int, shape: tuple[int, int]) -> None:
    assert theta_shape(numbers) == shape
    check_shape((4, *shape))


@pytest.mark.parametrize("numbers", [0, 1, 3, 4, 8, 19, 33, 34, 242])
def test_other_numbers_make_no_theta(numbers: int) -> None:
    with pytest.raises(BadTensor, match=f"theta: expected .*, got {numbers if numbers % 2 else numbers // 2}$"):
        theta_shape(numbers)


@pytest.mark.parametrize(
    "shape", [(2, 3), (1, 3, 2), (1, 4, 2), (1, 15, 2), (1, 121, 2), (1, 16, 3), (1, 0, 2), (1, 3, 4)]
)
def test_other_shapes_are_refused_with_those_there_are(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadTensor, match=r"\[B, 2, 3\] \(affine\), .* K from 3 to 10\), got \["):
        check_shape(shape)


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY, SPLINE, (100, 2)])
def test_the_identity_leaves_points_where_they_are(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(map_points(identity_like(shape, 3), POINTS), np.tile(POINTS, (3, 1, 1)), atol=1e-12)
    identity_like(shape, 2)[:] = 0
    assert identity_like(shape, 1).any()


# --- from one family to another -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY, SPLINE, (36, 2)])
def test_an_affine_transform_is_the_same_in_every_family(shape: tuple[int, int]) -> None:
    theta = _thetas(AFFINE, spread=0.5)
    given = as_shape(theta, shape)
    assert given.shape == (5, *shape)
    np.testing.assert_allclose(map_points(given, POINTS), map_points(theta, POINTS), atol=1e-10)


@pytest.mark.parametrize(
    ("have", "wanted"), [(HOMOGRAPHY, AFFINE), (HOMOGRAPHY, SPLINE), (SPLINE, AFFINE), (SPLINE, (9, 2))]
)
def test_no_family_is_forced_into_a_smaller_one(have: tuple[int, int], wanted: tuple[int, int]) -> None:
    with pytest.raises(Unsupported, match=r"theta: \[5, \d+, \d\] cannot be given as \[5, \d+, \d\]"):
        as_shape(_thetas(have), wanted)


COMPOSABLE = [(AFFINE, AFFINE), (AFFINE, HOMOGRAPHY), (HOMOGRAPHY, AFFINE), (HOMOGRAPHY, HOMOGRAPHY), (AFFINE, SPLINE)]


@pytest.mark.parametrize(("first", "then"), COMPOSABLE)
def test_composition_maps_points_one_after_the_other(first: tuple[int, int], then: tuple[int, int]) -> None:
    one, two = _thetas(first, seed=1), _thetas(then, seed=2)
    np.testing.assert_allclose(
        map_points(compose(one, two), POINTS), map_points(one, map_points(two, POINTS)), atol=1e-9
    )
    assert compose(one, two).shape[1:] == (then if SPLINE in (first, then) else max(first, then))


@pytest.mark.parametrize(
    ("first", "then"), [(SPLINE, AFFINE), (SPLINE, SPLINE), (HOMOGRAPHY, SPLINE), (SPLINE, HOMOGRAPHY)]
)
def test_what_no_family_holds_is_refused(first: tuple[int, int], then: tuple[int, int]) -> None:
    with pytest.raises(Unsupported, match="a thin-plate spline composes only with an affine transform before it"):
        compose(_thetas(first), _thetas(then))


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY])
def test_the_inverse_undoes(shape: tuple[int, int]) -> None:
    theta = _thetas(shape, spread=0.3)
    np.testing.assert_allclose(compose(theta, invert(theta)), identity_like(shape, 5), atol=1e-12)
    np.testing.assert_allclose(compose(invert(theta), theta), identity_like(shape, 5), atol=1e-12)


def test_a_spline_has_no_inverse() -> None:
    with pytest.raises(Unsupported, match="a thin-plate spline has no inverse of its kind"):
        invert(_thetas(SPLINE))


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY, SPLINE])
def test_tensors_and_arrays_agree(shape: tuple[int, int]) -> None:
    theta, points = _thetas(shape), np.tile(POINTS, (5, 1, 1))
    tensors = transforms.apply(tf.constant(theta), tf.constant(points[..., 0]), tf.constant(points[..., 1]))
    np.testing.assert_allclose(np.stack(tensors, axis=-1), map_points(theta, points), atol=1e-12)
    np.testing.assert_allclose(map_points(theta, POINTS), map_points(theta, points), atol=1e-12)


# --- how straight -------------------------------------------------------------------------------------------------


def test_corner_errors_by_hand() -> None:
    size = (20, 40)
    # A shift by (0.1, 0) of a width of 40 px: every corner is off by 0.1 * 40 / 2 = 2 px.
    assert np.allclose(corner_errors_px(identity(1), shift(0.1, 0), size), [2])
    # A shift by (0.3, 0.8): 6 px in x, 8 px in y, 10 px in all.
    assert np.allclose(corner_errors_px(identity(1), shift(0.3, 0.8), size), [10])
    # Half size: each corner is halfway to the centre, a quarter of the diagonal of 20 x 40 away.
    assert np.allclose(corner_errors_px(identity(1), scale(0.5, 0.5), size), [np.hypot(20, 40) / 4])
    # A half turn: each corner lies opposite, a whole diagonal away.
    assert np.allclose(corner_errors_px(scale(-1, -1), identity(1), size), [np.hypot(20, 40)])
    # Mirrored in x: a whole width away.
    assert np.allclose(corner_errors_px(scale(-1, 1), identity(1), size), [40])


@pytest.mark.parametrize("true", [AFFINE, HOMOGRAPHY])
@pytest.mark.parametrize("predicted", [AFFINE, HOMOGRAPHY, SPLINE])
def test_corner_errors_do_not_depend_on_how_a_transform_is_given(
    true: tuple[int, int], predicted: tuple[int, int]
) -> None:
    made, undone = _thetas(AFFINE, seed=3), _thetas(AFFINE, seed=4)
    expected = corner_errors_px(made, undone, (20, 40))
    np.testing.assert_allclose(
        corner_errors_px(as_shape(made, true), as_shape(undone, predicted), (20, 40)), expected, atol=1e-9
    )


@pytest.mark.parametrize("shape", [AFFINE, HOMOGRAPHY])
def test_the_exact_inverse_leaves_no_corner_error(shape: tuple[int, int]) -> None:
    theta = _thetas(shape, spread=0.3)
    assert corner_errors_px(theta, invert(theta), (28, 28)).max() < 1e-9


def test_a_bent_image_is_measured_at_its_control_points() -> None:
    # One of 16 control points moved by 3 px in x and 4 px in y of 20 x 40, 5 px in all.
    theta = identity_like(SPLINE, 1)
    theta[0, 5] += [3 * 2 / 40, 4 * 2 / 20]
    np.testing.assert_allclose(corner_errors_px(theta, identity(1), (20, 40)), [5 / 16])
    assert len(transforms.measuring_points(SPLINE)) == 16
    np.testing.assert_array_equal(transforms.measuring_points(HOMOGRAPHY), CORNERS)


# --- what a head regresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "numbers"), [("affine", 6), ("similarity", 4), ("attention", 3), ("homography", 8), ("tps", 32)]
)
def test_a_family_starts_at_the_identity_and_moves_in_as_many_directions_as_documented(name: str, numbers: int) -> None:
    each = family(name, aspect=0.7)
    size = each.theta_shape[0] * each.theta_shape[1]
    assert each.theta_shape == THETA_SHAPES[name]
    assert each.directions.shape == (numbers, size)
    assert np.linalg.matrix_rank(each.directions) == numbers
    np.testing.assert_array_equal(each.start.reshape(each.theta_shape), identity_like(each.theta_shape))


def test_families_by_hand() -> None:
    # A quarter turn of pixels on 20 x 40: to the right by half a width is down by half a width, which is one height.
    turn = family("similarity", aspect=0.5)
    theta = (turn.start + np.array([-1.0, 1.0, 0.1, 0.2]) @ turn.directions).reshape(2, 3)
    assert theta.tolist() == [[0, -0.5, 0.1], [2, 0, 0.2]]
    window = family("attention")
    theta = (window.start + np.array([-0.5, 0.1, 0.2]) @ window.directions).reshape(2, 3)
    assert theta.tolist() == [[0.5, 0, 0.1], [0, 0.5, 0.2]]


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected one of affine, similarity, attention, homography, tps, got 'warp'"):
        family("warp")
    assert set(FAMILIES) == set(THETA_SHAPES)
    assert THETA_SHAPES["tps"] == (tps.SIDE**2, 2)
