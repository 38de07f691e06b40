"""The sampler in C: the same warp as TensorFlow's, and never a byte read beside the image."""

from __future__ import annotations

import ctypes
import itertools
import mmap
from typing import Any

import numpy as np
import pytest
import sampler_oracle

from stn_core import native
from stn_core.errors import BadTensor, Unsupported
from stn_core.transforms import identity_like

SHAPES = {"affine": (2, 3), "homography": (3, 3), "spline": (16, 2), "spline of 9": (9, 2)}
FAMILIES = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
# Of each number of channels one that is copied into the cache first, and one that is too large for it.
SIZES = [(1, 1), (1, 5), (6, 1), (7, 7), (28, 28), (13, 40), (150, 230)]


def _images(*shape: int, dtype: Any) -> Any:
    images = np.random.default_rng(0).integers(0, 256, shape)
    return images.astype(np.uint8) if dtype == np.uint8 else images.astype(np.float32) / np.float32(255)


@FAMILIES
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_identity_returns_the_input_bit_for_bit(channels: int, dtype: Any, shape: Any) -> None:
    for size in (*SIZES, (137, 480)):
        images = _images(2, *size, channels, dtype=dtype)
        np.testing.assert_array_equal(native.warp(images, identity_like(shape, 2), fill_fraction=0.7), images)


@FAMILIES
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_it_equals_the_oracle(channels: int, shape: Any) -> None:
    rng = np.random.default_rng(1)
    for size, out_size in itertools.product([(1, 1), (1, 5), (13, 40), (9, 9)], [(9, 14), (1, 1), (40, 3)]):
        theta = sampler_oracle.thetas(rng, shape, 2, 0.3)
        images = _images(2, *size, channels, dtype=np.float32)
        expected = sampler_oracle.warp(images.astype(np.float64), theta, out_size, "constant", 0.3)
        np.testing.assert_allclose(native.warp(images, theta, out_size, 0.3), expected, atol=1e-5)
        found = native.warp(_images(2, *size, channels, dtype=np.uint8), theta, out_size, 0.3)
        assert found.dtype == np.uint8
        assert np.abs(found - expected * 255).max() < 0.51


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_parts_of_a_large_image_equal_the_oracle(channels: int, shape: Any) -> None:
    rng = np.random.default_rng(2)
    large = _images(1, 200, 300, channels, dtype=np.float32)
    theta = sampler_oracle.thetas(rng, shape, 1, 0.2)
    whole = native.warp(large, theta, (160, 170))
    for top, left in ((0, 0), (60, 100), (140, 130)):
        rows, columns = slice(top, top + 12), slice(left, left + 15)
        # The output's part, as a warp of its own: of the part's coordinates to the whole's.
        part = np.eye(3)[None]
        part[0, 0, 0], part[0, 1, 1] = 15 / 170, 12 / 160
        part[0, 0, 2], part[0, 1, 2] = (2 * left + 15) / 170 - 1, (2 * top + 12) / 160 - 1
        full = np.eye(3)[None]
        full[:, : theta.shape[1]] = theta
        composed = (full @ part)[:, : theta.shape[1]]
        expected = sampler_oracle.warp(large.astype(np.float64), composed, (12, 15), "constant", 0.0)
        np.testing.assert_allclose(whole[:, rows, columns], expected, atol=2e-4)


@FAMILIES
def test_threads_change_nothing(shape: Any) -> None:
    for count, size in ((1, (150, 230)), (5, (28, 28)), (3, (1, 7))):
        images = _images(count, *size, 3, dtype=np.uint8)
        theta = sampler_oracle.thetas(np.random.default_rng(3), shape, count, 0.3)
        alone = native.warp(images, theta, fill_fraction=0.5)
        for threads in (2, 3, 8):
            np.testing.assert_array_equal(native.warp(images, theta, fill_fraction=0.5, threads=threads), alone)


@FAMILIES
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e30, -1e300, 1e-300])
def test_a_theta_that_leads_nowhere_gives_fill_or_what_is_in_the_image(wild: float, shape: Any) -> None:
    for size in ((28, 28), (190, 200)):
        images = np.full((1, *size, 1), 200, np.uint8)
        for place in np.ndindex(*shape):
            theta = identity_like(shape, 1)
            theta[(0, *place)] = wild
            found = native.warp(images, theta, fill_fraction=0.2)
            assert 51 <= found.min() <= found.max() <= 200


