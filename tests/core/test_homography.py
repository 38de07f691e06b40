"""Homographies: four points, the algebra, and which side of the horizon is seen."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stn_core import geometry, homography
from stn_core.errors import BadTensor
from stn_core.geometry import CORNERS
from stn_core.transforms import map_points

TILT = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]]])
"""Divides by 1 + x / 2: the left side goes away by a factor of 2, the right one comes nearer by 1.5."""
TILTED_CORNERS = np.array([[-2, -2], [2 / 3, -2 / 3], [2 / 3, 2 / 3], [-2, 2]])
SHIFT = np.array([[[1.0, 0.0, -3.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])

moves = st.lists(st.floats(-0.3, 0.3), min_size=16, max_size=16).map(lambda all16: np.array(all16).reshape(2, 1, 4, 2))


def test_points_by_hand() -> None:
    assert np.allclose(map_points(TILT, CORNERS), TILTED_CORNERS)
    assert np.allclose(homography.from_points(CORNERS[None], TILTED_CORNERS[None]), TILT)


@given(moved=moves)
@settings(max_examples=100, deadline=None)
def test_four_points_are_mapped_exactly_and_the_inverse_maps_them_back(moved: Any) -> None:
    output, source = CORNERS + moved
    theta = homography.from_points(output, source)
    assert theta.shape == (1, 3, 3)
    assert theta[0, 2, 2] == 1
    np.testing.assert_allclose(map_points(theta, output), source, atol=1e-12)
    np.testing.assert_allclose(map_points(homography.invert(theta), source), output, atol=1e-11)
    np.testing.assert_allclose(homography.from_points(source, output), homography.invert(theta), atol=1e-10)


def test_an_affine_transform_is_found_in_four_points() -> None:
    theta = np.array([[[0.9, -0.4, 0.1], [0.3, 1.2, -0.2]], [[-1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    found = homography.from_points(np.tile(CORNERS, (2, 1, 1)), geometry.map_points(theta, CORNERS))
    np.testing.assert_allclose(found, homography.from_affine(theta), atol=1e-12)


def test_a_batch_equals_one_by_one_bit_for_bit() -> None:
    output, source = CORNERS + np.random.default_rng(0).normal(0, 0.1, (2, 9, 4, 2))
    one_by_one = [homography.from_points(output[k : k + 1], source[k : k + 1]) for k in range(9)]
    np.testing.assert_array_equal(homography.from_points(output, source), np.concatenate(one_by_one))


@given(moved=moves, then=moves)
@settings(max_examples=100, deadline=None)
def test_composition_maps_points_one_after_the_other(moved: Any, then: Any) -> None:
    first, second = (homography.from_points(CORNERS + m[0], CORNERS + m[1] * 0.1) for m in (moved, then))
    points = CORNERS * 0.3  # in front of both horizons
    one_by_one = map_points(first, map_points(second, points))
    np.testing.assert_allclose(map_points(homography.compose(first, second), points), one_by_one, atol=1e-9)
    np.testing.assert_allclose(homography.compose(first, homography.invert(first)), np.eye(3)[None], atol=1e-9)


def test_what_is_seen_stays_seen_where_the_centre_lies_beyond_the_horizon() -> None:
    # Shifted by 3, the image's centre is read at -3, beyond the horizon of TILT at -2; (2, 1) is read at (-1, 1).
    both = homography.compose(TILT, SHIFT)
    assert both.tolist() == [[[2, 0, -6], [0, 2, 0], [1, 0, -1]]]
    assert map_points(both, [[2, 1], [3, 0]]).tolist() == [[[-2, 2], [0, 0]]]
    np.testing.assert_allclose(map_points(homography.invert(both), [[-2, 2], [0, 0]]), [[[2, 1], [3, 0]]], atol=1e-12)
    seen = CORNERS[None] + np.array([3, 0])
    np.testing.assert_allclose(homography.from_points(seen, map_points(both, seen)), both, atol=1e-14)


def test_beyond_the_horizon_lies_nothing_near() -> None:
    beyond = np.array([[-2.0, 0.3], [-2.001, -1.0], [-5.0, 1.0]])
    assert np.abs(map_points(TILT, beyond)).max(axis=2).min() > 100


@pytest.mark.parametrize("line", sorted({tuple(sorted(three)) for three in permutations(range(4), 3)}))
@pytest.mark.parametrize("slope", [(1.0, 0.0), (0.3, 0.7), (0.1, 0.1)])
def test_three_points_on_a_line_are_refused(line: tuple[int, ...], slope: tuple[float, float]) -> None:
    points = CORNERS.copy()
    points[list(line)] = np.array([-1, 0.5, 1])[:, None] * slope + [0.1, 0.2]
    for output, source in ((points, CORNERS), (CORNERS, points)):
        with pytest.raises(BadTensor, match="expected four points, no three of them on a line"):
            homography.from_points(output[None], source[None])


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.stack([np.eye(3), np.ones((3, 3))]), "but number 1 has the determinant 0"),
        (np.diag([1e-5, 1e-5, 1.0])[None], "number 0 has the determinant 1e-10"),
        (np.full((1, 3, 3), np.nan), "number 0 has the determinant nan"),
    ],
)
def test_what_cannot_be_undone_is_refused(theta: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=f"expected invertible homographies, .*{message}"):
        homography.invert(theta)


def test_float32_stays_float32() -> None:
    theta = TILT.astype(np.float32)
    assert homography.compose(theta, theta).dtype == homography.invert(theta).dtype == np.float32
    assert homography.from_affine(theta[:, :2]).dtype == np.float32
