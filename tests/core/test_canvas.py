"""The window of a full-size output, for thetas whose window is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle

from stn_core import geometry, homography, tps, transforms
from stn_core.canvas import MAX_PIXELS, MAX_SIDE_PX, Frame, Wanted, coarseness, natural_size_px, output_window
from stn_core.errors import BadTensor, InvalidInput, StnError, TooLarge, Unsupported

IDENTITY = geometry.IDENTITY
SQUARE = Frame((400, 400), (28, 28), (28, 28))
PHOTO = Frame((3000, 4000), (28, 28), (28, 28))
PAGE = Frame((3000, 4000), (48, 64), (48, 64))
"""The network's input has the shape of the source: nothing is stretched."""
FIT = Wanted("fit")


def _turn(degrees: float, size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)) -> Any:
    """The theta that turns the pixels of an image of ``size``, and takes steps of ``scale`` along the output's axes."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    sides = np.array([size[1], size[0]], float)
    linear = (np.array([[cosine, -sine], [sine, cosine]]) * scale) * sides / sides[:, None]
    return np.concatenate([linear, np.zeros((2, 1))], axis=1)


def _matrix(theta: Any) -> Any:
    return theta if theta.shape == (3, 3) else homography.from_affine(theta)


def _in_window(theta: Any, points: Any) -> Any:
    """Normalized source points in the window's coordinates, by the inverse of theta."""
    at = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.linalg.inv(_matrix(theta)).T
    return at[:, :2] / at[:, 2:]


@pytest.mark.parametrize("frame", [SQUARE, PHOTO, PAGE, Frame((1, 7), (28, 28), (28, 28))])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
@pytest.mark.parametrize("canvas", ["crop", "fit"])
def test_the_identity_shows_the_source_as_it_is(frame: Frame, shape: Any, canvas: Any) -> None:
    if canvas == "fit" and shape == (16, 2):
        return
    theta = transforms.identity_like(shape)
    window = output_window(theta, frame, Wanted(canvas))
    assert window.size == frame.source
    np.testing.assert_array_equal(window.theta, theta)


def test_the_resolution_is_that_of_the_source() -> None:
    for frame in (SQUARE, PHOTO):
        height, width = frame.source
        for quarters in range(4):
            # A photo that was laid on its side comes upright: the window's x runs along the source's y.
            expected = (width, height) if quarters % 2 else (height, width)
            theta = np.round(_turn(90 * quarters, (1, 1)))
            assert output_window(theta, frame, Wanted()).size == expected
            assert output_window(theta, frame, FIT).size == expected
    for frame in (SQUARE, PHOTO, PAGE):
        height, width = frame.source
        for zoom in (0.5, 2.0):
            assert output_window(IDENTITY * zoom, frame, Wanted()).size == (height * zoom, width * zoom)
            assert output_window(IDENTITY * zoom, frame, FIT).size == (height, width)
    for degrees in (10, 30, 45, 77):
        for frame in (SQUARE, PAGE):
            assert output_window(_turn(degrees, frame.source), frame, Wanted()).size == frame.source
            sheared = _turn(degrees, frame.source) @ np.array([[1.0, 0.7, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            height, width = output_window(sheared, frame, Wanted()).size
            assert width / height == pytest.approx(frame.source[1] / frame.source[0], rel=2e-3), "not the shape it has"
        across = 400 * (abs(np.cos(np.radians(degrees))) + abs(np.sin(np.radians(degrees))))
        assert output_window(_turn(degrees, (400, 400)), SQUARE, FIT).size == (round(across), round(across))


def test_what_the_network_stretches_stays_stretched() -> None:
    # A source squeezed to half its width: its small rectified image is square, and so is the large one.
    squeezed = np.diag([0.5, 1.0, 1.0])[:2]
    assert output_window(squeezed, SQUARE, Wanted()).size == (400, 400)
    assert output_window(squeezed, SQUARE, FIT).size == (400, 800)
    turned = _turn(30, (400, 400), scale=(1.0, 0.25))
    assert output_window(turned, SQUARE, Wanted()).size == (400, 400)
    # The stretch of the small copy is no stretch by the network.
    assert output_window(squeezed, PHOTO, Wanted()).size == (3000, 4000)
    # An output of half the height of the input, of its upper half, at the same scale.
    upper_half = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, -0.5]])
    assert output_window(upper_half, Frame((300, 400), (28, 28), (14, 28)), Wanted()).size == (150, 400)


