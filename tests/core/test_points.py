"""Points through theta, both ways: the pixel convention, round trips in every family, and what is flagged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf

from stn_core import points
from stn_core.errors import BadTensor
from stn_core.points import to_rectified, to_rectified_each, to_source, to_source_each
from stn_core.sampler import source_grid
from stn_core.transforms import identity_like, invert

SHAPES = {"affine": (2, 3), "homography": (3, 3), "spline": (16, 2), "spline of 9": (9, 2), "spline of 49": (49, 2)}
FAMILIES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
SIZE, OTHER = (28, 28), (20, 45)
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
"""Divides by 1 + x / 2: the horizon is at x = -2, half a width left of the image."""


def _thetas(shape: tuple[int, int], count: int = 20, spread: float | None = None, seed: int = 0) -> Any:
    usual = 0.3 if shape in ((2, 3), (3, 3)) else 0.2 / shape[0] ** 0.5
    return sampler_oracle.thetas(np.random.default_rng(seed), shape, count, usual if spread is None else spread)


def _on(size: tuple[int, int], *shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(0, 1, (*shape, 2)) * size[::-1]


# --- the convention ---------------------------------------------------------------------------------------------------


def test_points_are_counted_from_the_corner_and_pixels_have_their_centre_half_a_pixel_in() -> None:
    one_px_right = np.array([[1.0, 0.0, 2 / 28], [0.0, 1.0, 0.0]])  # what is shown at x is read one pixel further right
    given = [[0.0, 0.0], [0.5, 0.5], [27.5, 3.5], [26.0, 28.0]]
    read = to_source(given, one_px_right, SIZE, SIZE)
    np.testing.assert_allclose(read.points_px, [[1, 0], [1.5, 0.5], [28.5, 3.5], [27, 28]], atol=1e-12)
    assert read.inside.tolist() == [True, True, False, True]
    shown = to_rectified(given, one_px_right, SIZE, SIZE)
    np.testing.assert_allclose(shown.points_px, [[-1, 0], [-0.5, 0.5], [26.5, 3.5], [25, 28]], atol=1e-12)
    assert shown.inside.tolist() == [False, False, True, True]


def test_the_corners_of_one_canvas_are_those_of_another() -> None:
    corners = np.array([[0, 0], [45, 0], [45, 20], [0, 20], [22.5, 10]])
    for shape in SHAPES.values():
        mapped = to_source(corners, identity_like(shape), OTHER, (100, 60))
        np.testing.assert_allclose(mapped.points_px, [[0, 0], [60, 0], [60, 100], [0, 100], [30, 50]], atol=1e-12)
        assert mapped.inside.all()


@FAMILIES
def test_the_sampler_reads_each_pixel_where_its_centre_is_mapped_to(shape: Any) -> None:
    theta = _thetas(shape, 4)
    x, y = source_grid(tf.constant(theta), SIZE, OTHER)  # indices of pixels: the centre of the first is 0
    row, column = np.mgrid[: OTHER[0], : OTHER[1]]
    centres = np.tile(np.stack([column, row], axis=-1) + 0.5, (4, 1, 1, 1))
    read = to_source(centres, theta, OTHER, SIZE)
    np.testing.assert_allclose(read.points_px, np.stack([x, y], axis=-1) + 0.5, atol=1e-9)


# --- there and back ---------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back(shape: Any, dtype: Any) -> None:
    theta, shown = _thetas(shape).astype(dtype), _on(OTHER, 20, 50)
    read = to_source(shown, theta, OTHER, SIZE)
    back = to_rectified(read.points_px, theta, OTHER, SIZE)
    np.testing.assert_allclose(back.points_px, shown, atol=1e-7)
    assert back.inside.all()
    on_source = _on(SIZE, 20, 50)
    again = to_source(to_rectified(on_source, theta, OTHER, SIZE).points_px, theta, OTHER, SIZE)
    found = np.isfinite(again.points_px[..., 0])
    assert found.mean() > 0.97 if shape == (3, 3) else found.all()  # some of it a homography may not see at all
    np.testing.assert_allclose(again.points_px[found], on_source[found], atol=1e-7)
    assert again.inside[found].all()


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_what_the_inverse_theta_maps_is_what_is_found(shape: Any) -> None:
    theta, on_source = _thetas(shape, spread=0.05), _on(SIZE, 20, 30)
    expected = to_source(on_source, invert(theta), SIZE, OTHER)
    found = to_rectified(on_source, theta, OTHER, SIZE)
    np.testing.assert_allclose(found.points_px, expected.points_px, atol=1e-9)
    np.testing.assert_array_equal(found.inside, expected.inside)


# --- the horizon ------------------------------------------------------------------------------------------------------


def _px(normalized: Any) -> Any:
    return (np.asarray(normalized, np.float64) + 1) * 14


def test_beyond_the_horizon_there_is_no_place() -> None:
    read = to_source(_px([[2, 0], [-1, 1], [-1.99, 0], [-2, 0], [-2.5, 0], [-9, 0.3]]), TILT, SIZE, SIZE)
    np.testing.assert_allclose(read.points_px[:2], _px([[1, 0], [-2, 2]]), atol=1e-12)
    assert np.isnan(read.points_px).any(axis=1).tolist() == [False, False, False, True, True, True]
    assert read.inside.tolist() == [True, False, False, False, False, False]


def test_what_only_the_far_side_of_the_horizon_would_show_is_not_shown() -> None:
    # x / (1 + x / 2) is below 2 before the horizon and above 2 beyond it.
    shown = to_rectified(_px([[1, 0], [0, 0.5], [1.9, 0], [4, 0], [2.1, 1]]), TILT, SIZE, SIZE)
    np.testing.assert_allclose(shown.points_px[:3], _px([[2, 0], [0, 0.5], [38, 0]]), atol=1e-9)
    assert np.isnan(shown.points_px[3:]).all()
    assert shown.inside.tolist() == [False, True, False, False, False]


def test_the_sign_of_a_homography_says_which_side_is_seen() -> None:
    mirrored = [[2, 0, -6], [0, 2, 0], [1, 0, -1]]  # the image's centre lies beyond the horizon, at x = 1
    read = to_source(_px([[2, 1], [3, 0], [0, 0]]), mirrored, SIZE, SIZE)
    np.testing.assert_allclose(read.points_px[:2], _px([[-2, 2], [0, 0]]), atol=1e-12)
    assert np.isnan(read.points_px[2]).all()
    shown = to_rectified(_px([[-2, 2], [0, 0]]), mirrored, SIZE, SIZE)
    np.testing.assert_allclose(shown.points_px, _px([[2, 1], [3, 0]]), atol=1e-12)


def test_what_is_squeezed_to_nothing_is_still_found() -> None:
    squeezed = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2000.0, 0.0, 1.0]])
    shown = _px([[0.9, 0.5], [0.2, -0.3]])
    read = to_source(shown, squeezed, SIZE, SIZE).points_px
    np.testing.assert_allclose(read, _px([[0.9 / 1801, 0.5 / 1801], [0.2 / 401, -0.3 / 401]]), atol=1e-12)
    np.testing.assert_allclose(to_rectified(read, squeezed, SIZE, SIZE).points_px, shown, atol=1e-6)


@pytest.mark.parametrize("direction", [to_source, to_rectified])
def test_hard_homographies_agree_both_ways_about_what_is_seen(direction: Any) -> None:
    rng = np.random.default_rng(3)
    theta = rng.normal(0, 1, (500, 3, 3))
    theta /= np.abs(theta[:, 2:, 2:])
    theta = theta[np.abs(np.linalg.det(theta)) > 0.05]
    given = _on(SIZE, len(theta), 40)
    mapped = direction(given, theta, SIZE, SIZE)
    seen = np.isfinite(mapped.points_px[..., 0])
    assert 0.2 < seen.mean() < 0.8
    back = (to_rectified if direction is to_source else to_source)(mapped.points_px, theta, SIZE, SIZE).points_px
    np.testing.assert_allclose(back[seen], given[seen], atol=1e-4)
    assert np.isnan(back[~seen]).all()


# --- flags and shapes -------------------------------------------------------------------------------------------------


def test_the_canvas_includes_its_edges_and_rounding_does_not_push_off_it() -> None:
    turn, edge = np.deg2rad(np.arange(60)), np.array([[0, 0], [28, 0], [28, 28], [0, 28], [0, 13.7], [28, 3.3]])
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros(60)
    theta = np.moveaxis(np.array([[cos, -sin, zero], [sin, cos, zero]]), -1, 0)
    back = to_rectified(to_source(np.tile(edge, (60, 1, 1)), theta, SIZE, SIZE).points_px, theta, SIZE, SIZE)
    assert ((back.points_px < 0) | (back.points_px > 28)).any()
    assert back.inside.all()
    off = edge + np.sign(edge - 14) * 1e-3
    assert not to_source(off, identity_like((2, 3)), SIZE, SIZE).inside.any()


def test_each_image_may_have_a_size_of_its_own() -> None:
    theta, sizes = _thetas((2, 3), 3), [(28, 28), (100, 30), (7, 9)]
    shown = _on(SIZE, 3, 6)
    together = to_source(shown, theta, SIZE, sizes)
    for n, size in enumerate(sizes):
        alone = to_source(shown[n], theta[n], SIZE, size)
        np.testing.assert_array_equal(together.points_px[n], alone.points_px)
        np.testing.assert_array_equal(together.inside[n], alone.inside)
    back = to_rectified(together.points_px, theta, SIZE, np.array(sizes))
    np.testing.assert_allclose(back.points_px, shown, atol=1e-9)


@FAMILIES
@pytest.mark.parametrize("directions", [(to_source, to_source_each), (to_rectified, to_rectified_each)])
def test_lists_arrays_and_single_points_are_mapped_alike(
    shape: Any, directions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_array, of_lists = directions
    theta, shown = _thetas(shape, 4), 1.3 * _on(SIZE, 4, 5, 3)  # some of it off the canvas
    whole = of_array(shown, theta, SIZE, OTHER)
    assert whole.points_px.shape == (4, 5, 3, 2)
    assert whole.inside.shape == (4, 5, 3)
    assert 0 < whole.inside.mean() < 1
    monkeypatch.setattr(points, "MAX_AT_ONCE", 7)
    ragged = [shown[0], shown[1, :2].reshape(-1, 2), [], shown[3, 4, 2].tolist()]
    parts = of_lists(ragged, theta, SIZE, OTHER)
    expected = [whole.points_px[0], whole.points_px[1, :2].reshape(-1, 2), np.empty((0, 2)), whole.points_px[3, 4, 2]]
    for part, px, inside in zip(parts, expected, [(5, 3), (6,), (0,), ()], strict=True):
        np.testing.assert_allclose(part.points_px, px, atol=1e-12)
        assert part.inside.shape == inside
    np.testing.assert_array_equal(parts[0].inside, whole.inside[0])
    np.testing.assert_allclose(
        of_array(shown[2, 1], theta[2], SIZE, OTHER).points_px, whole.points_px[2, 1], atol=1e-12
    )


def test_no_images_and_no_points() -> None:
    assert to_source_each([], np.empty((0, 2, 3)), SIZE, SIZE) == []
    assert to_source(np.empty((0, 5, 2)), np.empty((0, 3, 3)), SIZE, SIZE).points_px.shape == (0, 5, 2)
    assert to_rectified(np.empty((3, 0, 2)), _thetas((16, 2), 3), SIZE, SIZE).inside.shape == (3, 0)
    assert to_rectified([], identity_like((2, 3)), SIZE, SIZE).points_px.shape == (0, 2)


@FAMILIES
def test_what_has_no_place_stays_without_and_harms_no_other(shape: Any) -> None:
    shown = np.array([[3.0, 4.0], [np.nan, np.nan], [np.inf, 2.0], [1e308, -1e308], [10.0, 9.0]])
    for direction in (to_source, to_rectified):
        mapped = direction(shown, identity_like(shape), SIZE, SIZE)
        assert np.isnan(mapped.points_px[1:3]).all()
        assert mapped.inside.tolist() == [True, False, False, False, True]
        np.testing.assert_allclose(mapped.points_px[[0, 4]], shown[[0, 4]], atol=1e-9)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [to_source, to_rectified])
@pytest.mark.parametrize(
    ("given", "theta", "size", "message"),
    [
        (np.zeros((3, 5, 2)), np.zeros((2, 2, 3)), SIZE, r"expected \[2, ..., 2\], .*got \[3, 5, 2\]; lists of"),
        (np.zeros((5, 3)), np.zeros((2, 3)), SIZE, r"points_px: expected .* one theta, got \[5, 3\]"),
        (np.zeros(()), np.zeros((2, 3)), SIZE, r"points_px: expected .*, got \[\]"),
        ([[[1, 2]], [[1, 2], [3, 4]]], np.zeros((2, 2, 3)), SIZE, "points_px: .* got lists of unequal lengths"),
        ([["a", "b"]], np.zeros((2, 3)), SIZE, "points_px: expected numbers, got <U1"),
        (np.zeros((1, 2)), np.zeros((4, 2)), SIZE, r"theta: expected the shape .*got \[1, 4, 2\]"),
        (np.zeros((1, 2)), np.zeros(3), SIZE, r"theta: expected the shape .*got \[3\]"),
        (np.zeros((1, 2)), np.full((2, 3), np.nan), SIZE, "theta: expected finite numbers"),
        (np.zeros((1, 2)), np.eye(3), (28, 0), r"size: expected \(height, width\) in pixels, both above 0.*\(28, 0\)"),
        (np.zeros((1, 2)), np.eye(3), (28, 28, 1), r"size: expected .*got \(28, 28, 1\)"),
        (np.zeros((2, 1, 2)), np.tile(np.eye(3), (2, 1, 1)), [(8, 8)] * 3, "one for each of the 2 images"),
    ],
)
def test_bad_input_is_refused(direction: Any, given: Any, theta: Any, size: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        direction(given, theta, SIZE, size)


def test_lists_that_do_not_fit_are_refused() -> None:
    theta = _thetas((2, 3), 2)
    with pytest.raises(BadTensor, match="points_px: expected 2 lists of points, one for each theta, got 1"):
        to_source_each([[[1, 2]]], theta, SIZE, SIZE)
    with pytest.raises(BadTensor, match=r"points_px\[1\]: expected \[..., 2\], .*got \[1, 3\]"):
        to_rectified_each([[[1, 2]], [[1, 2, 3]]], theta, SIZE, SIZE)
    with pytest.raises(BadTensor, match=r"points_px\[0\]: .*unequal lengths"):
        to_source_each([[[1, 2], [3]], []], theta, SIZE, SIZE)
    with pytest.raises(BadTensor, match=r"theta: expected the shape .*got \[2, 3\]"):
        to_source_each([[[1, 2]], []], theta[0], SIZE, SIZE)


def test_a_singular_theta_cannot_be_undone_and_its_number_is_told() -> None:
    theta = _thetas((2, 3), 3)
    theta[1] = 0
    assert to_source(_on(SIZE, 3, 4), theta, SIZE, SIZE).inside[1].all()  # all of it reads the centre
    with pytest.raises(BadTensor, match="expected invertible transforms, but number 1"):
        to_rectified_each([_on(SIZE, 5), [], _on(SIZE, 2)], theta, SIZE, SIZE)
