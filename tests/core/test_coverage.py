"""The share of content that is shown, the quick way and the general one."""

from __future__ import annotations

import numpy as np
import pytest

from stn_core.coverage import content_kept, coverage, mass
from stn_core.datasets import Dataset, to_float
from stn_core.geometry import identity
from stn_core.native import warp
from stn_core.transforms import as_shape


@pytest.mark.parametrize("size", [None, (20, 36)])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
def test_the_quick_way_gives_what_the_general_one_does(
    digits: Dataset, shape: tuple[int, int], size: tuple[int, int] | None
) -> None:
    images = digits.images[:200]
    theta = as_shape(identity(200) + np.random.default_rng(0).normal(0, 0.2, (200, 2, 3)), shape)
    shown = warp(images, theta, size)
    expected = coverage(theta, to_float(shown), to_float(images), 0.0).content_kept
    found = content_kept(theta, mass(shown, 0.0), mass(images, 0.0))
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert expected.min() < 0.9, "nothing was lost, and so nothing shown"


def test_mass_is_the_distance_from_the_fill_in_either_datatype() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[0, 1, 2] = (255, 51, 0)
    for fill, expected in ((0.0, (1 + 0.2 + 0) / 3), (1.0, (0 + 0.8 + 1) / 3)):
        for pictures in (images, to_float(images)):
            found = mass(pictures, fill)
            assert found.shape == (2, 4, 5)
            assert found.dtype == np.float32
            assert found[0, 1, 2] == pytest.approx(expected)
            np.testing.assert_allclose(found[1], fill)


def test_an_empty_image_loses_nothing() -> None:
    empty = np.zeros((1, 8, 8), np.float32)
    np.testing.assert_array_equal(content_kept(identity(1), empty, empty), [1])
