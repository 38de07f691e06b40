"""Measures a bundle: how straight it leaves images whose distortion is known, and how well it reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stn_core.augment import augment
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadData, brief
from stn_core.geometry import corner_errors_px, identity
from stn_core.recipes import Recipe

BATCH_SIZE = 500

Progress = Callable[[int, int], None]


class Spread(BaseModel):
    """The distribution of an error over images."""

    model_config = ConfigDict(frozen=True)

    median: float
    mean: float
    p90: float


class Evaluation(BaseModel):
    """The measures of one evaluation. Accuracies are shares from 0 to 1; errors are px at the input's size.

    ``hurt_rate`` is the share of distorted images read right as they came and wrong after rectification;
    ``helped_rate`` the reverse. ``unrectified`` figures give the same images to the same classifier as they are.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    recipe: str
    seed: int
    accuracy_original: float
    accuracy_distorted: float
    accuracy_original_unrectified: float
    accuracy_distorted_unrectified: float
    hurt_rate: float
    helped_rate: float
    corner_error_px: Spread
    corner_error_unrectified_px: Spread
    corner_error_original_px: Spread

    def summary(self) -> dict[str, float]:
        """The figures a bundle's manifest carries."""
        return {
            "accuracy_original": self.accuracy_original,
            "accuracy_distorted": self.accuracy_distorted,
            "corner_error_median_px": self.corner_error_px.median,
            "corner_error_p90_px": self.corner_error_px.p90,
            "hurt_rate": self.hurt_rate,
        }


def evaluate(engine: Engine, data: Dataset, recipe: Recipe, seed: int, progress: Progress | None = None) -> Evaluation:
    """The measures of ``engine`` on the images of ``data`` as they are, and distorted by ``recipe`` and ``seed``.

    ``progress`` is called with the images done and those in all. BadData if the bundle knows other classes.
    """
    if tuple(data.classes) != tuple(engine.manifest.classes):
        raise BadData(
            f"data {data.name}: expected the bundle's {len(engine.manifest.classes)} classes "
            f"({brief(engine.manifest.classes)}), got {len(data.classes)} ({brief(data.classes)})"
        )
    images, labels = data.images, data.labels
    size = (images.shape[1], images.shape[2])
    distorted = augment(images, recipe, seed)
    done = _Count(2 * len(images), progress)
    theta_original, original, original_raw = _run(engine, images, done)
    theta_distorted, straight, crooked = _run(engine, distorted.images, done)
    nothing = identity(len(images))
    known = distorted.affine  # where a step was not affine, there is no theta to measure against
    return Evaluation(
        images=len(images),
        recipe=recipe.name,
        seed=seed,
        accuracy_original=_share(original == labels),
        accuracy_distorted=_share(straight == labels),
        accuracy_original_unrectified=_share(original_raw == labels),
        accuracy_distorted_unrectified=_share(crooked == labels),
        hurt_rate=_share((crooked == labels) & (straight != labels)),
        helped_rate=_share((crooked != labels) & (straight == labels)),
        corner_error_px=_spread(corner_errors_px(distorted.theta[known], theta_distorted[known], size)),
        corner_error_unrectified_px=_spread(corner_errors_px(distorted.theta[known], nothing[known], size)),
        corner_error_original_px=_spread(corner_errors_px(nothing, theta_original, size)),
    )


class _Count:
    """Images done, reported as they are."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def add(self, images: int) -> None:
        self.done += images
        if self.progress:
            self.progress(self.done, self.total)


def _run(engine: Engine, images: NDArray[Any], done: _Count) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Theta, label after rectification, label without it."""
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        rectified, theta = engine.rectify(batch)
        parts.append((theta, engine.classify(rectified)[0], engine.classify(batch)[0]))
        done.add(len(batch))
    theta, with_rectification, without = (np.concatenate(column) for column in zip(*parts, strict=True))
    return theta, with_rectification, without


def _share(hits: NDArray[np.bool_]) -> float:
    return float(np.mean(hits))


def _spread(errors: NDArray[Any]) -> Spread:
    if not errors.size:
        return Spread(median=float("nan"), mean=float("nan"), p90=float("nan"))
    return Spread(median=float(np.median(errors)), mean=float(errors.mean()), p90=float(np.percentile(errors, 90)))
