"""Fresh distortions, with the theta of each, in a Ray Data set that feeds a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stn_core.draws import Numbering
from stn_core.errors import BadTensor
from stn_core.recipes import Recipe

if TYPE_CHECKING:
    import ray.data

_BATCH_IMAGES = 256


def ray_distortions(dataset: ray.data.Dataset, recipe: Recipe, seed: int, column: str = "image") -> ray.data.Dataset:
    """``dataset`` with the images in ``column`` distorted, and columns ``theta`` and ``exact`` beside the others.

    Images are uint8 or float32 in [0, 1], ``[H, W]`` or ``[H, W, C]``, all of one size, and stay what they are;
    ``theta`` (float32, of the recipe's family) distorted them: ``distorted(u) = original(theta u)``. An image's draw is
    a pure function of its pixels, the recipe and the seed, whatever blocks and workers there are: give another seed
    each epoch. BadTensor, out of the set's execution, for other images.
    """
    arguments = {"recipe": recipe.model_dump(mode="json", exclude_unset=True), "seed": seed, "column": column}
    return dataset.map_batches(_distorted, fn_kwargs=arguments, batch_size=_BATCH_IMAGES, batch_format="numpy")


def _distorted(batch: dict[str, Any], recipe: dict[str, Any], seed: int, column: str) -> dict[str, Any]:
    from stn_core.augment import augment

    images = batch[column]
    if images.dtype == object or images.ndim not in (3, 4):
        raise BadTensor(
            f"{column}: expected images of one size, [H, W] or [H, W, C], got {images.dtype} {list(images.shape)}"
        )
    shaped = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
    ids = np.concatenate([Numbering().ids([image]) for image in shaped])  # each of itself, wherever it lies
    made = augment(shaped, Recipe.model_validate(recipe), seed, ids)
    distorted = made.images if images.ndim == 4 else made.images[..., 0]
    return {**batch, column: distorted, "theta": made.theta.astype(np.float32), "exact": made.exact}