def test_perspective_is_measured_on_its_longer_sides() -> None:
    # The window's top shows all of the source, its bottom half of it.
    theta = homography.from_points([geometry.CORNERS], [[[-1, -1], [1, -1], [0.5, 1], [-0.5, 1]]])[0]
    height, width = natural_size_px(theta, SQUARE)
    sides = 400.0, 400 * np.hypot(0.25, 1)
    assert (width, height) == pytest.approx((max(sides), max(sides)))
    lines = tps.control_grid() * [1.0, 0.5]
    assert natural_size_px(lines, SQUARE) == pytest.approx((400, 400))


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_fit_holds_every_corner_and_no_more(shape: Any) -> None:
    rng = np.random.default_rng(0)
    frame = Frame((300, 500), (28, 28), (28, 28))
    for theta in sampler_oracle.thetas(rng, shape, 50, 0.15):
        whole = output_window(theta, frame, Wanted("fit", max_side_px=2000))
        at = _in_window(whole.theta, geometry.CORNERS)
        np.testing.assert_allclose(np.abs(at).max(axis=0), [1, 1], atol=1e-9)
        assert at.min(axis=0) == pytest.approx([-1, -1])
        assert at.max(axis=0) == pytest.approx([1, 1])
        # The same picture as crop, at the same scale, on another canvas: one is the other, moved and made larger.
        between = np.linalg.solve(_matrix(theta), _matrix(whole.theta))
        between /= between[2, 2]
        np.testing.assert_allclose(between[[0, 1, 2, 2], [1, 0, 0, 1]], 0, atol=1e-9)
        full, crop = output_window(theta, frame, FIT).size, natural_size_px(theta, frame)
        assert full == pytest.approx((crop[0] * between[1, 1], crop[1] * between[0, 0]), abs=0.51)


def test_a_size_stretches_crop_and_widens_fit() -> None:
    theta = _turn(90, (400, 400))
    frame = Frame((400, 400), (28, 28), (28, 28))
    crop = output_window(theta, frame, Wanted(size=(100, 300)))
    assert crop.size == (100, 300)
    np.testing.assert_array_equal(crop.theta, theta)
    fit = output_window(theta, frame, Wanted("fit", size=(100, 300)))
    assert fit.size == (100, 300)
    at = _in_window(fit.theta, geometry.CORNERS)
    assert np.abs(at).max(axis=0) == pytest.approx([1 / 3, 1])  # 100 px of the width, in its middle


def test_max_side_keeps_the_shape() -> None:
    assert output_window(IDENTITY, PHOTO, Wanted(max_side_px=1000)).size == (750, 1000)
    assert output_window(IDENTITY, PHOTO, Wanted("fit", max_side_px=1)).size == (1, 1)
    assert output_window(IDENTITY, PHOTO, Wanted(max_side_px=4000)).size == (3000, 4000)
    assert output_window(IDENTITY, PHOTO, Wanted(max_side_px=9000)).size == (3000, 4000), "nothing is enlarged"


def test_outputs_up_to_the_limits() -> None:
    frame = Frame((1000, 1000), (28, 28), (28, 28))
    exactly = Wanted(max_pixels=1_000_000)
    assert output_window(IDENTITY, frame, exactly).size == (1000, 1000)
    with pytest.raises(TooLarge, match="at most 1000000 pixels .* got 1001 x 1001; give a smaller size"):
        output_window(IDENTITY * 1.001, frame, exactly)
    with pytest.raises(TooLarge, match="got 8193 x 8192"):
        output_window(IDENTITY, frame, Wanted(size=(8193, 8192)))
    assert MAX_PIXELS == 8192 * 8192
    for canvas in ("crop", "fit"):
        assert output_window(IDENTITY, frame, Wanted(canvas, size=(1, MAX_SIDE_PX))).size == (1, MAX_SIDE_PX)
        with pytest.raises(TooLarge, match="sides of at most 32766 px"):
            output_window(IDENTITY, frame, Wanted(canvas, size=(1, MAX_SIDE_PX + 1)))
    with pytest.raises(TooLarge):
        output_window(IDENTITY * 1e6, frame, Wanted())
    with pytest.raises(TooLarge):
        output_window(IDENTITY * [[1.0, 1.0, 0.0], [1.0, 1e-6, 0.0]], frame, FIT)


