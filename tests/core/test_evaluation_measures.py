"""The measures against what can be computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stn_core import homography, transforms
from stn_core.coverage import Coverage, coverage
from stn_core.evaluation.measures import (
    circular_sd_deg,
    collapsed,
    eroded,
    fit_pose,
    pose_free_errors_px,
    psnr_db,
    rectifying,
    residuals,
    sd,
)
from stn_core.geometry import IDENTITY, affine_fits, compose, identity, invert
from stn_core.recipes import draw, known_theta, load_recipe
from stn_core.transforms import corner_errors_px

SIZE = (20, 40)
ASPECT = SIZE[0] / SIZE[1]


def _affine(angle_deg: Any = 0.0, scale: Any = 1.0, shift_px: Any = (0.0, 0.0)) -> NDArray[np.float64]:
    """The theta ``[N, 2, 3]`` that turns and scales the pixels of an image of SIZE and shifts them."""
    angle, scale, shift = np.broadcast_arrays(
        np.deg2rad(np.asarray(angle_deg, float).reshape(-1, 1)), np.asarray(scale, float).reshape(-1, 1),
        np.asarray(shift_px, float).reshape(-1, 2),
    )  # fmt: skip
    cos, sin = scale[:, 0] * np.cos(angle[:, 0]), scale[:, 0] * np.sin(angle[:, 0])
    rows = [[cos, -sin * ASPECT, shift[:, 0] / (SIZE[1] / 2)], [sin / ASPECT, cos, shift[:, 1] / (SIZE[0] / 2)]]
    return np.moveaxis(np.array(rows), -1, 0)


def _random_affine(count: int, seed: int = 0) -> NDArray[np.float64]:
    return identity(count) + np.random.default_rng(seed).normal(0, 0.2, (count, 2, 3))


def _perspectives(count: int) -> NDArray[np.float64]:
    recipe = load_recipe("perspective")
    return known_theta(recipe, draw(recipe, 1, np.arange(count, dtype=np.uint64)), SIZE)[0]


# Straightness


def test_a_constant_turn_has_no_spread_and_the_corner_error_of_geometry() -> None:
    theta_true = _random_affine(30)
    turned = compose(invert(theta_true), np.repeat(_affine(10), 30, axis=0))
    left = residuals(theta_true, turned, SIZE)
    np.testing.assert_allclose(np.rad2deg(left.angle_rad), 10, atol=1e-9)
    assert circular_sd_deg(left.angle_rad) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(left.log_scale, 0, atol=1e-12)
    assert not left.mirrored.any()
    chord_px = 2 * np.sin(np.deg2rad(5)) * np.hypot(10, 20)  # each corner turns about the middle
    np.testing.assert_allclose(corner_errors_px(theta_true, turned, SIZE), chord_px)


def test_turn_scale_and_shift_are_read_in_pixels() -> None:
    made = compose(_affine(0, 1, (3, -2)), compose(_affine(25), _affine(0, 1.5)))
    left = residuals(made, identity(1), SIZE)
    assert np.rad2deg(left.angle_rad[0]) == pytest.approx(25)
    assert left.log_scale[0] == pytest.approx(np.log(1.5))
    np.testing.assert_allclose(left.shift_px[0], (3, -2))
    mirror = np.array([[[-1.0, 0, 0], [0, 1, 0]]])
    assert residuals(mirror, identity(1), SIZE).mirrored[0]


def test_the_residual_of_a_homography_and_of_a_spline_is_that_of_the_nearest_affine() -> None:
    made = _affine(12, 1.1, (2, 1))
    lifted = transforms.as_shape(made, (3, 3))
    spline = transforms.as_shape(made, (16, 2))
    for theta in (lifted, spline):
        left = residuals(theta, identity(1), SIZE)
        assert np.rad2deg(left.angle_rad[0]) == pytest.approx(12)
        assert left.log_scale[0] == pytest.approx(np.log(1.1))
        np.testing.assert_allclose(left.shift_px[0], (2, 1), atol=1e-9)


def test_spreads_are_those_of_the_textbook() -> None:
    assert circular_sd_deg(np.deg2rad(np.array([-10.0, 10.0]))) == pytest.approx(
        np.rad2deg(np.sqrt(-2 * np.log(np.cos(np.deg2rad(10)))))
    )
    assert circular_sd_deg(np.deg2rad(np.array([179.0, -179.0]))) == pytest.approx(1, rel=1e-3)
    assert np.isnan(circular_sd_deg(np.array([])))
    assert sd(np.array([[3.0, 0], [-3, 0], [3, 0], [-3, 0]])) == 3
    assert sd(np.array([[3.0, 4], [-3, -4]])) == 5
    assert np.isnan(sd(np.zeros((0, 2))))


def test_affine_fits_find_the_affine_transform_they_were_made_by() -> None:
    points, theta = np.random.default_rng(0).random((9, 2)), _random_affine(5)
    np.testing.assert_allclose(affine_fits(points, transforms.map_points(theta, points)), theta, atol=1e-12)


# The constant pose


@pytest.mark.parametrize("pose", [_affine(20, 1.3, (4, 2)), _affine(180), _affine(0, 10)], ids=["moved", "head", "far"])
@pytest.mark.parametrize("theta_true", [_random_affine(40), _perspectives(40)], ids=["affine", "homography"])
def test_a_constant_pose_is_no_error(theta_true: NDArray[np.float64], pose: NDArray[np.float64]) -> None:
    posed = transforms.compose(transforms.invert(theta_true), np.repeat(pose, len(theta_true), axis=0))
    assert corner_errors_px(theta_true, posed, SIZE).min() > 4
    found = fit_pose(theta_true, posed, SIZE)
    np.testing.assert_allclose(found, invert(pose)[0], atol=1e-4)
    assert pose_free_errors_px(theta_true, posed, found, SIZE).max() < 0.01


def test_without_a_pose_it_is_the_corner_error() -> None:
    theta_true, theta = _random_affine(20, 1), _random_affine(20, 2)
    np.testing.assert_allclose(
        pose_free_errors_px(theta_true, theta, IDENTITY, SIZE), corner_errors_px(theta_true, theta, SIZE)
    )


@pytest.mark.parametrize("theta_true", [_random_affine(300), _perspectives(300)], ids=["affine", "homography"])
def test_the_fit_is_never_worse_than_no_pose(theta_true: NDArray[np.float64]) -> None:
    diagonal_px = np.hypot(*SIZE)

    def bounded(pose: NDArray[np.float64]) -> float:
        points = transforms.map_points(pose[None], transforms.CORNERS)[0]
        left = transforms.map_points(theta_true, points) - transforms.CORNERS
        return float(np.minimum(np.hypot(left[..., 0] * 20, left[..., 1] * 10), diagonal_px).mean())

    nothing = identity(len(theta_true))
    assert bounded(fit_pose(theta_true, nothing, SIZE)) <= bounded(IDENTITY)


def test_those_that_are_upside_down_do_not_bend_the_pose_of_the_others() -> None:
    # Least squares would shrink all images to 0.8 of their size, and call them 4.5 px off.
    angles = np.where(np.arange(100) % 10 == 0, 180.0, 0.0)
    pose = fit_pose(_affine(angles), identity(100), SIZE)
    np.testing.assert_allclose(pose, IDENTITY, atol=1e-4)


def test_zooming_out_does_not_lower_the_pose_free_error() -> None:
    theta_true = _random_affine(100)
    straight, away = identity(100), np.repeat(_affine(0, 10), 100, axis=0)
    errors = [
        np.median(pose_free_errors_px(theta_true, theta, fit_pose(theta_true, theta, SIZE), SIZE))
        for theta in (straight, away)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


# Coverage


def _cover(theta: NDArray[np.float64], size: tuple[int, int] = SIZE, shown: tuple[int, int] | None = None) -> Coverage:
    """The coverage of white images, whose content shown is white where the source is inside."""
    from stn_core.sampler import warp

    white = np.ones((len(theta), *size, 1), np.float32)
    return coverage(theta, warp(white, theta.astype(np.float32), shown or size).numpy(), white, 0.0)


def test_an_image_as_it_is_is_covered_by_itself() -> None:
    covered = _cover(identity(2))
    np.testing.assert_allclose(covered.area_scale, 1)
    np.testing.assert_allclose(covered.content_kept, 1)
    np.testing.assert_array_equal(covered.outside_share, 0)


def test_zooming_in_and_out_shows_in_area_and_content() -> None:
    covered = _cover(_affine(0, [0.5, 2.0, 10.0]))
    np.testing.assert_allclose(covered.area_scale, [0.25, 4, 100])
    np.testing.assert_allclose(covered.outside_share, [0, 0.75, 0.99])
    np.testing.assert_allclose(covered.content_kept, [0.25, 1, 1], atol=0.01)


def test_half_of_what_is_shifted_by_half_is_lost() -> None:
    covered = _cover(_affine(0, 1, (SIZE[1] / 2, 0)))
    assert covered.outside_share[0] == pytest.approx(0.5)
    assert covered.content_kept[0] == pytest.approx(0.5)


def test_a_canvas_cut_off_again_is_not_zoomed() -> None:
    covered = _cover(np.array([[[28 / 42, 0, 0], [0, 28 / 42, 0]]]), (42, 42), (28, 28))
    assert covered.area_scale[0] == pytest.approx(1)
    assert covered.content_kept[0] == pytest.approx((28 / 42) ** 2)


def test_the_area_of_a_homography_is_that_of_the_quadrilateral_it_shows() -> None:
    corners = np.array([[[-0.9, -0.7], [0.8, -0.9], [0.6, 0.9], [-0.8, 0.5]]])
    theta = homography.from_points(transforms.CORNERS[None], corners)
    x, y = corners[0].T
    shoelace = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    covered = _cover(theta)
    assert covered.area_scale[0] == pytest.approx(shoelace / 4)
    assert covered.content_kept[0] == pytest.approx(shoelace / 4, rel=1e-3)


def test_content_is_counted_from_the_fill_value_and_an_empty_image_loses_none() -> None:
    images = np.ones((2, 8, 8, 3), np.float32)
    images[0, 2:4, 2:4] = 0.25
    half = np.array([[[1.0, 0, 1], [0, 1, 0]]]).repeat(2, axis=0)  # the right half, and what lies beyond
    shown = np.ones_like(images)
    shown[:, :, :4] = images[:, :, 4:]
    np.testing.assert_allclose(coverage(half, shown, images, 1.0).content_kept, [0, 1])


def test_a_spline_is_undone_at_its_control_points() -> None:
    recipe = load_recipe("elastic")
    theta = known_theta(recipe, draw(recipe, 3, np.arange(200, dtype=np.uint64)), SIZE)[0]
    undone = transforms.map_points(theta, rectifying(theta)) - transforms.measuring_points((16, 2))
    assert np.abs(undone).max(axis=(1, 2)).mean() < 1e-3
    assert (np.abs(undone).max(axis=(1, 2)) < 1e-6).mean() > 0.99
    np.testing.assert_allclose(rectifying(_affine(30)), invert(_affine(30)))


# The guard


def _plain(area: list[float], kept: list[float]) -> Coverage:
    return Coverage(np.array(area), np.zeros(len(area)), np.array(kept))


def test_the_guard_trips_on_zooming_away_in_both_directions_and_on_lost_content() -> None:
    true = _plain([1.0] * 7, [0.6] * 7)
    found = _plain([3.9, 4.1, 0.26, 0.24, 100, 1, np.nan], [0.6, 0.6, 0.6, 0.6, 0.6, 0.29, 0.6])
    np.testing.assert_array_equal(collapsed(found, true), [False, True, False, True, True, True, True])


def test_a_theta_that_zooms_out_ten_times_has_collapsed_and_the_true_one_has_not() -> None:
    theta_true = _random_affine(50)
    true = _cover(rectifying(theta_true))
    assert collapsed(_cover(compose(rectifying(theta_true), _affine(0, 10))), true).all()
    assert collapsed(_cover(compose(rectifying(theta_true), _affine(0, 0.1))), true).all()
    assert not collapsed(true, true).any()


# Pixels


def test_psnr_of_a_known_difference() -> None:
    clean = np.random.default_rng(0).random((3, 6, 6, 2))
    noisy = clean + np.array([0, 0.1, 0.01]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(psnr_db(noisy, clean), [np.inf, 20, 40])
    noisy[1, 0] += 5
    inside = np.ones((3, 6, 6), bool)
    inside[1, 0], inside[2] = False, False
    np.testing.assert_allclose(psnr_db(noisy, clean, inside), [np.inf, 20, np.nan])


def test_a_mask_loses_its_rim() -> None:
    mask = np.ones((1, 5, 6), bool)
    assert eroded(mask).sum() == 3 * 4
    mask[0, 2, 2] = False
    np.testing.assert_array_equal(np.argwhere(eroded(mask)[0]), [[1, 4], [2, 4], [3, 4]])
