"""What a theta does to an image, in numbers that can be seen at once."""

from __future__ import annotations

import numpy as np
import pytest

from stn_core.geometry import compose, identity, invert
from stn_core.motion import motion_of, off_px
from stn_core.recipes import draw, known_theta, load_recipe
from stn_core.transforms import as_shape, corner_errors_px

SIZE = (20, 40)


def pixels(matrix: list[list[float]], shift_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The theta ``[1, 2, 3]`` of an image of SIZE whose pixels (x, y) from the centre come from ``matrix`` of them."""
    half = np.diag([SIZE[1] / 2, SIZE[0] / 2])
    linear = np.linalg.inv(half) @ np.array(matrix) @ half
    return np.concatenate([linear, np.linalg.inv(half) @ np.array(shift_px)[:, None]], axis=1)[None]


def turned(angle_deg: float) -> list[list[float]]:
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return [[cos, -sin], [sin, cos]]


def test_the_identity_does_nothing() -> None:
    motion = motion_of(identity(2), SIZE, SIZE)
    for name, expected in [("moved_px", 0), ("scale", 1), ("turn_deg", 0), ("shear_deg", 0), ("shift_px", 0)]:
        np.testing.assert_array_equal(getattr(motion, name), [expected, expected])
    assert not motion.mirrored.any()
    assert not motion.singular.any()


@pytest.mark.parametrize("angle_deg", [-170, -30, 30, 90])
def test_a_turn_of_pixels_is_a_turn_in_any_aspect(angle_deg: float) -> None:
    motion = motion_of(pixels(turned(angle_deg)), SIZE, SIZE)
    np.testing.assert_allclose(motion.turn_deg, abs(angle_deg))
    np.testing.assert_allclose(motion.scale, 1)
    np.testing.assert_allclose(motion.shear_deg, 0, atol=1e-6)


def test_scale_is_how_large_a_pixel_is_shown() -> None:
    # theta reads half a pixel further for each pixel shown: what was 1 px is shown as 2.
    assert motion_of(pixels([[0.5, 0], [0, 0.5]]), SIZE, SIZE).scale == pytest.approx(2)
    assert motion_of(pixels([[2, 0], [0, 0.5]]), SIZE, SIZE).scale == pytest.approx(1)
    assert motion_of(identity(1), SIZE, (10, 20)).scale == pytest.approx(0.5)
    cut_from_a_canvas = np.array([[[28 / 42, 0, 0], [0, 28 / 42, 0]]])
    assert motion_of(cut_from_a_canvas, (42, 42), (28, 28)).scale == pytest.approx(1)


def test_shear_is_what_a_right_angle_loses_and_shift_is_in_pixels() -> None:
    sheared = motion_of(pixels([[1, np.tan(np.deg2rad(25))], [0, 1]], (3, 4)), SIZE, SIZE)
    assert sheared.shear_deg == pytest.approx(25)
    assert sheared.shift_px == pytest.approx(5)
    assert sheared.scale == pytest.approx(1)


def test_a_shift_moves_the_middle_by_as_much() -> None:
    assert off_px(pixels([[1, 0], [0, 1]], (3, 4)), SIZE) == pytest.approx(5)
    # The mean distance of 4 x 4 points over the middle half from the centre, doubled.
    points = np.stack(np.meshgrid(np.linspace(-10, 10, 4), np.linspace(-5, 5, 4)), axis=-1)
    assert off_px(pixels([[2, 0], [0, 2]]), SIZE) == pytest.approx(np.hypot(*points.reshape(-1, 2).T).mean())


def test_what_undoes_a_distortion_leaves_nothing_off() -> None:
    theta_true = identity(30) + np.random.default_rng(0).normal(0, 0.2, (30, 2, 3))
    np.testing.assert_allclose(off_px(invert(theta_true), SIZE, theta_true), 0, atol=1e-9)
    shifted = compose(invert(theta_true), np.repeat(pixels([[1, 0], [0, 1]], (0, 2)), 30, axis=0))
    np.testing.assert_allclose(off_px(shifted, SIZE, theta_true), 2)


@pytest.mark.parametrize("shape", [(3, 3), (16, 2)])
def test_an_affine_theta_is_the_same_motion_in_every_family(shape: tuple[int, int]) -> None:
    theta = identity(20) + np.random.default_rng(1).normal(0, 0.2, (20, 2, 3))
    expected, found = motion_of(theta, SIZE, (30, 30)), motion_of(as_shape(theta, shape), SIZE, (30, 30))
    for name in ("moved_px", "scale", "turn_deg", "shear_deg", "shift_px", "mirrored", "singular"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)


def test_a_homography_is_measured_in_its_middle() -> None:
    recipe = load_recipe("perspective")
    theta = known_theta(recipe, draw(recipe, 1, np.arange(2000, dtype=np.uint64)), SIZE)[0]
    middle_px, corners_px = off_px(theta, SIZE), corner_errors_px(identity(2000), theta, SIZE)
    assert np.quantile(middle_px, 0.99) < 40 < np.quantile(corners_px, 0.99)


def test_mirror_images_and_what_is_no_transform_are_told() -> None:
    theta = np.concatenate([pixels([[-1, 0], [0, 1]]), pixels([[0, 0], [0, 1]]), identity(1)])
    theta[2, 0, 2] = np.nan
    motion = motion_of(theta, SIZE, SIZE)
    np.testing.assert_array_equal(motion.mirrored, [True, False, False])
    np.testing.assert_array_equal(motion.singular, [False, True, True])
