"""What imgaug itself makes of a recipe's draws, step by step, for recipes of affine steps."""

from __future__ import annotations

from typing import Any

import imgaug.augmenters as iaa
import imgaug.parameters as iap
import numpy as np
from numpy.typing import NDArray

from stn_core.draws import image_ids
from stn_core.recipes import DrawnStep, Recipe, draw
from stn_core.recipes.drawing import affine_parameters
from stn_core.recipes.steps import Affine, FlipHorizontal, FlipVertical, QuarterTurns


def augment_by_imgaug(images: NDArray[Any], recipe: Recipe, seed: int, ids: Any = None) -> NDArray[Any]:
    images = images.copy()
    fill = recipe.fill_fraction if images.dtype == np.float32 else round(255 * recipe.fill_fraction)
    for item in draw(recipe, seed, image_ids(images) if ids is None else ids):
        rows = np.flatnonzero(item.active)
        if rows.size:
            images[rows] = _augmenter(item, rows, images.shape[1:3], fill)(images=images[rows])
    return images


def _augmenter(item: DrawnStep, rows: NDArray[np.intp], size: Any, fill: float) -> Any:
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
    raise TypeError(f"not a step of affine recipes: {item.step.op}")


class _Given(iap.StochasticParameter):
    """A parameter whose draws are already made: one value for each image of the batch."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__()
        self.values = values

    def _draw_samples(self, size: tuple[int, ...], random_state: Any) -> NDArray[Any]:
        return self.values.reshape(size)


def move_by_imgaug(
    annotated: list[Any], recipe: Recipe, seed: int, ids: NDArray[np.uint64], size: tuple[int, int]
) -> list[Any]:
    """Keypoints, polygons or bounding boxes of images of ``size``, one collection an image, moved step by step."""
    moved = list(annotated)
    for item in draw(recipe, seed, ids):
        rows = np.flatnonzero(item.active)
        if rows.size:
            augmenter = _augmenter(item, rows, size, 0).to_deterministic()
            kind = type(moved[0]).__name__.removesuffix("OnImage")
            move = {
                "Keypoints": augmenter.augment_keypoints,
                "Polygons": augmenter.augment_polygons,
                "BoundingBoxes": augmenter.augment_bounding_boxes,
            }[kind]
            for row, result in zip(rows, move([moved[row] for row in rows]), strict=True):
                moved[row] = result
    return moved
