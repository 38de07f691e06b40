"""Applies a recipe to images through imgaug and reports the exact theta of each. The only importer of imgaug."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.clutter import add_clutter
from stn_core.draws import Ids, image_ids
from stn_core.errors import BadTensor, StnError, Unsupported
from stn_core.geometry import Size
from stn_core.recipes import DrawnStep, Recipe, canvas_theta, distorted_size, draw, known_theta, theta_shape_of
from stn_core.recipes.drawing import affine_parameters, composed_theta
from stn_core.recipes.steps import (
    Affine,
    AffineLeaf,
    Brightness,
    Clutter,
    Contrast,
    Dropout,
    Elastic,
    FlipHorizontal,
    FlipVertical,
    GaussianBlur,
    GaussianNoise,
    GeometricLeaf,
    Invert,
    Leaf,
    QuarterTurns,
    SaltAndPepper,
)
from stn_core.transforms import as_shape, invert

try:
    import imgaug.augmenters as iaa
    import imgaug.parameters as iap
except ImportError as error:
    raise StnError(
        f"imgaug does not import: {error}. It needs OpenCV; where the machine has no libGL, the headless OpenCV must "
        "be the one installed: pip uninstall -y opencv-python opencv-python-headless, then pip install "
        "'opencv-python-headless<4.13'"
    ) from error


MAX_SIDE_PX = 32766
"""OpenCV's remap, which distorts the images, counts pixels in 16 bits and fails above."""


@dataclass(frozen=True)
class Augmentation:
    """Distorted ``images [N, H, W, C]`` in the input's datatype, and what was done to each.

    ``theta`` made them: ``distorted(u) = original(theta u)``. Its family is the smallest that holds the recipe: affine
    ``[N, 2, 3]``, homography ``[N, 3, 3]`` with a ``perspective`` step, spline ``[N, 16, 2]`` with a ``thin_plate``.
    ``theta_rectifying`` is its inverse and straightens them: ``original(v) = distorted(theta_rectifying v)``; None for
    a spline, which has none. Both are exact where ``exact [N]`` is true; where it is false an ``elastic`` step moved
    pixels too, and theta tells of the other steps alone.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64] | None
    exact: NDArray[np.bool_]


def augment(images: NDArray[Any], recipe: Recipe, seed: int, ids: Ids | None = None) -> Augmentation:
    """Each of ``images [N, H, W, C]`` (uint8, or float32 in [0, 1]) distorted by its own draw of ``recipe``.

    An image's draw is a pure function of the recipe, ``seed`` and the image's id: by default a hash of its content (the
    k-th of several equal images has an id of its own), so neither the order nor the size of the call changes it. Give
    ``ids [N]`` (uint64) to number images yourself. Floating images pass the steps that are not geometric in 8 bits.
    Images larger than the recipe's canvas are refused (BadTensor).
    """
    if images.ndim != 4 or 0 in images.shape or images.dtype not in (np.uint8, np.float32):
        raise BadTensor(
            f"images: expected uint8 or float32 [N, H, W, C], none of them 0, got {images.dtype} {list(images.shape)}"
        )
    if max(images.shape[1:3]) > MAX_SIDE_PX:
        raise BadTensor(
            f"images: expected sides of at most {MAX_SIDE_PX} px, which is what OpenCV can distort, got "
            f"{images.shape[1]} x {images.shape[2]}; scale the images down or cut them into tiles"
        )
    ids = image_ids(images) if ids is None else np.asarray(ids, np.uint64)
    if ids.shape != images.shape[:1]:
        raise BadTensor(f"ids: expected one for each of the {len(images)} images, got the shape {list(ids.shape)}")
    drawn = draw(recipe, seed, ids)
    theta, exact = known_theta(recipe, drawn, (images.shape[1], images.shape[2]))
    try:
        rectifying = invert(theta)
    except Unsupported:  # a spline
        rectifying = None
    return Augmentation(_apply(images, recipe, drawn), theta, rectifying, exact)


def _apply(images: NDArray[Any], recipe: Recipe, drawn: list[DrawnStep]) -> NDArray[Any]:
    """Runs of geometric steps are warped at once by our sampler if imgaug cannot do one of them exactly.

    Each further warp would blur the image once more; a plain run of affine steps is imgaug's.
    """
    original: Size = (images.shape[1], images.shape[2])
    size = distorted_size(recipe, original)
    fill = recipe.fill_fraction if images.dtype == np.float32 else round(255 * recipe.fill_fraction)
    images, on_canvas = images.copy(), recipe.canvas is None
    for geometric, run in groupby(drawn, lambda item: isinstance(item.step, GeometricLeaf)):
        items = list(run)
        if not on_canvas or (geometric and not all(isinstance(item.step, AffineLeaf) for item in items)):
            theta = np.tile(canvas_theta(recipe, (images.shape[1], images.shape[2])), (len(images), 1, 1))
            # In the recipe's family always: how an image is warped may not depend on what the others of the call drew.
            theta = as_shape(composed_theta(theta, items, size), theta_shape_of(recipe))
            images = _warped(images, theta, size, recipe.fill_fraction)
            on_canvas = True
            if geometric:
                continue
        for item in items:
            _apply_step(images, item, fill)
    return images


def _warped(images: NDArray[Any], theta: NDArray[np.float64], size: Size, fill_fraction: float) -> NDArray[Any]:
    import tensorflow as tf

    from stn_core.sampler import warp

    scale = 255.0 if images.dtype == np.uint8 else 1.0
    warped = warp(tf.constant(images.astype(np.float32)), tf.constant(theta, tf.float32), size, "constant",
                  scale * fill_fraction).numpy()  # fmt: skip
    return np.round(warped).astype(np.uint8) if images.dtype == np.uint8 else np.asarray(warped)


def _apply_step(images: NDArray[Any], item: DrawnStep, fill: float) -> None:
    rows = np.flatnonzero(item.active)
    if not rows.size:
        return
    if isinstance(item.step, Clutter):
        images[rows] = add_clutter(images[rows], item.step, item.seeds[rows])
        return
    exact = _exact_augmenter(item, rows, images.shape[1:3], fill)
    if exact is not None:
        images[rows] = exact(images=images[rows])
    else:
        _apply_in_8_bits(images, item, rows, round(fill if images.dtype == np.uint8 else 255 * fill))


def _exact_augmenter(item: DrawnStep, rows: NDArray[np.intp], size: Any, fill: float) -> Any | None:
    """imgaug's augmenter for a batch of affine draws; None for a step that is not affine."""
    match item.step:
        case Affine():
            p = {name: _Given(value[rows]) for name, value in affine_parameters(item.values, size).items()}
            return iaa.Affine(
                scale={"x": p["scale_x"], "y": p["scale_y"]},
                translate_percent={"x": p["shift_x_fraction"], "y": p["shift_y_fraction"]},
                rotate=p["rotate_deg"],
                shear={"x": p["shear_x_deg"], "y": p["shear_y_deg"]},
                order=1,
                mode="constant",
                cval=fill,
            )
        case FlipHorizontal():
            return iaa.Fliplr(1.0)
        case FlipVertical():
            return iaa.Flipud(1.0)
        case QuarterTurns():
            return iaa.Rot90(_Given(item.values["turns"][rows].astype(np.int32)))
    return None


