"""Boxes and polygons: corners and bounding boxes, edges in pieces, and areas on a canvas, found in two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stn_core.errors import BadTensor, TooLarge
from stn_core.points import to_rectified, to_source
from stn_core.polygons import bounding_boxes, box_polygons, clipped, subdivided, visible_fractions

SIZE = (20, 30)
SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
RIGHT = np.array([40, 0])


def area(polygon: Any) -> float:
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def stars(count: int, seed: int) -> list[Any]:
    """Polygons whose edges do not cross, most of them not convex, in and about the canvas."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        if np.diff(np.r_[angles, angles[0] + 2 * np.pi]).max() < np.pi:  # else the centre is not within
            rays = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(
                1, rng.choice([4, 20]), (len(angles), 1)
            )
            found.append((rng.uniform(-10, 40, 2) + rays)[:: rng.choice([1, -1])])
    return found


def test_a_box_is_its_corners_clockwise_from_the_upper_left() -> None:
    assert box_polygons([1, 2, 5, 9]).tolist() == [[1, 2], [5, 2], [5, 9], [1, 9]]
    boxes = np.sort(np.random.default_rng(0).uniform(0, 20, (3, 5, 2, 2)), axis=2).reshape(3, 5, 4)
    assert box_polygons(boxes).shape == (3, 5, 4, 2)
    np.testing.assert_array_equal(bounding_boxes(box_polygons(boxes)), boxes)
    assert box_polygons(np.empty((0, 4))).shape == (0, 4, 2)


def test_a_turned_box_is_a_quadrilateral_with_a_box_around_it() -> None:
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # clockwise: the output's right is the input's top
    turned = to_rectified(box_polygons([[2, 3, 7, 5]]), quarter, (20, 20), (20, 20))
    np.testing.assert_allclose(turned.points_px, [[[17, 2], [17, 7], [15, 7], [15, 2]]], atol=1e-12)
    np.testing.assert_allclose(bounding_boxes(turned.points_px), [[15, 2, 17, 7]], atol=1e-12)
    eighth = [[np.sqrt(0.5), -np.sqrt(0.5), 0], [np.sqrt(0.5), np.sqrt(0.5), 0]]
    diamond = to_source(box_polygons([5, 5, 15, 15]), eighth, (20, 20), (20, 20))
    half = np.sqrt(50)
    np.testing.assert_allclose(bounding_boxes(diamond.points_px), [10 - half, 10 - half, 10 + half, 10 + half])


def test_a_box_around_nothing_or_around_what_has_no_place_is_none() -> None:
    assert np.isnan(bounding_boxes(np.empty((2, 0, 2)))).all()
    lost = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [np.nan, np.nan], [1, 1]]])
    boxes = bounding_boxes(lost)
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert np.isnan(boxes[1]).all()


def test_edges_are_cut_into_equal_pieces() -> None:
    triangle = [[0, 0], [4, 0], [4, 3]]
    expected = [[0, 0], [2, 0], [4, 0], [4, 1.5], [4, 3], [8 / 3, 2], [4 / 3, 1]]
    np.testing.assert_allclose(subdivided(triangle, 2.0), expected, atol=1e-12)
    assert subdivided(triangle, 5).tolist() == triangle
    np.testing.assert_array_equal(subdivided([[1, 1], [1, 1], [np.nan, np.nan]], 0.1), [[1, 1], [1, 1], [np.nan] * 2])
    assert subdivided(np.empty((0, 2)), 1).shape == (0, 2)
    for star in stars(30, 0):
        pieces = subdivided(star, 1.7)
        edges = np.roll(pieces, -1, axis=0) - pieces
        assert np.hypot(*edges.T).max() <= 1.7 + 1e-9
        assert {tuple(vertex) for vertex in star} <= {tuple(vertex) for vertex in pieces}
        assert area(pieces) == pytest.approx(area(star))


def test_what_is_on_the_canvas_by_hand() -> None:
    assert clipped(SQUARE, SIZE).tolist() == SQUARE.tolist()
    assert sorted(clipped(SQUARE - 5, SIZE).tolist()) == [[0, 0], [0, 5], [5, 0], [5, 5]]
    assert area(clipped(SQUARE - 5, SIZE)) == 25
    assert clipped(SQUARE + RIGHT, SIZE).shape == (0, 2)
    around = clipped([[-100, -100], [200, -100], [200, 200], [-100, 200]], SIZE)
    assert bounding_boxes(around).tolist() == [0, 0, 30, 20]
    fractions = visible_fractions([SQUARE, SQUARE - 5, SQUARE - [7.5, 0], SQUARE + RIGHT, SQUARE[::-1] - [0, 9]], SIZE)
    np.testing.assert_allclose(fractions, [1, 0.25, 0.25, 0, 0.1], atol=1e-12)
    assert fractions[[0, 3]].tolist() == [1, 0]


def test_two_ways_to_measure_what_is_on_the_canvas_agree() -> None:
    polygons = stars(300, 1)
    fractions = visible_fractions(polygons, SIZE)
    assert len(polygons) > 150
    assert min((fractions == 0).sum(), (fractions == 1).sum(), ((fractions > 0) & (fractions < 1)).sum()) > 10
    np.testing.assert_allclose(fractions, [area(clipped(p, SIZE)) / area(p) for p in polygons], atol=1e-8)
    for polygon in polygons:
        kept = clipped(polygon, SIZE)
        assert ((kept >= -1e-9) & (kept <= np.array(SIZE[::-1]) + 1e-9)).all()


def test_what_has_no_area_or_no_place() -> None:
    line = [[-10, 5], [10, 5], [20, 5], [40, 5]]
    lost = [[1, 1], [np.nan, np.nan], [5, 5]]
    far = np.array([[0, 0], [1e300, 0], [1e300, 1e300]])
    fractions = visible_fractions([line, [[3, 3]] * 3, lost, far], SIZE)
    np.testing.assert_array_equal(fractions[:3], [0.5, 1, np.nan])
    assert fractions[3] <= 1 / 3
    assert visible_fractions([], SIZE).shape == (0,)


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadTensor, match=r"boxes_px: expected \[..., 4\], .*got \[2, 3\]"):
        box_polygons(np.zeros((2, 3)))
    with pytest.raises(BadTensor, match=r"polygons_px: expected \[..., V, 2\], .*got \[4\]"):
        bounding_boxes(np.zeros(4))
    for function in (lambda p: subdivided(p, 1.0), lambda p: clipped(p, SIZE), lambda p: visible_fractions([p], SIZE)):
        with pytest.raises(BadTensor, match=r"polygon_px: expected \[V, 2\], .*got \[1, 4, 2\]"):
            function(SQUARE[None])
    with pytest.raises(BadTensor, match="polygons_px: expected one vertex or more"):
        visible_fractions([SQUARE, np.empty((0, 2))], SIZE)
    for length in (0, -1, np.nan):
        with pytest.raises(BadTensor, match="max_edge_px: expected a length above 0"):
            subdivided(SQUARE, length)
    with pytest.raises(TooLarge, match="at most 100000 vertices, got 40000000000 with 1e-09 px; use a longer one"):
        subdivided(SQUARE, 1e-9)
