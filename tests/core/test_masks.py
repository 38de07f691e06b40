"""Masks of labels, warped: no label is mixed, and each is that of the pixel its place lies in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sampler_oracle

from stn_core import masks
from stn_core.errors import BadTensor
from stn_core.masks import warp_mask
from stn_core.points import to_source
from stn_core.transforms import as_shape, identity_like

SHAPES = {"affine": (2, 3), "homography": (3, 3), "spline": (16, 2)}
FAMILIES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
LABELS = np.random.default_rng(0).integers(1, 100, (13, 18))


def _theta(affine: Any, shape: tuple[int, int]) -> Any:
    return as_shape(np.array([affine], np.float64), shape)[0]


@FAMILIES
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (13, 18), (64, 64), (199, 201)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_identity_returns_the_mask(shape: Any, size: Any, dtype: Any) -> None:
    mask = np.random.default_rng(0).integers(0, 200, size).astype(dtype)
    out = warp_mask(mask, identity_like(shape), size, fill_label=7)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, mask)


@FAMILIES
def test_flips_quarter_turns_and_whole_enlargements_move_labels_as_arrays_do(shape: Any) -> None:
    def warped(affine: Any, size: Any) -> Any:
        return warp_mask(LABELS, _theta(affine, shape), size)

    np.testing.assert_array_equal(warped([[-1, 0, 0], [0, 1, 0]], (13, 18)), LABELS[:, ::-1])
    np.testing.assert_array_equal(warped([[1, 0, 0], [0, -1, 0]], (13, 18)), LABELS[::-1])
    np.testing.assert_array_equal(warped([[0, 1, 0], [-1, 0, 0]], (18, 13)), np.rot90(LABELS, -1))
    np.testing.assert_array_equal(warped([[1, 0, 0], [0, 1, 0]], (39, 36)), LABELS.repeat(3, 0).repeat(2, 1))


@FAMILIES
@pytest.mark.parametrize("fill_label", [0, 255])
def test_a_shift_brings_in_the_fill(shape: Any, fill_label: int) -> None:
    out = warp_mask(LABELS, _theta([[1, 0, 2 * 3 / 18], [0, 1, -2 * 2 / 13]], shape), (13, 18), fill_label)
    expected = np.full_like(LABELS, fill_label)
    expected[2:, :15] = LABELS[:-2, 3:]
    np.testing.assert_array_equal(out, expected)


@FAMILIES
def test_between_two_pixels_all_go_the_same_way(shape: Any) -> None:
    # On a canvas one pixel larger each place is an edge between two pixels: every label is still there, once.
    theta = _theta([[19 / 18, 0, 0], [0, 14 / 13, 0]], shape)
    out = warp_mask(LABELS, theta, (14, 19), fill_label=0)
    np.testing.assert_array_equal(out[:13, :18], LABELS)
    assert not out[13].any()
    assert not out[:, 18].any()


@FAMILIES
def test_each_pixel_has_the_label_of_where_its_centre_is_read(shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MAX_PLACES", 100)  # in several parts
    filled = []
    for theta in sampler_oracle.thetas(np.random.default_rng(5), shape, 10, 0.1):
        out = warp_mask(LABELS, theta, (25, 31), fill_label=-1)
        row, column = np.mgrid[:25, :31]
        read = to_source(np.stack([column, row], axis=-1) + 0.5, theta, (25, 31), LABELS.shape)
        expected = np.full((25, 31), -1)
        x, y = np.floor(read.points_px[read.inside]).astype(int).T
        expected[read.inside] = LABELS[y, x]
        np.testing.assert_array_equal(out, expected)
        filled.append((out == -1).mean())
    assert 0 < np.mean(filled) < 0.5


def test_beyond_the_horizon_is_fill() -> None:
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 0.0, 1.0]])  # the horizon is at x = -0.5
    out = warp_mask(np.ones((20, 20), np.uint8), tilt, (20, 20))
    assert not out[:, :5].any()
    assert out[10, 10:].all()


def test_a_fill_that_the_mask_cannot_hold_is_refused() -> None:
    with pytest.raises(BadTensor, match="fill_label: expected a label that fits into the mask's uint8, got -1"):
        warp_mask(LABELS.astype(np.uint8), identity_like((2, 3)), (13, 18), fill_label=-1)
    with pytest.raises(BadTensor, match=r"theta: expected the shape .*got \[1, 1, 2, 3\]"):
        warp_mask(LABELS, identity_like((2, 3))[None], (13, 18))