def _apply_in_8_bits(images: NDArray[Any], item: DrawnStep, rows: NDArray[np.intp], fill: int) -> None:
    """Image by image, each with a seed of its own, so that the rest of the batch has no say in its noise."""
    augmenter = _pixel_augmenter(item.step, fill)
    for row in rows:
        image = images[row]
        if image.dtype == np.float32:
            image = np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
        augmenter.seed_(int(item.seeds[row] & np.uint64(0x7FFFFFFF)))
        result = augmenter.augment_image(image)
        images[row] = result / np.float32(255) if images.dtype == np.float32 else result


def _pixel_augmenter(step: Leaf, fill: int) -> Any:
    match step:
        case GaussianBlur():
            return iaa.GaussianBlur(sigma=step.sigma_px)
        case GaussianNoise():
            low, high = step.sd_fraction
            return iaa.AdditiveGaussianNoise(scale=(255 * low, 255 * high), per_channel=step.per_channel)
        case SaltAndPepper():
            return iaa.SaltAndPepper(step.fraction)
        case Dropout():
            return iaa.Dropout(step.fraction)
        case Contrast():
            return iaa.LinearContrast(step.factor)
        case Brightness():
            return iaa.Multiply(step.factor)
        case Invert():
            return iaa.Invert(1.0)
        case Elastic():
            return iaa.ElasticTransformation(
                alpha=step.displacement_px, sigma=step.smoothness_px, mode="constant", cval=fill
            )
    raise TypeError(f"not a step that imgaug applies to pixels: {step.op}")


class _Given(iap.StochasticParameter):  # type: ignore[misc]
    """A parameter of imgaug whose draws are already made: one value for each image of the batch."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__()
        self.values = values

    def _draw_samples(self, size: tuple[int, ...], random_state: Any) -> NDArray[Any]:
        return self.values.reshape(size)
