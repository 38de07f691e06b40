"""Splines backwards: Newton's method finds what is there, and says where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stn_core import geometry, tps
from stn_core.tps_inverse import output_points
from stn_core.transforms import map_points

PER_SPLINE = 20


def _splines(side: int, spread: float, count: int, seed: int = 0) -> Any:
    moves = np.random.default_rng(seed).normal(0, spread, (count, side**2, 2))
    return tps.control_grid(side) + moves


def _there_and_back(theta: Any, reach: float) -> tuple[Any, Any, Any]:
    """Random places up to ``reach`` from the centre, what is found for their sources, and how far off that reads."""
    of = np.repeat(np.arange(len(theta)), PER_SPLINE)
    places = np.random.default_rng(7).uniform(-reach, reach, (len(of), 2))
    sources = map_points(theta[of], places[:, None])[:, 0]
    found = output_points(theta, sources, of)
    off = np.abs(map_points(theta[of], found[:, None])[:, 0] - sources).max(axis=1)
    return places, found, off


def _folds(theta: Any) -> Any:
    """Which splines fold the image over somewhere: a fine grid's squares, seen from behind."""
    line = np.linspace(-1, 1, 61)
    x, y = (part.reshape(1, -1) for part in np.meshgrid(line, line))
    return (np.linalg.det(tps.jacobian(theta, x, y)) <= 0).any(axis=1)


@pytest.mark.parametrize("side", [3, 4, 10])
def test_the_derivatives_are_those_of_the_spline(side: int) -> None:
    theta, step = _splines(side, 0.1, 3), 1e-6
    x, y = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 3, 20))
    numeric = [
        (map_points(theta, np.stack([x + dx, y + dy], -1)) - map_points(theta, np.stack([x - dx, y - dy], -1)))
        / (2 * step)
        for dx, dy in ((step, 0), (0, step))
    ]
    np.testing.assert_allclose(tps.jacobian(theta, x, y), np.stack(numeric, axis=-1), atol=1e-7)
    at_control = tps.jacobian(tps.control_grid(side)[None], *tps.control_grid(side).T[:, None])
    np.testing.assert_allclose(at_control, np.tile(np.eye(2), (1, side**2, 1, 1)), atol=1e-12)


@pytest.mark.parametrize(
    ("side", "spread"), [(3, 0.2), (4, 0.107), (7, 0.04), (10, 0.03)], ids=["3", "4, as elastic", "7", "10"]
)
@pytest.mark.parametrize("reach", [1.0, 4.0])
def test_the_very_place_is_found_of_splines_that_do_not_fold(side: int, spread: float, reach: float) -> None:
    theta = _splines(side, spread, 60)
    theta = theta[~_folds(theta)]
    assert len(theta) > 40
    places, found, off = _there_and_back(theta, reach)
    on_canvas = (np.abs(places) <= 1).all(axis=1)
    np.testing.assert_allclose(found[on_canvas], places[on_canvas], atol=1e-8)
    assert off.max() < 2e-11


@pytest.mark.parametrize(("side", "spread"), [(3, 0.4), (4, 0.2), (4, 0.3), (10, 0.08)])
def test_of_a_spline_that_folds_one_of_the_places_is_found(side: int, spread: float) -> None:
    theta = _splines(side, spread, 60)
    assert _folds(theta).mean() > 0.4
    _, found, off = _there_and_back(theta, 1.0)
    there = np.isfinite(off)
    assert there.mean() > 0.999
    assert off[there].max() < 2e-11
    assert (np.abs(found[there]) <= 1 + 1e-9).all(axis=1).mean() > 0.997  # on the canvas, where there was one


@pytest.mark.parametrize("seed", range(3))
def test_splines_that_enlarge_turn_and_shift_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, scale = rng.uniform(0, 2 * np.pi, 60), 10 ** rng.uniform(-1.3, 1, (60, 1, 1))
    rotation = np.stack([np.stack([np.cos(turn), -np.sin(turn)], -1), np.stack([np.sin(turn), np.cos(turn)], -1)], -2)
    affine = np.concatenate([rotation * scale, rng.normal(0, 3, (60, 2, 1))], axis=-1)
    bent = _splines(4, 0.08, 60, seed)
    theta = geometry.map_points(affine, bent)[~_folds(bent)]
    places, found, _ = _there_and_back(theta, 1.0)
    np.testing.assert_allclose(found, places, atol=1e-7)


def test_behind_a_fold_there_is_no_place() -> None:
    folded = tps.control_grid()[None].copy()
    folded[..., 0] = np.abs(folded[..., 0])  # the left half shows the right one again, mirrored
    x = map_points(folded, np.random.default_rng(0).uniform(-50, 50, (10_000, 2)))[0, :, 0]
    assert x.min() > -1
    asked = np.array([[x.min() - 0.1, 0.0], [-5.0, 0.3], [0.5, 0.2], [0.9, -0.6]])
    found = output_points(folded, asked, np.zeros(4, int))
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(map_points(folded, found[2:])[0], asked[2:], atol=1e-10)


def test_no_point_has_a_say_in_anothers_place() -> None:
    theta, rng = _splines(4, 0.2, 5), np.random.default_rng(0)
    of, asked = rng.integers(0, 5, 30), rng.uniform(-1.5, 1.5, (30, 2))
    together = output_points(theta, asked, of)
    alone = np.concatenate([output_points(theta, asked[k : k + 1], of[k : k + 1]) for k in range(30)])
    np.testing.assert_allclose(together, alone, atol=1e-9)
