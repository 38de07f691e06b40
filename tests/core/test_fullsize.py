"""Rectification at full size, by the shipped bundle on real digits and by thetas that are known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sampler_oracle
from picture_files import saved
from PIL import Image

from stn_core import native, transforms
from stn_core.augment import augment
from stn_core.bundle import check_fields
from stn_core.canvas import Wanted
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadTensor, InvalidInput, TooLarge, Unsupported
from stn_core.fullsize import FullImage, localize_full, rectify_full, warp_full
from stn_core.geometry import CORNERS, IDENTITY
from stn_core.recipes import load_recipe
from stn_core.resizing import as_input

PAGE = Path(__file__).parents[2] / "docs" / "full-resolution.md"
RNG = np.random.default_rng(0)


class _Given:
    """A backend whose localization network says what ``thetas_of`` says of the small images."""

    networks = ("localization",)

    def __init__(self, thetas_of: Any) -> None:
        self.localize = thetas_of


def _engine(theta: Any, input_shape: Any = (28, 28, 1), **fields: Any) -> Engine:
    """An engine that finds the same theta in every image, or what a function finds."""
    manifest = check_fields(
        {"name": "given", "created": "2026-01-01", "input_shape": input_shape, "classes": ["a", "b"],
         "recipe": load_recipe("rotation"), **fields}
    )  # fmt: skip
    constant = None if callable(theta) else np.asarray(theta, np.float32)
    return Engine(manifest, _Given(theta if constant is None else lambda images: np.stack([constant] * len(images))))


def _noise(*shape: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else RNG.random(shape, np.float32)


def _only(found: list[FullImage]) -> FullImage:
    assert len(found) == 1
    return found[0]


def _large(digits: Any, side: int = 280) -> list[Any]:
    """Digits, distorted, as someone with a better camera would have them."""
    distorted = augment(digits, load_recipe("tutorial-mix"), 1).images
    resized = (Image.fromarray(one[..., 0]).resize((side, side), Image.Resampling.BICUBIC) for one in distorted)
    return [np.asarray(one)[..., None] for one in resized]


@pytest.mark.parametrize("canvas", ["crop", "fit"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_identity_returns_the_image_exactly(channels: int, dtype: Any, canvas: Any) -> None:
    for size in ((1, 1), (7, 300), (400, 211)):
        image = _noise(*size, channels, dtype=dtype)
        found = _only(rectify_full(_engine(IDENTITY), image, canvas, with_mask=True))
        np.testing.assert_array_equal(found.image, image)
        np.testing.assert_array_equal(found.theta, IDENTITY)
        assert found.source_size == size
        assert found.mask is not None
        assert found.mask.dtype == np.bool_
        assert found.mask.shape == size
        assert found.mask.all()


def test_small_images_come_out_as_the_engine_rectifies_them(engine: Engine, digits: Dataset) -> None:
    images = augment(digits.images[:60], load_recipe("tutorial-mix"), 1).images
    for given in (images, (images / 255).astype(np.float32)):
        rectified, theta = engine.rectify(given)
        found = rectify_full(engine, given, size=(28, 28))
        np.testing.assert_array_equal(np.stack([one.theta for one in found]), theta)
        np.testing.assert_array_equal(np.stack([one.image for one in found]), rectified)


def test_a_large_image_rectified_and_reduced_is_the_small_one_rectified(engine: Engine, digits: Dataset) -> None:
    large = _large(digits.images[:40])
    small = np.stack([as_input(one, (28, 28, 1)) for one in large])
    rectified, theta = engine.rectify(small)
    found = rectify_full(engine, large)
    np.testing.assert_array_equal(np.stack([one.theta for one in found]), theta)
    reduced = np.stack([native.reduced(one.image[None], (28, 28))[0] for one in found]).astype(int)
    off = np.abs(reduced - rectified).mean(axis=(1, 2, 3))
    shifted = [np.abs(np.roll(reduced, by, axis) - rectified).mean(axis=(1, 2, 3)) for axis in (1, 2) for by in (-1, 1)]
    assert off.mean() < 4, "in gray levels of 255"
    assert (off < 0.7 * np.min(shifted, axis=0)).all(), "a pixel to the side would fit nearly as well"


def test_theta_is_that_of_the_original_however_the_small_copy_is_stretched() -> None:
    """A network that brings what is bright into the middle."""

    def centred(images: Any) -> Any:
        weights = images[..., 0] / images[..., 0].sum(axis=(1, 2), keepdims=True)
        height, width = images.shape[1:3]
        x = (weights * ((2 * np.arange(width) + 1) / width - 1)).sum(axis=(1, 2))
        y = (weights * ((2 * np.arange(height) + 1) / height - 1)[:, None]).sum(axis=(1, 2))
        theta = transforms.identity_like((2, 3), len(images))
        theta[:, 0, 2], theta[:, 1, 2] = x, y
        return theta.astype(np.float32)

    images = []
    for height, width, channels in ((90, 400, 1), (400, 90, 3), (333, 333, 4)):
        image = np.zeros((height, width, channels), np.uint8)
        image[..., 3:] = 255
        image[height // 5 : height // 5 + 11, width // 4 : width // 4 + 11] = 255
        images.append(image)
    for source, found in zip(images, rectify_full(_engine(centred), images, with_mask=True), strict=True):
        assert found.image.shape == source.shape
        bright = np.argwhere(found.image[..., 0] > 127)
        np.testing.assert_allclose(bright.mean(axis=0) + 0.5, np.array(source.shape[:2]) / 2, atol=0.6)
        # A point of the output, asked where it comes from: a bright one comes from the bright square.
        height, width = source.shape[:2]
        at = transforms.map_points(found.theta[None], [[0.0, 0.0]])[0, 0]
        assert (at + 1) / 2 * (width, height) == pytest.approx((width // 4 + 5.5, height // 5 + 5.5), abs=0.6)
        assert found.mask is not None
        assert not found.mask.all()


def test_fit_loses_nothing(engine: Engine, digits: Dataset) -> None:
    """Seen whole, a straightened image holds as much ink as the crooked one, and each corner of each pixel."""
    large = _large(digits.images[:30], 200)
    line = np.linspace(-1, 1, 201)
    corners = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for source, found in zip(large, rectify_full(engine, large, "fit", with_mask=True), strict=True):
        assert np.abs(transforms.map_points(transforms.invert(found.theta[None]), corners)).max() < 1 + 1e-9
        assert _ink(found) == pytest.approx(source.sum(), rel=0.01)
        assert found.mask is not None
        assert found.mask.mean() * abs(np.linalg.det(found.theta[:, :2])) == pytest.approx(1, rel=0.02), "its area"


def test_crop_loses_what_leaves_the_window_and_fit_does_not(engine: Engine, digits: Dataset) -> None:
    source = _large(digits.images[:1], 200)[0]
    theta = np.array([[0.5, 0.2, 0.3], [-0.1, 0.6, 0.2]])
    crop, fit = (warp_full(source, theta, engine.manifest, Wanted(canvas)) for canvas in ("crop", "fit"))
    assert _ink(crop) < 0.7 * source.sum()
    assert _ink(fit) == pytest.approx(source.sum(), rel=0.01)


def _ink(found: FullImage) -> float:
    """What the source's pixels sum up to, as far as they are seen: each of the output covers so much of the source."""
    (height, width), (source_height, source_width) = found.image.shape[:2], found.source_size
    covers_px = abs(np.linalg.det(found.theta[:, :2])) * source_height * source_width / (height * width)
    return float(found.image.sum() * covers_px)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_fit_can_be_taken_back(shape: Any) -> None:
    y, x = np.mgrid[0:160, 0:220]
    source = (np.sin(x / 9) * np.cos(y / 7) * 100 + 128).astype(np.uint8)[..., None]
    for theta in sampler_oracle.thetas(np.random.default_rng(1), shape, 10, 0.12):
        found = _only(
            rectify_full(_engine(theta, transform="homography" if shape == (3, 3) else "affine"), source, "fit")
        )
        back = native.warp(found.image[None], transforms.invert(found.theta[None]), source.shape[:2])[0]
        off = np.abs(back.astype(int) - source)[1:-1, 1:-1]
        assert off.mean() < 3
        assert off.max() < 30


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
def test_the_mask_equals_the_oracle(shape: Any) -> None:
    transform = {(2, 3): "affine", (3, 3): "homography", (16, 2): "tps"}[shape]
    source = _noise(37, 53, 1)
    true, false = 0, 0
    for theta in sampler_oracle.thetas(np.random.default_rng(2), shape, 8, 0.2):
        found = warp_full(source, theta, _engine(IDENTITY, transform=transform).manifest, Wanted(size=(31, 44)), True)
        place = sampler_oracle._source_of(theta)
        assert found.mask is not None
        for (i, j), told in np.ndenumerate(found.mask):
            furthest = np.abs(place((2 * j + 1) / 44 - 1, (2 * i + 1) / 31 - 1)).max()
            assert told == (furthest <= 1) or abs(furthest - 1) < 1e-5
        true, false = true + int(found.mask.sum()), false + int((~found.mask).sum())
    assert min(true, false) > 500