@pytest.mark.parametrize("threads", [1, 3])
def test_a_spline_is_warped_in_parts_where_it_has_many_places(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, size in ((7, (28, 28)), (2, (150, 230))):
        images = _images(count, *size, 3, dtype=np.uint8)
        theta = sampler_oracle.thetas(np.random.default_rng(6), (16, 2), count, 0.2)
        whole, within = native.warp(images, theta, (60, 50)), native.inside(theta, size, (60, 50))
        for places in (60 * 50 * 2, 700, 1):
            monkeypatch.setattr(native, "MAX_PLACES", places)
            np.testing.assert_array_equal(native.warp(images, theta, (60, 50), threads=threads), whole)
            np.testing.assert_array_equal(native.inside(theta, size, (60, 50), threads), within)
        monkeypatch.undo()


@FAMILIES
def test_inside_is_where_white_is_read_and_black_is_not(shape: Any) -> None:
    """Inside of the outermost pixels' centres all that is read is white; beyond half a pixel all is fill."""
    rng = np.random.default_rng(7)
    for in_size, size in (((40, 30), (55, 60)), ((1, 7), (9, 13)), ((200, 180), None)):
        theta = sampler_oracle.thetas(rng, shape, 3, 0.3)
        found = native.inside(theta, in_size, size)
        assert found.dtype == np.bool_
        assert found.shape == (3, *(size or in_size))
        white = native.warp(np.ones((3, *in_size, 1), np.float32), theta, size)[..., 0]
        # At the edge, midway between white and fill, a pixel counts as inside: there it is half white, a quarter at
        # corners. Within half a pixel of it the two have to agree.
        assert (white[found] >= 0.25 - 1e-4).all()
        assert (white[~found] <= 0.5 + 1e-4).all()
        np.testing.assert_array_equal(native.inside(theta, in_size, size, threads=3), found)
    assert native.inside(identity_like(shape, 2), (31, 17)).all()


def test_inside_ends_at_the_edge() -> None:
    theta = identity_like((2, 3), 1) * 2
    assert native.inside(theta, (8, 8), (8, 4))[0, :, 2].tolist() == [False] * 2 + [True] * 4 + [False] * 2
    theta[0, 0, 2] = np.nan
    assert not native.inside(theta, (8, 8)).any()


def _mean_of_areas(images: Any, size: tuple[int, int]) -> Any:
    """Of areas that hold parts of pixels too, as each pixel is split into as many as the output has."""
    split = np.repeat(np.repeat(images.astype(np.float64), size[0], axis=1), size[1], axis=2)
    count, height, width, channels = images.shape
    return split.reshape(count, size[0], height, size[1], width, channels).mean(axis=(2, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reduced_is_the_mean_of_each_area(channels: int, dtype: Any) -> None:
    images = _images(2, 30, 41, channels, dtype=dtype)
    for size in ((30, 41), (30, 40), (10, 41), (29, 13), (15, 7), (1, 1), (7, 41)):
        expected = _mean_of_areas(images, size)
        for threads in (1, 3):
            found = native.reduced(images, size, threads)
            assert found.dtype == dtype
            assert np.abs(found - expected).max() < (0.501 if dtype == np.uint8 else 1e-6)


def test_reduced_reads_nothing_that_is_none_of_its_own() -> None:
    images = _images(1, 20, 30, 3, dtype=np.float32)
    images[0, 7, 11] = np.nan
    found = native.reduced(images, (5, 10))
    assert np.isnan(found[0, 1, 3]).all()
    assert np.isnan(found).sum() == 3
    guarded = _at_the_end_of_memory(_images(1, 61, 53, 3, dtype=np.uint8))
    assert native.reduced(guarded, (13, 17)).shape == (1, 13, 17, 3)


@pytest.mark.parametrize("size", [(31, 10), (10, 42), (0, 5), (5, 0)])
def test_reduced_makes_nothing_larger(size: tuple[int, int]) -> None:
    with pytest.raises(BadTensor, match="expected no more than the image's 30 x 41"):
        native.reduced(_images(1, 30, 41, 1, dtype=np.uint8), size)


def _at_the_end_of_memory(values: Any) -> Any:
    """A copy of ``values`` that ends where the next page cannot be read."""
    pages = -(-values.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    buffer = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(buffer.ctypes.data + pages * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    start = pages * mmap.PAGESIZE - values.nbytes
    copy = buffer[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[:] = values
    return copy


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_nothing_beside_the_image_is_read(channels: int, dtype: Any) -> None:
    """It would end this process."""
    rng = np.random.default_rng(4)
    for size in ((5, 5), (1, 1), (200, 210)):
        images = _images(2, *size, channels, dtype=dtype)
        guarded = _at_the_end_of_memory(images)
        for theta in (identity_like((2, 3), 2), *(sampler_oracle.thetas(rng, (2, 3), 2, 0.4) for _ in range(5))):
            np.testing.assert_array_equal(native.warp(guarded, theta), native.warp(images, theta))


def test_images_that_do_not_lie_in_one_piece_are_read_as_they_are() -> None:
    images = _images(3, 40, 30, 3, dtype=np.float32)
    theta = sampler_oracle.thetas(np.random.default_rng(5), (2, 3), 3, 0.3)
    turned = images.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(native.warp(turned, theta), native.warp(turned.copy(), theta))


def test_what_it_cannot_warp_is_refused() -> None:
    theta = identity_like((2, 3), 2)
    with pytest.raises(BadTensor, match="expected uint8 or float32"):
        native.warp(np.zeros((2, 4, 4, 1)), theta)
    with pytest.raises(BadTensor, match="expected uint8 or float32"):
        native.warp(np.zeros((4, 4, 1), np.uint8), theta)
    with pytest.raises(BadTensor, match="one for each image"):
        native.warp(np.zeros((3, 4, 4, 1), np.uint8), theta)


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LIBRARY", "none.so")
    native.library.cache_clear()
    with pytest.raises(Unsupported, match="install one"):
        native.warp(np.zeros((1, 4, 4, 1), np.uint8), identity_like((2, 3), 1))
    native.library.cache_clear()
