"""Augmentation: exact theta, proved by what imgaug does with the same draws; draws that belong to the image."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import cv2
import imgaug.augmenters as iaa
import numpy as np
import pytest
import sampler_oracle
import tensorflow as tf
from imgaug.augmentables import Keypoint, KeypointsOnImage
from imgaug_reference import augment_by_imgaug

from stn_core import geometry
from stn_core.augment import augment
from stn_core.datasets import Dataset
from stn_core.draws import image_ids
from stn_core.errors import BadTensor
from stn_core.recipes import distorted_size, load_recipe, parse_recipe, shipped_recipes
from stn_core.sampler import warp

EVERYTHING_AFFINE = {
    "name": "everything-affine",
    "steps": [
        {"op": "sometimes", "steps": [{"op": "affine", "scale_x": [0.8, 1.3], "scale_y": [0.7, 1.2]}]},
        {
            "op": "some_of",
            "at_least": 1,
            "at_most": 3,
            "steps": [
                {"op": "flip_horizontal"},
                {"op": "flip_vertical"},
                {"op": "affine", "rotate_deg": [-180, 180]},
                {"op": "affine", "shear_x_deg": [-30, 30], "shear_y_deg": [-20, 20]},
                {"op": "sequence", "steps": [{"op": "affine", "translate_x_px": 5}, {"op": "affine", "shear_deg": 8}]},
            ],
        },
        {
            "op": "one_of",
            "steps": [
                {"op": "affine", "translate_x_fraction": [-0.1, 0.1], "translate_y_fraction": [-0.1, 0.1]},
                {"op": "affine", "scale": [0.7, 1.2], "rotate_deg": 20},
            ],
        },
    ],
}  # fmt: skip
QUARTERS = {"name": "quarters", "steps": [{"op": "quarter_turns"}, {"op": "affine", "rotate_deg": [-10, 10]}]}


def _name(source: Any) -> str:
    return source["name"] if isinstance(source, dict) else str(source)


def _sometimes(op: str) -> dict[str, Any]:
    """A turn, and for half of the images a step."""
    step = {"op": op} if op in ("clutter", "elastic") else {"op": op, "sd_fraction": 0.05}
    turn = {"op": "affine", "rotate_deg": [-40, 40]}
    return {"name": f"sometimes-{op}", "steps": [turn, {"op": "sometimes", "probability": 0.5, "steps": [step]}]}


@pytest.mark.parametrize("source", ["tutorial-mix", "rotation", EVERYTHING_AFFINE, QUARTERS])
@pytest.mark.parametrize("size", [(256, 256), (280, 240)])
def test_theta_is_exact_to_a_hundredth_of_a_pixel(source: Any, size: tuple[int, int]) -> None:
    # Each pixel of a ramp holds its own coordinates, and linear interpolation keeps them: what imgaug makes of the same
    # draws says where each pixel was read from. OpenCV rounds those places to 1/32 px, so the ramp is rendered large,
    # and the error given for the same theta at 28 px.
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    scale = np.float32(1 / 1024)  # float images live in [0, 1]
    ramp = np.tile(np.stack([x, y], axis=-1) * scale, (60, 1, 1, 1))
    ids, recipe = np.arange(60, dtype=np.uint64), parse_recipe(source)
    result = augment(ramp, recipe, seed=5, ids=ids)
    by_imgaug = augment_by_imgaug(ramp, recipe, seed=5, ids=ids)
    assert result.exact.all()
    (a, b, c), (d, e, f) = geometry.pixel_coefficients(result.theta, size, size)
    checked = 0
    for n in range(len(ramp)):
        read = by_imgaug[n] / scale
        expected_x, expected_y = a[n] * x + b[n] * y + c[n], d[n] * x + e[n] * y + f[n]
        # Several warps in a row lose what any of them pushed out: keep to the middle, which all of them kept.
        inside = (abs(expected_x - size[1] / 2) < size[1] * 0.15) & (abs(expected_y - size[0] / 2) < size[0] * 0.15)
        inside &= (read > 1).all(axis=-1)
        if inside.sum() < 200:
            continue
        checked += 1
        plane = np.stack([x[inside], y[inside], np.ones(inside.sum())], axis=1).astype(np.float64)
        fitted = plane @ np.linalg.lstsq(plane, read[inside].astype(np.float64), rcond=None)[0]
        off = np.hypot(fitted[:, 0] - expected_x[inside], fitted[:, 1] - expected_y[inside])
        assert off.max() * 28 / min(size) < 0.01, f"image {n}"
    assert checked > 50


def test_theta_equals_what_imgaug_does_to_points() -> None:
    draws = {"scale": 0.8, "rotate": 33.0, "shear": {"x": 12.0, "y": -7.0}, "translate_percent": {"x": 0.1, "y": -0.05}}
    recipe = parse_recipe(
        {
            "name": "one",
            "steps": [
                {"op": "affine", "scale": 0.8, "rotate_deg": 33, "shear_x_deg": 12, "shear_y_deg": -7,
                 "translate_x_fraction": 0.1, "translate_y_fraction": -0.05},
            ],
        }
    )  # fmt: skip
    size = (60, 90)
    corners = [Keypoint(x, y) for x, y in ((0, 0), (90, 0), (90, 60), (0, 60), (20, 50))]
    moved = iaa.Affine(**draws).augment_keypoints(KeypointsOnImage(corners, shape=size))
    result = augment(np.zeros((1, *size, 1), np.uint8), recipe, seed=0)
    # imgaug counts points from the image's edge, a half pixel before the first pixel's centre.
    points = np.array([[k.x, k.y] for k in corners]) / [90, 60] * 2 - 1
    expected = np.array([[k.x, k.y] for k in moved.keypoints]) / [90, 60] * 2 - 1
    np.testing.assert_allclose(geometry.map_points(result.theta_rectifying, points)[0], expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["tutorial-mix", "rotation", "jitter"])
def test_the_images_are_those_that_imgaug_makes_of_the_same_draws(digits: Dataset, name: str, dtype: Any) -> None:
    images = digits.images[:400] if dtype == np.uint8 else digits.images[:400].astype(np.float32) / 255
    ours, theirs = augment(images, load_recipe(name), seed=3), augment_by_imgaug(images, load_recipe(name), seed=3)
    assert ours.images.dtype == theirs.dtype == dtype
    assert ours.by_imgaug == ()
    off = np.abs(ours.images.astype(np.float64) - theirs) / (255 if dtype == np.uint8 else 1)
    # OpenCV rounds positions to 1/32 px: up to 1/64 px either way in x and y, times the steepest edge there is.
    assert off.max() < 2 / 64 + 1 / 255
    assert off.mean() < 0.002


def test_steps_that_compose_with_no_warp_are_imgaugs_and_said_to_be(digits: Dataset) -> None:
    assert augment(digits.images[:2], load_recipe("translated-clutter"), seed=1).by_imgaug == ()
    camera = augment(digits.images[:2], load_recipe("camera"), seed=1)
    assert camera.by_imgaug == ("gaussian_blur", "gaussian_noise", "contrast", "brightness")


def test_what_one_step_pushed_out_another_brings_back() -> None:
    there_and_back = [{"op": "affine", "translate_x_px": 6}, {"op": "affine", "translate_x_px": -6}]
    images = np.full((1, 8, 8, 1), 200, np.uint8)
    result = augment(images, parse_recipe({"name": "there-and-back", "steps": there_and_back}), seed=0)
    np.testing.assert_array_equal(result.images, images)


def test_the_rectifying_theta_undoes_the_distortion(digits: Dataset) -> None:
    images = digits.images[:200]
    result = augment(images, load_recipe("rotation"), seed=3)
    straight = warp(tf.constant(result.images / 255, tf.float32), tf.constant(result.theta_rectifying)).numpy()
    before = np.abs(result.images / 255 - images / 255).mean()
    assert np.abs(straight - images / 255).mean() < before / 4
    both = geometry.compose(result.theta, result.theta_rectifying)
    np.testing.assert_allclose(both, geometry.identity(200), atol=1e-12)


def test_same_seed_same_bytes_other_seed_other_draws(digits: Dataset) -> None:
    for name in shipped_recipes():
        images, recipe = digits.images[:60], load_recipe(name)
        first, again, other = (augment(images, recipe, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.theta, again.theta)
        changed = (first.theta != other.theta).any(axis=(1, 2))
        assert changed.mean() > 0.95, name


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "source",
    [*shipped_recipes(), _sometimes("thin_plate"), _sometimes("perspective"), _sometimes("clutter")],
    ids=_name,
)
def test_neither_order_nor_batch_size_changes_an_images_draw(digits: Dataset, source: Any, dtype: Any) -> None:
    images, recipe = digits.images[:40], parse_recipe(source)
    images = images if dtype == np.uint8 else images.astype(np.float32) / 255
    whole, order = augment(images, recipe, 9), np.random.default_rng(0).permutation(40)
    shuffled = augment(images[order], recipe, 9)
    np.testing.assert_array_equal(shuffled.images, whole.images[order])
    np.testing.assert_array_equal(shuffled.theta, whole.theta[order])
    for size in (7, 1):
        pieces = [augment(images[k : k + size], recipe, 9) for k in range(0, 40, size)]
        np.testing.assert_array_equal(np.concatenate([piece.images for piece in pieces]), whole.images)
        np.testing.assert_array_equal(np.concatenate([piece.theta for piece in pieces]), whole.theta)
        np.testing.assert_array_equal(np.concatenate([piece.exact for piece in pieces]), whole.exact)


def test_copies_of_one_image_are_drawn_differently(digits: Dataset) -> None:
    copies = augment(np.repeat(digits.images[:1], 50, axis=0), load_recipe("rotation"), seed=0)
    assert len(np.unique(copies.theta[:, 0, 1])) == 50


def test_steps_that_move_no_pixel_leave_theta_alone(digits: Dataset) -> None:
    affine = {"op": "affine", "rotate_deg": [-40, 40]}
    ops = ("gaussian_blur", "gaussian_noise", "salt_and_pepper", "dropout", "contrast", "brightness", "invert")
    pixels = [{"op": op} for op in ops]
    images = digits.images[:30]
    plain = augment(images, parse_recipe({"name": "a", "steps": [affine]}), seed=4)
    noisy = augment(images, parse_recipe({"name": "b", "steps": [affine, *pixels]}), seed=4)
    np.testing.assert_array_equal(noisy.theta, plain.theta)
    assert noisy.exact.all()
    assert (noisy.images != plain.images).any(axis=(1, 2, 3)).all()


def test_a_step_that_no_theta_describes_says_so_for_the_images_it_touched(digits: Dataset) -> None:
    recipe = _sometimes("elastic")
    images = digits.images[:100]
    plain = augment(images, parse_recipe({"name": "a", "steps": recipe["steps"][:1]}), seed=4)
    bent = augment(images, parse_recipe(recipe), seed=4)
    np.testing.assert_array_equal(bent.theta, plain.theta)
    assert 25 < bent.exact.sum() < 75
    untouched = (bent.images == plain.images).all(axis=(1, 2, 3))
    assert untouched[bent.exact].all()
    assert not untouched[~bent.exact].all()


def test_the_fill_is_what_lies_outside_the_image() -> None:
    recipe = parse_recipe({"name": "white", "fill_fraction": 1.0, "steps": [{"op": "affine", "scale": 0.5}]})
    result = augment(np.zeros((1, 20, 20, 3), np.uint8), recipe, seed=0)
    assert (result.images[0, 0] == 255).all()
    assert (result.images[0, 10, 10] == 0).all()


def test_the_input_is_left_as_it_was(digits: Dataset) -> None:
    images = digits.images[:10].copy()
    images.setflags(write=False)
    augment(images, load_recipe("camera"), seed=1)
    np.testing.assert_array_equal(images, digits.images[:10])


# --- exact pixels, and the canvas -----------------------------------------------------------------------------

OURS = ["tutorial-mix", EVERYTHING_AFFINE, "perspective", "elastic", "rotation-scale-translation"]
SHIFTED = {"name": "shifted", "canvas": {"height_px": 60, "width_px": 60}, "steps": [
    {"op": "affine", "translate_x_px": [-16, 16], "translate_y_px": [-16, 16]}]}  # fmt: skip


@pytest.mark.parametrize("source", [*OURS, SHIFTED], ids=_name)
def test_theta_tells_exactly_where_each_pixel_was_read(digits: Dataset, source: Any) -> None:
    images, recipe = digits.images[::1250], parse_recipe(source)
    as_float = augment(images.astype(np.float32) / 255, recipe, seed=3)
    assert as_float.exact.all()
    size = distorted_size(recipe, (28, 28))
    assert as_float.images.shape == (4, *size, 1)
    expected = sampler_oracle.warp(images / 255, as_float.theta, size, "constant", 0.0)
    np.testing.assert_allclose(as_float.images, expected, atol=2e-5)
    ids = image_ids(images.astype(np.float32) / 255)
    in_8_bits = augment(images, recipe, seed=3, ids=ids)
    np.testing.assert_array_equal(in_8_bits.theta, as_float.theta)
    np.testing.assert_allclose(in_8_bits.images, expected * 255, atol=0.5 + 5e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("source", ["perspective", "rotation-scale-translation", SHIFTED], ids=_name)
def test_the_rectifying_theta_straightens_on_any_canvas(source: Any, dtype: Any) -> None:
    y, x = np.mgrid[0:28, 0:28] / 28
    smooth = np.tile((0.5 + 0.2 * np.sin(3 * x) + 0.2 * np.cos(4 * y))[..., None], (200, 1, 1, 1))
    ids, recipe = np.arange(200, dtype=np.uint64), parse_recipe(source)

    def there_and_back(images: Any) -> Any:
        result = augment(images.astype(dtype), recipe, seed=3, ids=ids)
        distorted, theta = tf.constant(result.images, tf.float32), tf.constant(result.theta_rectifying, tf.float32)
        return warp(distorted, theta, (28, 28)).numpy()

    full = 255 if dtype == np.uint8 else 1
    kept = there_and_back(np.full_like(smooth, full)) > 0.99 * full
    assert kept.mean() > 0.7
    off = np.abs(there_and_back(smooth * full) - smooth * full) / full
    assert off[kept].max() < 0.02  # where a corner was squeezed, pixels were lost
    assert off[kept].mean() < 0.0025


def test_a_spline_is_not_undone_by_any_theta(digits: Dataset) -> None:
    assert augment(digits.images[:5], load_recipe("elastic"), seed=3).theta_rectifying is None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_clutter_lies_over_what_theta_tells(digits: Dataset, dtype: Any) -> None:
    images = digits.images[:50] if dtype == np.uint8 else digits.images[:50].astype(np.float32) / 255
    cluttered = augment(images, load_recipe("translated-clutter"), seed=3)
    plain = augment(images, parse_recipe(SHIFTED), seed=3)
    np.testing.assert_array_equal(cluttered.theta, plain.theta)
    assert cluttered.exact.all()
    assert (cluttered.images >= plain.images).all()
    patched = (cluttered.images != plain.images).sum(axis=(1, 2, 3))
    assert patched.max() <= 6 * 36
    assert (patched > 0).all()


def test_a_canvas_holds_the_image_in_its_middle(digits: Dataset) -> None:
    nothing = {
        "name": "framed",
        "fill_fraction": 1.0,
        "canvas": {"height_px": 40, "width_px": 30},
        "steps": [{"op": "affine"}],
    }
    framed = augment(digits.images[:5], parse_recipe(nothing), seed=0).images
    assert framed.shape == (5, 40, 30, 1)
    np.testing.assert_array_equal(framed[:, 6:34, 1:29], digits.images[:5])
    framed[:, 6:34, 1:29] = 255
    assert (framed == 255).all()


def test_an_odd_difference_puts_the_image_between_pixels() -> None:
    frame = {"name": "framed", "canvas": {"height_px": 1, "width_px": 3}, "steps": [{"op": "affine"}]}
    framed = augment(np.array([[[[100], [200]]]], np.uint8), parse_recipe(frame), seed=0)
    assert framed.images[0, 0, :, 0].tolist() == [50, 150, 100]
    assert framed.theta.tolist() == [[[1.5, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize("op", ["gaussian_blur", "clutter", "elastic"])
def test_a_canvas_serves_recipes_that_move_no_pixel_first(digits: Dataset, op: str) -> None:
    frame = {"name": "framed", "canvas": {"height_px": 42, "width_px": 42}, "steps": [{"op": op}]}
    framed = augment(digits.images[:5], parse_recipe(frame), seed=0)
    assert framed.images.shape == (5, 42, 42, 1)
    np.testing.assert_allclose(framed.theta, np.tile([[[1.5, 0, 0], [0, 1.5, 0]]], (5, 1, 1)))
    assert framed.exact.all() == (op != "elastic")


def test_an_image_larger_than_the_canvas_is_refused() -> None:
    with pytest.raises(BadTensor, match="at most the canvas of recipe translated-clutter, 60 x 60 px, got 61 x 60"):
        augment(np.zeros((1, 61, 60, 1), np.uint8), load_recipe("translated-clutter"), 0)


def test_opencv_needs_no_libgl() -> None:
    # imgaug asks for two builds of OpenCV; only the headless one imports on a slim machine, and setup must leave that.
    (library,) = Path(cv2.__file__).parent.glob("cv2*.so")
    needed = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in needed
    assert "libGL.so" not in needed


@pytest.mark.parametrize(
    ("images", "ids", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), None, r"expected uint8 or float32 \[N, H, W, C\].*got uint8 \[2, 8, 8\]"),
        (np.zeros((2, 8, 8, 1), np.int32), None, "got int32"),
        (np.zeros((0, 8, 8, 1), np.uint8), None, r"got uint8 \[0, 8, 8, 1\]"),
        (
            np.zeros((2, 8, 8, 1), np.uint8),
            np.zeros(3, np.uint64),
            r"one for each of the 2 images, got the shape \[3\]",
        ),
    ],
)
def test_wrong_arrays_are_refused(images: Any, ids: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        augment(images, load_recipe("rotation"), 1, ids)


@pytest.mark.parametrize("shape", [(1, 32767, 1, 1), (1, 1, 32767, 1)])
def test_a_side_that_the_sampler_does_not_count_to_is_refused(shape: Any) -> None:
    with pytest.raises(BadTensor, match="sides of at most 32766 px"):
        augment(np.zeros(shape, np.uint8), load_recipe("rotation"), 0)
    longest = np.zeros([min(side, 32766) for side in shape], np.uint8)
    assert augment(longest, load_recipe("rotation"), 0).images.shape == longest.shape
