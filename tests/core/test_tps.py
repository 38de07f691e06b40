"""Thin-plate splines: through every control point, affine where they can be, and the surface Bookstein defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core import geometry, tps
from stn_core.errors import BadTensor
from stn_core.sampler import source_grid

SIDES = range(tps.MIN_SIDE, tps.MAX_SIDE + 1)
POINTS = np.random.default_rng(0).uniform(-1.2, 1.2, (50, 2))


def test_the_control_grid_goes_row_by_row_from_corner_to_corner() -> None:
    assert tps.control_grid(3).tolist() == [
        [-1, -1], [0, -1], [1, -1],
        [-1, 0], [0, 0], [1, 0],
        [-1, 1], [0, 1], [1, 1],
    ]  # fmt: skip
    assert tps.control_grid().shape == (16, 2)


@pytest.mark.parametrize("side", SIDES)
def test_each_control_point_answers_for_itself_alone(side: int) -> None:
    control = tps.control_grid(side)
    np.testing.assert_allclose(tps.basis(control[:, 0], control[:, 1], side), np.eye(side**2), atol=1e-10)


@pytest.mark.parametrize("side", SIDES)
def test_it_passes_through_every_control_point(side: int) -> None:
    theta = sampler_oracle.thetas(np.random.default_rng(side), (side**2, 2), 3, 0.3)
    control = tps.control_grid(side)[None]
    x, y = tps.apply(theta, control[..., 0], control[..., 1])
    np.testing.assert_allclose(np.stack([x, y], axis=-1), theta, atol=1e-10)


@pytest.mark.parametrize("side", SIDES)
def test_affine_transforms_are_reproduced_everywhere(side: int) -> None:
    affine = sampler_oracle.thetas(np.random.default_rng(side), (2, 3), 4, 0.4)
    theta = geometry.map_points(affine, tps.control_grid(side))
    x, y = tps.apply(theta, POINTS[None, :, 0], POINTS[None, :, 1])
    np.testing.assert_allclose(np.stack([x, y], axis=-1), geometry.map_points(affine, POINTS), atol=1e-9)


@pytest.mark.parametrize("side", [3, 4, 7])
def test_between_the_control_points_it_is_bookstein_s_surface(side: int) -> None:
    theta = sampler_oracle.thetas(np.random.default_rng(side), (side**2, 2), 2, 0.3)
    x, y = tps.apply(theta, POINTS[None, :, 0], POINTS[None, :, 1])
    for b, spline in enumerate(map(sampler_oracle.spline, theta)):
        expected = [spline(*point) for point in POINTS]
        np.testing.assert_allclose(np.stack([x[b], y[b]], axis=-1), expected, atol=1e-9)


def test_one_point_pulled_by_hand() -> None:
    # The middle of 3 x 3 pulled by 1 in x: by symmetry the same pull a half step away in x or in y, either way.
    theta = tps.control_grid(3)[None].copy()
    theta[0, 4, 0] = 1.0
    half = np.array([[0.5, 0.0, -0.5, 0.0]]), np.array([[0.0, 0.5, 0.0, -0.5]])
    x, y = tps.apply(theta, *half)
    pull = x - half[0]
    np.testing.assert_allclose(pull, pull[0, 0], atol=1e-12)
    # Half way from 1 to 0, a little more: the surface is round at the top.
    assert 0.5 < pull[0, 0] < 0.65
    np.testing.assert_allclose(y, half[1], atol=1e-12)


def test_tensors_and_arrays_agree() -> None:
    theta, (x, y) = sampler_oracle.thetas(np.random.default_rng(1), (25, 2), 3, 0.2), POINTS.T[:, None]
    tensors = tps.apply(tf.constant(theta), tf.constant(x), tf.constant(y))
    np.testing.assert_allclose(tensors, tps.apply(theta, x, y), atol=1e-12)


def test_a_grid_too_large_to_keep_is_the_same_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = tf.constant(sampler_oracle.thetas(np.random.default_rng(2), (16, 2), 2, 0.2))
    kept = source_grid(theta, (20, 30), (31, 17))
    monkeypatch.setattr(tps, "MAX_KEPT_PX", 0)
    for here, there in zip(kept, source_grid(theta, (20, 30), (31, 17)), strict=True):
        np.testing.assert_allclose(there, here, atol=1e-10)


def test_places_are_the_grid_s_all_at_once_or_row_by_row() -> None:
    theta = sampler_oracle.thetas(np.random.default_rng(3), (9, 2), 2, 0.2)
    grid = source_grid(tf.constant(theta), (20, 30), (31, 17))
    for found, expected in zip(tps.pixel_places(theta, (20, 30), (31, 17)), grid, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    whole = tps.pixel_places(theta, (20, 30), (31, 17))
    for axis in (0, 1):
        bands = [tps.pixel_places(theta, (20, 30), (31, 17), rows)[axis] for rows in (range(7), range(7, 31))]
        np.testing.assert_array_equal(np.concatenate(bands, axis=1), whole[axis])


def test_places_of_large_outputs_are_interpolated_and_hardly_off(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (515, 413)
    theta = sampler_oracle.thetas(np.random.default_rng(4), (16, 2), 1, 0.03)
    exact = tps.pixel_places(theta, size, size)
    monkeypatch.setattr(tps, "MAX_EXACT_PX", 500 * 400)
    bands = [tps.pixel_places(theta, size, size, rows) for rows in (range(333), range(333, 515))]
    identity = tps.pixel_places(tps.control_grid()[None], size, size)
    for axis, line in enumerate((np.arange(size[1]), np.arange(size[0])[:, None])):
        found = np.concatenate([band[axis] for band in bands], axis=1)
        assert 0 < np.abs(found - exact[axis]).max() < 0.05
        np.testing.assert_array_equal(identity[axis][0], np.broadcast_to(line, size))


@pytest.mark.parametrize("points", [0, 4, 8, 15, 17, 121])
def test_a_number_of_control_points_that_makes_no_grid_is_refused(points: int) -> None:
    with pytest.raises(BadTensor, match=f"expected a square number of control points from 9 to 100, got {points}"):
        tps.side_of(points)
    theta: Any = np.zeros((2, points, 2))
    with pytest.raises(BadTensor, match="control points"):
        tps.apply(theta, POINTS[None, :, 0], POINTS[None, :, 1])