def test_sizes_channels_and_datatypes_may_be_mixed(engine: Engine) -> None:
    images = [
        _noise(28, 28, 1), _noise(300, 200, 3), _noise(64, 64, 4), _noise(90, 31, 1, dtype=np.float32),
        _noise(40, 50, 3, dtype=np.float32), _noise(33, 44, 4, dtype=np.float32),
    ]  # fmt: skip
    together = rectify_full(engine, images, "fit", max_side_px=150, with_mask=True)
    for image, found in zip(images, together, strict=True):
        alone = _only(rectify_full(engine, image, "fit", max_side_px=150, with_mask=True, threads=1))
        assert found.image.dtype == image.dtype
        assert found.image.shape[2] == image.shape[2]
        np.testing.assert_allclose(found.theta, alone.theta, atol=1e-5)
        assert found.image.shape == alone.image.shape
        assert np.abs(found.image.astype(float) - alone.image).mean() < (0.1 if image.dtype == np.uint8 else 1e-3)
    assert rectify_full(engine, []) == []


def test_a_network_of_another_family_output_and_fill() -> None:
    bent = transforms.as_shape(np.array([[[0.8, 0.1, 0.1], [0.0, 0.9, 0.0]]]), (16, 2))[0]
    engine = _engine(bent, (20, 30, 3), transform="tps", rectified_size=(10, 15), fill_fraction=1.0)
    image = _noise(200, 300, 3)
    found = _only(rectify_full(engine, image))
    np.testing.assert_allclose(found.theta, bent, atol=1e-7)
    # Down, the window is sqrt((0.1 * 300)^2 + (0.9 * 200)^2) source pixels long; across it is less, in this shape.
    assert found.image.shape == (182, 274, 3)
    expected = native.warp(image[None], found.theta[None], found.image.shape[:2], 1.0)[0]
    np.testing.assert_array_equal(found.image, expected)
    with pytest.raises(Unsupported, match="use crop"):
        rectify_full(engine, image, "fit")


