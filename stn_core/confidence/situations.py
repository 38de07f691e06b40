"""The images a confidence is calibrated on: as a bundle expects them, as they are, otherwise bent, and nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.augment import augment
from stn_core.bundle import Manifest
from stn_core.confidence.non_pictures import GENERATED, shuffled
from stn_core.datasets import Dataset
from stn_core.evaluation.trial import check_fit
from stn_core.geometry import identity
from stn_core.recipes import Recipe, load_recipe, parse_recipe

OTHER_RECIPES = ("rotation", "camera", "perspective")
"""What may happen to images that a bundle's recipe does not hold."""
SHARES = {"recipe": 0.45, "as it is": 0.15, "others": 0.25, "non-pictures": 0.15}
MAX_BATCH_SIZE, MAX_BATCH_VALUES = 500, 1 << 24

AS_IT_IS = parse_recipe({"name": "as-it-is", "steps": [{"op": "affine"}]})


@dataclass(frozen=True)
class Batch:
    """Images of one kind, ``[N, ...]``: as they come, their true theta, their labels, and which original each shows.

    Where there is nothing to straighten the true theta is the identity: such an image is best left alone.
    """

    kind: str
    images: NDArray[Any]
    theta_true: NDArray[np.float64]
    labels: NDArray[np.int64]
    original: NDArray[np.int64]


def situations(
    manifest: Manifest, data: Dataset, others: Sequence[Recipe] | None, count: int, seed: int
) -> Iterator[Batch]:
    """About ``count`` images made of ``data`` for a bundle, in the shares of ``SHARES``, kind by kind.

    ``others`` are the recipes beside the bundle's own, by default ``OTHER_RECIPES``; they get its canvas and fill.
    Images whose theta does not tell all are left out. BadData where the data do not fit the bundle.
    """
    around = {"canvas": manifest.recipe.canvas, "fill_fraction": manifest.recipe.fill_fraction}
    for number, (bare, share) in enumerate(_recipes(manifest, others)):
        recipe = bare.model_copy(update=around)
        check_fit(manifest, data, recipe)
        for rows in _batches(round(count * share), manifest):
            batch = _distorted(recipe, data, rows, seed + number)
            if len(batch.images):
                yield batch
    per_kind = round(count * SHARES["non-pictures"] / (1 + len(GENERATED)))
    random = np.random.default_rng(seed)
    light = manifest.fill_fraction > 0.5
    for kind, make in GENERATED.items():
        for rows in _batches(per_kind, manifest):
            images = make(len(rows), manifest.input_shape, random)
            yield _nonsense(kind, 1 - images if light else images, data, rows)
    for rows in _batches(per_kind, manifest):
        made = augment(data.images[rows % len(data)], manifest.recipe, seed, rows.astype(np.uint64))
        yield _nonsense("shuffled", shuffled(made.images, random), data, rows)


def _recipes(manifest: Manifest, others: Sequence[Recipe] | None) -> Iterator[tuple[Recipe, float]]:
    yield manifest.recipe, SHARES["recipe"]
    yield AS_IT_IS, SHARES["as it is"]
    found = [load_recipe(name) for name in OTHER_RECIPES] if others is None else list(others)
    found = [one for one in found if one.name != manifest.recipe.name]
    for one in found:
        yield one, SHARES["others"] / len(found)


def _batches(count: int, manifest: Manifest) -> Iterator[NDArray[np.int64]]:
    """The numbers 0 to ``count``, in batches that fit into memory."""
    size = max(1, min(MAX_BATCH_SIZE, MAX_BATCH_VALUES // int(np.prod(manifest.input_shape))))
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _distorted(recipe: Recipe, data: Dataset, rows: NDArray[np.int64], seed: int) -> Batch:
    original = rows % len(data)
    made = augment(data.images[original], recipe, seed, rows.astype(np.uint64))
    known = made.exact
    return Batch(recipe.name, made.images[known], made.theta[known], data.labels[original[known]], original[known])


def _nonsense(kind: str, images: NDArray[Any], data: Dataset, rows: NDArray[np.int64]) -> Batch:
    if data.images.dtype == np.uint8 and images.dtype != np.uint8:
        images = np.round(images * 255).astype(np.uint8)
    return Batch(kind, images, identity(len(images)), np.full(len(images), -1), rows % len(data))
