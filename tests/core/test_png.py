"""PNGs drawn without matplotlib."""

import io

import numpy as np
import pytest
from PIL import Image

from stn_core.errors import BadTensor
from stn_core.png import GAP_PX, encode_png, mosaic


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_come_back(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    for given in (pixels, pixels[::-1, ::-1], np.asfortranarray(pixels)):
        read = np.asarray(Image.open(io.BytesIO(encode_png(given))))
        np.testing.assert_array_equal(read.reshape(given.shape), given)


@pytest.mark.parametrize("pixels", [np.zeros((5, 7, 2), np.uint8), np.zeros((5, 7), np.uint8), np.zeros((5, 7, 1))])
def test_what_no_png_holds(pixels: np.ndarray) -> None:
    with pytest.raises(BadTensor, match=r"expected uint8 \[H, W, C\]"):
        encode_png(pixels)


def test_a_mosaic_has_each_image_in_the_middle_of_its_tile() -> None:
    small = np.stack([np.full((3, 4, 1), value, np.uint8) for value in (10, 20)])
    large = np.stack([np.full((5, 8, 1), value, np.uint8) for value in (30, 40)])
    drawn = mosaic([small, large], background=0)[..., 0]
    assert drawn.shape == (3 * GAP_PX + 3 + 5, 3 * GAP_PX + 2 * 8)
    second = 2 * GAP_PX + 8
    np.testing.assert_array_equal(drawn[GAP_PX : GAP_PX + 3, GAP_PX + 2 : GAP_PX + 6], small[0, ..., 0])
    np.testing.assert_array_equal(drawn[GAP_PX : GAP_PX + 3, second + 2 : second + 6], small[1, ..., 0])
    np.testing.assert_array_equal(drawn[2 * GAP_PX + 3 : -GAP_PX, second : second + 8], large[1, ..., 0])
    assert drawn.sum() == small.sum() + large.sum()
    with pytest.raises(BadTensor, match="as many images"):
        mosaic([small, large[:1]])