def _mean_of_areas(image: Any, size: tuple[int, int]) -> Any:
    """Of areas that hold parts of pixels too: each pixel is split into as many as the output has, first."""
    (height, width), (rows, columns) = image.shape[:2], size
    split = np.repeat(np.repeat(image.astype(np.float64), rows, axis=0), columns, axis=1)
    return split.reshape(rows, height, columns, width, -1).mean(axis=(1, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_much_smaller_is_the_mean_of_what_is_covered(channels: int, dtype: Any) -> None:
    image = _noise(60, 84, channels, dtype=dtype)
    tolerance = 0.51 if dtype == np.uint8 else 1e-5
    for size in ((20, 21), (13, 17), (37, 50), (1, 1), (60, 9)):
        found = _only(rectify_full(_engine(IDENTITY), image, size=size))
        assert np.abs(found.image - _mean_of_areas(image, size)).max() < tolerance
    # Mirrored, and less than one and a half times smaller: sampled as it is.
    mirrored = _only(rectify_full(_engine(np.diag([-1.0, 1.0, 1.0])[:2]), image, size=(20, 21))).image
    assert np.abs(mirrored - _mean_of_areas(image, (20, 21))[:, ::-1]).max() < tolerance
    little = _only(rectify_full(_engine(IDENTITY), image, size=(41, 57))).image
    np.testing.assert_array_equal(little, native.warp(image[None], IDENTITY[None], (41, 57))[0])


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
def test_much_smaller_nothing_is_moved_and_no_pattern_appears(shape: Any) -> None:
    """By any theta: the mean of 8 x 8 samples for each pixel, of which each reads the source at its full size."""
    transform = {(2, 3): "affine", (3, 3): "homography", (16, 2): "tps"}[shape]
    manifest = _engine(IDENTITY, transform=transform).manifest
    y, x = np.mgrid[0:600, 0:800]
    blobs = 200 * np.exp(-(((x - 500) / 60) ** 2) - ((y - 250) / 40) ** 2)
    stripes = np.where((x + y) % 2, 50, 0)  # as fine as can be: a mean of 25
    for image in (blobs + stripes, stripes):
        source = np.round(image).astype(np.uint8)[..., None]
        for theta in sampler_oracle.thetas(np.random.default_rng(4), shape, 4, 0.05):
            found = warp_full(source, theta, manifest, Wanted(size=(75, 90)), True)
            fine = native.warp(source[None], theta[None], (600, 720)).astype(np.float64)
            expected = fine.reshape(75, 8, 90, 8).mean(axis=(1, 3))
            assert found.mask is not None
            inner = found.mask.copy()
            inner[1:-1, 1:-1] &= inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]
            inner[[0, -1]] = inner[:, [0, -1]] = False
            off = np.abs(found.image[..., 0] - expected)[inner]
            assert off.max() < 9
            assert off.mean() < 1.5
            aliased = native.warp(source[None], theta[None], (75, 90))[0, ..., 0]
            assert np.abs(aliased - expected)[inner].mean() > 3 * off.mean(), "sampling as it is would do as well"


def test_a_blob_stays_where_theta_says_however_small_the_output() -> None:
    y, x = np.mgrid[0:1000, 0:1201]
    source = np.exp(-(((x - 700) / 90) ** 2) - ((y - 420) / 90) ** 2).astype(np.float32)[..., None]
    theta = np.array([[0.9, -0.2, 0.1], [0.25, 0.8, -0.1]])
    place = transforms.map_points(
        transforms.invert(theta[None]), [[(2 * 700 + 1) / 1201 - 1, (2 * 420 + 1) / 1000 - 1]]
    )
    for size in ((1000, 1201), (311, 400), (100, 37), (25, 30)):
        found = warp_full(source, theta, _engine(theta).manifest, Wanted(size=size)).image[..., 0].astype(np.float64)
        rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
        centre = np.array([(found * columns).sum(), (found * rows).sum()]) / found.sum()
        expected = (place[0, 0] + 1) * np.array(size[::-1]) / 2 - 0.5
        np.testing.assert_allclose(centre, expected, atol=0.02)


def test_sizes_at_the_limits() -> None:
    long = _noise(1, 32766, 1)
    np.testing.assert_array_equal(_only(rectify_full(_engine(IDENTITY), long)).image, long)
    assert _only(rectify_full(_engine(IDENTITY), long, size=(1, 1))).image == pytest.approx(long.mean(), abs=0.51)
    assert _only(rectify_full(_engine(IDENTITY), long, size=(32766, 1))).image.shape == (32766, 1, 1)
    with pytest.raises(BadTensor, match="sides of at most 32766 px, got 1 x 32767"):
        rectify_full(_engine(IDENTITY), _noise(1, 32767, 1))
    with pytest.raises(TooLarge, match="got 1 x 32767"):
        rectify_full(_engine(IDENTITY), long, size=(1, 32767))
    with pytest.raises(TooLarge, match="at most 32765 pixels"):
        rectify_full(_engine(IDENTITY), long, max_pixels=32765)
    with pytest.raises(TooLarge, match="got 2 x 65532"):
        rectify_full(_engine(IDENTITY * 2), long)
    assert _only(rectify_full(_engine(IDENTITY * 2), long, max_side_px=1000)).image.shape == (1, 1000, 1)


def test_what_can_not_be_rectified_is_refused(engine: Engine) -> None:
    good = _noise(30, 30, 3)
    for bad, came in (
        (np.zeros((5, 5)), "float64"), (np.zeros((5, 0, 3), np.uint8), "uint8"), (good.astype(np.int16), "int16"),
    ):  # fmt: skip
        with pytest.raises(BadTensor, match=f"expected uint8 or float32 .height, width, channels., got {came}.* at 1"):
            rectify_full(engine, [good, bad])
    with pytest.raises(BadTensor, match="expected 1 channels, .* got 2"):
        rectify_full(engine, _noise(30, 30, 2))
    with pytest.raises(InvalidInput, match="canvas: expected one of crop, fit"):
        rectify_full(engine, good, "whole")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="got both"):
        rectify_full(engine, good, size=(5, 5), max_side_px=9)
    with pytest.raises(BadTensor, match="finite"):
        rectify_full(engine, np.full((30, 30, 1), np.nan, np.float32))
    with pytest.raises(Unsupported, match="without the localization network"):
        rectify_full(Engine.load("digits", networks=["classifier"]), good)


