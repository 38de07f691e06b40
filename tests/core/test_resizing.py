"""An array becomes a network's input exactly as a picture file of the same pixels does when a training reads it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from picture_files import saved
from PIL import Image

from stn_core import resizing
from stn_core.errors import BadTensor
from stn_core.pictures import decode_picture
from stn_core.resizing import as_input, in_channels, resized

RNG = np.random.default_rng(0)
SIZES = [(28, 28), (28, 90), (61, 28), (5, 7), (300, 211)]


def _noise(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, np.uint8)


def _by_pillow(pixels: Any, size: tuple[int, int], channels: int) -> Any:
    """The picture on black, resized, in gray if that is asked for."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if pixels.shape[2] == 4:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    resized = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized.convert("L"))[..., None] if channels == 1 else np.asarray(resized)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("came", [1, 3, 4])
def test_it_is_what_pillow_makes_and_what_a_picture_file_becomes(came: int, channels: int) -> None:
    for size in SIZES:
        pixels = _noise(*size, came)
        found = as_input(pixels, (28, 36, channels))
        np.testing.assert_array_equal(found, _by_pillow(pixels, (28, 36), channels))
        file = saved(Image.fromarray(pixels[..., 0] if came == 1 else pixels))
        np.testing.assert_array_equal(found, decode_picture(file, channels=channels, size=(28, 36)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("came", [1, 3, 4])
def test_large_images_go_the_same_way_in_bands(came: int, channels: int) -> None:
    pixels = _noise(1300, 900, came)
    for threads in (1, 3):
        found = as_input(pixels, (28, 36, channels), threads)
        np.testing.assert_array_equal(found, _by_pillow(pixels, (28, 36), channels))


def test_one_that_pillow_takes_the_other_way_is_rounded_otherwise() -> None:
    pixels = _noise(20_000, 40, 3)
    found = as_input(pixels, (28, 36, 3)).astype(int)
    assert np.abs(found - _by_pillow(pixels, (28, 36), 3)).max() <= 1


def test_a_training_set_s_folder_gives_the_same(tmp_path: Any) -> None:
    from stn_core.datasets import load

    pixels = {name: _noise(50, 70, 3) for name in ("a", "b")}
    for name, one in pixels.items():
        for number in range(6):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.png").write_bytes(saved(Image.fromarray(one)))
    train = load(str(tmp_path), size=(20, 16), channels=1).train
    for label, name in enumerate(train.classes):
        expected = as_input(pixels[name], (20, 16, 1))
        for image in train.images[train.labels == label]:
            np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("came", [1, 3, 4])
def test_floats_become_what_bytes_become(came: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _noise(120, 91, came)
    for channels, band_pixels in itertools.product((1, 3, 4), (500, 2**19)):
        monkeypatch.setattr(resizing, "_BAND_PIXELS", band_pixels)
        found = as_input((pixels / 255).astype(np.float32), (28, 30, channels))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found * 255, as_input(pixels, (28, 30, channels)), atol=2.1)


def test_what_is_transparent_is_black_before_it_is_averaged() -> None:
    pixels = np.full((40, 40, 4), 200, np.uint8)
    pixels[..., 3] = np.indices((40, 40)).sum(axis=0) % 2 * 255
    for image, full in ((pixels, 1.0), ((pixels / 255).astype(np.float32), 255.0)):
        np.testing.assert_allclose(as_input(image, (4, 4, 3)) * full, 100, atol=2.1)
        np.testing.assert_allclose(as_input(image, (4, 4, 1)) * full, 100, atol=2.1)


def test_a_size_that_it_has_costs_nothing() -> None:
    pixels = _noise(28, 30, 3)
    assert np.shares_memory(resized(pixels, (28, 30)), pixels)
    assert np.shares_memory(as_input(pixels, (28, 30, 3)), pixels)


def test_channels_of_every_kind() -> None:
    gray, colour = _noise(6, 5, 1), _noise(2, 6, 5, 3)
    np.testing.assert_array_equal(in_channels(gray, 3), np.repeat(gray, 3, axis=2))
    assert (in_channels(gray, 4)[..., 3] == 255).all()
    opaque = in_channels(colour.astype(np.float32) / np.float32(255), 4)
    assert opaque.dtype == np.float32
    assert (opaque[..., 3] == 1).all()
    for one, found in zip(colour, in_channels(colour, 1), strict=True):
        np.testing.assert_array_equal(found[..., 0], np.asarray(Image.fromarray(one).convert("L")))
    # Any number of channels that the network has too.
    assert as_input(_noise(9, 9, 7), (4, 4, 7)).shape == (4, 4, 7)


@pytest.mark.parametrize(("came", "channels"), [(2, 1), (3, 2), (5, 3), (1, 7)])
def test_channels_that_can_not_become_the_network_s_are_refused(came: int, channels: int) -> None:
    with pytest.raises(BadTensor, match=f"expected {channels} channels, .* got {came}"):
        as_input(_noise(5, 5, came), (28, 28, channels))
    with pytest.raises(BadTensor, match="can not become"):
        in_channels(_noise(5, 5, came), channels)
