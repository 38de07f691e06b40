"""Clutter: pieces of real digits, as many and as large as asked, the lighter of two shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stn_core import clutter
from stn_core.clutter import add_clutter
from stn_core.datasets import Dataset
from stn_core.errors import BadTensor
from stn_core.recipes.steps import Clutter

SEEDS = np.arange(200, dtype=np.uint64)


def _black(height: int = 60, width: int = 50, channels: int = 1) -> Any:
    return np.zeros((len(SEEDS), height, width, channels), np.uint8)


@pytest.fixture
def white_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every patch is a white square, so that it can be seen whole."""
    monkeypatch.setattr(clutter, "_digits", lambda: np.full((3, 28, 28), 255, np.uint8))


@pytest.mark.usefixtures("white_digits")
@pytest.mark.parametrize("side", [1, 6, 28])
def test_one_patch_is_one_square_anywhere_inside(side: int) -> None:
    images = add_clutter(_black(), Clutter(patches=1, patch_px=side), SEEDS)
    corners = []
    for image in images[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert len(rows) == len(columns) == side
        assert (image[rows[0] : rows[0] + side, columns[0] : columns[0] + side] == 255).all()
        corners.append((rows[0], columns[0]))
    last = np.array([60, 50]) - side
    assert (np.ptp(corners, axis=0) > 0.9 * last).all()
    assert (np.mean(corners, axis=0) / last == pytest.approx(0.5, abs=0.07)) if side < 28 else True


@pytest.mark.usefixtures("white_digits")
def test_each_further_patch_adds_one_square_to_those_there_are() -> None:
    before = _black()
    for patches in range(1, 7):
        images = add_clutter(_black(), Clutter(patches=patches, patch_px=6), SEEDS)
        added = (images != before).sum(axis=(1, 2, 3))
        assert (images >= before).all()
        assert added.max() == 36
        assert (added == 36).mean() > 0.5, "the others overlap"
        before = images


def test_a_patch_is_a_piece_of_a_real_digit(digits: Dataset) -> None:
    known = {digit.tobytes() for digit in digits.images}
    whole = add_clutter(_black(28, 28), Clutter(patches=1, patch_px=28), SEEDS)
    assert all(image.tobytes() in known for image in whole)
    assert len({image.tobytes() for image in whole}) > 190


def test_the_lighter_of_two_shows() -> None:
    step = Clutter(patches=6, patch_px=6)
    patches = add_clutter(_black(), step, SEEDS)
    grey = np.random.default_rng(0).integers(0, 256, _black().shape, dtype=np.uint8)
    np.testing.assert_array_equal(add_clutter(grey, step, SEEDS), np.maximum(grey, patches))
    np.testing.assert_array_equal(add_clutter(np.full_like(grey, 255), step, SEEDS), 255)


def test_floats_and_colours_get_the_same_patches() -> None:
    step = Clutter()
    patches = add_clutter(_black(), step, SEEDS)
    in_floats = add_clutter(_black().astype(np.float32), step, SEEDS)
    assert in_floats.dtype == np.float32
    np.testing.assert_array_equal(in_floats, patches.astype(np.float32) / 255)
    np.testing.assert_array_equal(add_clutter(_black(channels=3), step, SEEDS), np.repeat(patches, 3, axis=3))


def test_a_seed_means_the_same_bytes_in_any_batch() -> None:
    step = Clutter()
    whole = add_clutter(_black(), step, SEEDS)
    np.testing.assert_array_equal(add_clutter(_black(), step, SEEDS), whole)
    alone = [add_clutter(_black()[:1], step, SEEDS[k : k + 1]) for k in (0, 3, 199)]
    np.testing.assert_array_equal(np.concatenate(alone), whole[[0, 3, 199]])
    assert len({image.tobytes() for image in whole}) == len(whole)


def test_the_input_is_left_as_it_was() -> None:
    images = _black()
    images.setflags(write=False)
    assert add_clutter(images, Clutter(), SEEDS).any()


@pytest.mark.parametrize("size", [(5, 60), (60, 5)])
def test_an_image_smaller_than_a_patch_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadTensor, match=rf"at least the 6 px of a patch of clutter, got {size[0]} x {size[1]}"):
        add_clutter(_black(*size), Clutter(), SEEDS)