def test_threads_change_nothing(engine: Engine) -> None:
    images = [_noise(900, 700, 3), _noise(700, 800, 1, dtype=np.float32)]
    np.testing.assert_array_equal(localize_full(engine, images, 1), localize_full(engine, images, 3))
    for canvas in ("crop", "fit"):
        for side in (None, 100):
            one, three = (
                rectify_full(engine, images, canvas, max_side_px=side, with_mask=True, threads=threads)  # type: ignore[arg-type]
                for threads in (1, 3)
            )
            for a, b in zip(one, three, strict=True):
                np.testing.assert_array_equal(a.image, b.image)
                np.testing.assert_array_equal(a.mask, b.mask)


def test_the_corners_of_the_source_can_be_found_again(engine: Engine, digits: Dataset) -> None:
    """Points are mapped with the theta that comes back."""
    source = _large(digits.images[:1], 300)[0].copy()
    source[:] = 0
    source[250:260, 30:40] = 255
    theta = np.array([[0.9, -0.3, 0.1], [0.3, 0.8, 0.0]])
    found = warp_full(source, theta, engine.manifest, Wanted("fit"))
    height, width = found.image.shape[:2]
    at = transforms.map_points(transforms.invert(found.theta[None]), [[2 * 35 / 300 - 1, 2 * 255 / 300 - 1]])[0, 0]
    bright = np.argwhere(found.image[..., 0] > 127).mean(axis=0)[::-1] + 0.5
    np.testing.assert_allclose((at + 1) / 2 * (width, height), bright, atol=0.5)
    assert (np.abs(transforms.map_points(found.theta[None], CORNERS)) > 1).any()


def test_the_page_s_examples_run(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = np.repeat(_large(digits.images[:1], 700)[0], 3, axis=2)
    Path("photo.png").write_bytes(saved(Image.fromarray(photo)))
    text, names = PAGE.read_text(), dict[str, Any]()
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], PAGE, "exec"), names)  # so that a traceback shows the page's own line
    straight, corners = names["straight"], names["corners"]
    assert straight.image.shape == (*straight.mask.shape, 3)
    assert min(straight.image.shape[:2]) >= 700
    assert corners.shape == (1, 2, 2)
