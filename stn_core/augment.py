"""Applies a recipe to images and reports the exact theta of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.annotations import Annotations
from stn_core.clutter import add_clutter
from stn_core.draws import Ids, image_ids
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import IDENTITY, Size
from stn_core.moving import MovedAnnotations, move_each
from stn_core.native import check_sides, warp
from stn_core.recipes import (
    DrawnStep,
    Recipe,
    canvas_theta,
    distorted_size,
    draw,
    known_theta,
    steps_by_imgaug,
    theta_shape_of,
)
from stn_core.recipes.drawing import composed_theta
from stn_core.recipes.steps import Clutter, GeometricLeaf
from stn_core.transforms import as_shape, invert


@dataclass(frozen=True)
class Augmentation:
    """Distorted ``images [N, H, W, C]`` in the input's datatype, and what was done to each.

    ``theta`` made them: ``distorted(u) = original(theta u)``. Its family is the smallest that holds the recipe: affine
    ``[N, 2, 3]``, homography ``[N, 3, 3]`` with a ``perspective`` step, spline ``[N, 16, 2]`` with a ``thin_plate``.
    ``theta_rectifying`` is its inverse and straightens them: ``original(v) = distorted(theta_rectifying v)``; None for
    a spline, which has none. Both are exact where ``exact [N]`` is true; where it is false an ``elastic`` step moved
    pixels too, and theta tells of the other steps alone. ``by_imgaug`` names the recipe's steps that no warp composes
    with: imgaug applies them, image by image and so much slower.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64] | None
    exact: NDArray[np.bool_]
    by_imgaug: tuple[str, ...]


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
    check_sides((images.shape[1], images.shape[2]))
    ids = image_ids(images) if ids is None else np.asarray(ids, np.uint64)
    if ids.shape != images.shape[:1]:
        raise BadTensor(f"ids: expected one for each of the {len(images)} images, got the shape {list(ids.shape)}")
    drawn = draw(recipe, seed, ids)
    theta, exact = known_theta(recipe, drawn, (images.shape[1], images.shape[2]))
    try:
        rectifying = invert(theta)
    except Unsupported:  # a spline
        rectifying = None
    return Augmentation(_apply(images, recipe, drawn, theta), theta, rectifying, exact, steps_by_imgaug(recipe))


def augment_annotated(
    images: NDArray[Any],
    annotations: Sequence[Annotations],
    recipe: Recipe,
    seed: int,
    ids: Ids | None = None,
    max_edge_px: float | None = None,
    fill_label: int = 0,
) -> tuple[Augmentation, list[MovedAnnotations]]:
    """``augment``, and the annotations of each image moved as it was; ``annotations [N]``, one for each image.

    ``max_edge_px`` and ``fill_label`` are those of ``stn_core.moving.move``. Where an ``elastic`` step moved pixels
    too, the places are about right: the moved annotations say ``exact=False``, as the augmentation does.
    """
    if len(annotations) != len(images):
        raise BadTensor(f"annotations: expected {len(images)}, those of each image, got {len(annotations)}")
    done = augment(images, recipe, seed, ids)
    size: Size = (images.shape[1], images.shape[2])
    distorted: Size = (done.images.shape[1], done.images.shape[2])
    moved = move_each(annotations, done.theta, size, distorted, max_edge_px, fill_label)
    return done, [replace(each, exact=bool(exact)) for each, exact in zip(moved, done.exact, strict=True)]


def _apply(images: NDArray[Any], recipe: Recipe, drawn: list[DrawnStep], whole: NDArray[np.float64]) -> NDArray[Any]:
    """Geometric steps that follow each other are one warp by their composed theta: each more would blur once more.

    ``whole`` is the theta of all geometric steps together, which most recipes have in one run.
    """
    original: Size = (images.shape[1], images.shape[2])
    size = distorted_size(recipe, original)
    runs = [(kind, list(run)) for kind, run in groupby(drawn, lambda item: isinstance(item.step, GeometricLeaf))]
    in_one_run = [kind for kind, _ in runs].count(True) == 1 and (runs[0][0] or recipe.canvas is None)
    on_canvas, own = recipe.canvas is None, False
    for geometric, items in runs:
        if geometric or not on_canvas:
            theta = whole
            if not in_one_run:
                first = IDENTITY if on_canvas else canvas_theta(recipe, original)
                start = np.tile(first, (len(images), 1, 1))
                # In the recipe's family always: how an image is warped may not depend on what others of the call drew.
                theta = as_shape(composed_theta(start, items, size), theta_shape_of(recipe))
            images, on_canvas, own = warp(images, theta, size, recipe.fill_fraction), True, True
        if not geometric:
            images, own = images if own else images.copy(), True
            for item in items:
                _apply_in_place(images, item, recipe.fill_fraction)
    return images


def _apply_in_place(images: NDArray[Any], item: DrawnStep, fill_fraction: float) -> None:
    rows = np.flatnonzero(item.active)
    if isinstance(item.step, Clutter):
        images[rows] = add_clutter(images[rows], item.step, item.seeds[rows])
    elif rows.size:
        from stn_core.pixels import apply_to_pixels

        apply_to_pixels(images, item, fill_fraction)