HORIZON_BELOW = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
"""Its horizon crosses the window and, seen from the other side, the source."""


@pytest.mark.parametrize(
    ("theta", "wanted", "error", "message"),
    [
        (tps.control_grid(), FIT, Unsupported, "no inverse .* use crop"),
        (HORIZON_BELOW, FIT, Unsupported, "horizon of theta crosses it"),
        (HORIZON_BELOW, Wanted(), Unsupported, "give a size"),
        (np.linalg.inv(HORIZON_BELOW), FIT, Unsupported, "horizon of theta crosses it"),
        (IDENTITY * 0, Wanted(), BadTensor, "line or a point"),
        (np.diag([1.0, 0.0, 0.0])[:2], Wanted(), BadTensor, "line or a point"),
        (np.diag([1.0, 0.0, 0.0])[:2], FIT, BadTensor, "invertible"),
        (IDENTITY * np.nan, Wanted(size=(5, 5)), BadTensor, "finite"),
        (IDENTITY + np.inf, FIT, BadTensor, "finite"),
    ],
)  # fmt: skip
def test_what_has_no_window_is_refused(theta: Any, wanted: Wanted, error: type[StnError], message: str) -> None:
    with pytest.raises(error, match=message):
        output_window(theta, SQUARE, wanted)


def test_crop_of_a_given_size_needs_no_scale() -> None:
    window = output_window(HORIZON_BELOW, SQUARE, Wanted(size=(50, 60)))
    assert window.size == (50, 60)
    np.testing.assert_array_equal(window.theta, HORIZON_BELOW)


def _from_below(steepness: float) -> Any:
    """A view of half the height of a page, whose upper edge is the nearer to the horizon the steeper it is."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -steepness, 1.0]]) @ np.diag([0.5, 0.5, 1.0])


def test_fit_shows_what_is_near_the_horizon_or_refuses() -> None:
    """The sampler sends away what is too near: none of the source may be."""
    for steepness in (0.5, 0.9, 0.99):
        window = output_window(_from_below(steepness), SQUARE, Wanted("fit", max_side_px=500))
        at = _in_window(window.theta, geometry.CORNERS)
        np.testing.assert_allclose(transforms.map_points(window.theta[None], at)[0], geometry.CORNERS, atol=1e-9)
    for steepness in (0.9999, 1.0, 1.1):
        with pytest.raises(Unsupported, match="crosses it, or nearly"):
            output_window(_from_below(steepness), SQUARE, Wanted("fit", max_side_px=500))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"canvas": "whole"}, "canvas: expected one of crop, fit, got 'whole'"),
        ({"size": (10, 10), "max_side_px": 5}, "got both"),
        ({"size": (0, 5)}, "size: expected"),
        ({"size": (5,)}, "size: expected"),
        ({"size": (5, 5.0)}, "size: expected"),
        ({"size": (True, 5)}, "size: expected"),
        ({"max_side_px": 0}, "max_side_px: expected at least 1 px, got 0"),
        ({"max_side_px": "5"}, "max_side_px"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Wanted(**fields)


def test_coarseness_is_what_an_output_pixel_covers() -> None:
    source = (300, 400)
    assert coarseness(IDENTITY, source, source) == pytest.approx((1, 1))
    assert coarseness(IDENTITY, source, (100, 50)) == pytest.approx((3, 8))
    assert coarseness(_turn(90, source), source, (100, 100)) == pytest.approx((4, 3))
    assert coarseness(_turn(90, (1, 1)), source, (40, 30)) == pytest.approx((10, 10))
    assert coarseness(_turn(37, source, (2.0, 2.0)), source, source) == pytest.approx((2, 2))
    # Perspective covers the fewest pixels where it is nearest; what lies beside the source does not count.
    theta = homography.from_points([geometry.CORNERS], [[[-1, -1], [1, -1], [0.5, 1], [-0.5, 1]]])[0]
    assert coarseness(theta, source, (100, 100))[1] == pytest.approx(2, rel=0.05)
    beside = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]])
    assert coarseness(beside, source, (10, 10)) == (1, 1)
