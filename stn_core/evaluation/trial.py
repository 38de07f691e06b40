"""One trial: a bundle run on images distorted by a recipe, and what became of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.augment import Augmentation, augment
from stn_core.bundle import Manifest
from stn_core.coverage import Coverage, coverage
from stn_core.datasets import Dataset, to_float
from stn_core.draws import image_ids
from stn_core.engine import Engine
from stn_core.errors import BadData, brief
from stn_core.evaluation.families import families
from stn_core.evaluation.measures import (
    Residuals,
    eroded,
    fit_pose,
    pose_free_errors_px,
    psnr_db,
    rectifying,
    residuals,
)
from stn_core.geometry import Size, identity
from stn_core.recipes import Recipe, canvas_theta, distorted_size
from stn_core.transforms import corner_errors_px, invert

BATCH_SIZE = 500
FULLY_INSIDE = 0.999

Progress = Callable[[int, int], None]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Shown:
    """Distorted images as a theta shows them to the classifier, ``[N, ...]``, and what it calls them."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    psnr_to_original_db: Floats
    coverage: Coverage


@dataclass(frozen=True)
class Straightness:
    """How straight a theta leaves each image, ``[N]``; ``pose [2, 3]`` is what the pose-free error takes off."""

    corner_error_px: Floats
    pose_free_error_px: Floats
    residuals: Residuals
    pose: Floats


@dataclass(frozen=True)
class Originals:
    """The images before they were distorted: what the classifier calls them, as they come and rectified."""

    images: NDArray[Any]
    labels_unrectified: NDArray[np.int64]
    labels_rectified: NDArray[np.int64]
    corner_error_px: Floats


@dataclass(frozen=True)
class Trial:
    """A bundle's run on ``data`` distorted by ``recipe``, image by image (``[N, ...]``).

    The distorted images are ``shown`` three ways: ``unrectified``, ``rectified``, and by the ``true`` theta; the first
    two leave them more or less ``straight``. ``known`` says for which images theta tells all of what was done to their
    shape. ``families`` says which images got which kind of distortion. ``round_trip_psnr_db`` is NaN for splines.
    """

    bundle: str
    bundle_version: str
    data: Dataset
    recipe: str
    seed: int
    distorted: NDArray[Any]
    known: NDArray[np.bool_]
    families: dict[str, NDArray[np.bool_]]
    originals: Originals
    shown: dict[str, Shown]
    straight: dict[str, Straightness]
    round_trip_psnr_db: Floats
    pose_fitted_on: str


def run_trial(
    engine: Engine,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    pose_data: Dataset | None = None,
) -> Trial:
    """Runs ``engine`` on the images of ``data`` as they are, and distorted by ``recipe`` and ``seed``.

    The constant pose is fitted on ``pose_data``, distorted likewise; on ``data`` itself if there is none. ``progress``
    is called with the work done and that in all. BadData if data, recipe and bundle do not fit (``check_fit``).
    """
    check_fit(engine.manifest, data, recipe)
    work = 5 * len(data)
    if pose_data is not None:
        check_fit(engine.manifest, pose_data, recipe)
        work += len(pose_data)
    run = _Run(engine, recipe, data.image_shape[:2], _Count(work, progress))
    ids = image_ids(data.images)
    made = augment(data.images, recipe, seed, ids)
    thetas = run.thetas(made)
    if pose_data is None:
        fit_made, fit_thetas = made, thetas
    else:
        fit_made = augment(pose_data.images, recipe, seed)
        fit_thetas = run.thetas(fit_made)
    originals = run.originals(data.images)
    return Trial(
        bundle=engine.manifest.name,
        bundle_version=engine.manifest.version,
        data=data,
        recipe=recipe.name,
        seed=seed,
        distorted=made.images,
        known=made.exact,
        families=families(recipe, seed, ids),
        originals=originals,
        shown={
            name: run.shown(made.images, theta, originals.images)
            for name, theta in {**thetas, "true": rectifying(made.theta)}.items()
        },
        straight={name: run.straightness(made, theta, fit_made, fit_thetas[name]) for name, theta in thetas.items()},
        round_trip_psnr_db=run.round_trip_psnr_db(data.images, made),
        pose_fitted_on="the same images" if pose_data is None else f"{len(pose_data):,} others of {pose_data.name}",
    )


def check_fit(manifest: Manifest, data: Dataset, recipe: Recipe) -> None:
    """BadData unless ``data`` has the bundle's classes, and the recipe makes images of the bundle's size of it."""
    if tuple(data.classes) != tuple(manifest.classes):
        raise BadData(
            f"data {data.name}: expected the bundle's {len(manifest.classes)} classes "
            f"({brief(manifest.classes)}), got {len(data.classes)} ({brief(data.classes)})"
        )
    height, width, channels = data.image_shape
    made = (*distorted_size(recipe, (height, width)), channels)
    if made != manifest.input_shape:
        canvas = "on its canvas" if recipe.canvas else "which has no canvas"
        raise BadData(
            f"recipe {recipe.name}, {canvas}, makes images of {_by(made)} of those of {data.name} "
            f"({_by(data.image_shape)}), but bundle {manifest.name} expects {_by(manifest.input_shape)}; choose data, "
            "recipe and bundle that fit"
        )


def worst_first(trial: Trial) -> tuple[Indices, str]:
    """All images from the worst to the best, and by what; those without a known theta last, if any has one."""
    if not trial.known.any():
        return np.argsort(trial.shown["rectified"].psnr_to_original_db, kind="stable"), "PSNR to the original"
    error_px = np.nan_to_num(trial.straight["rectified"].corner_error_px, nan=np.inf)
    return np.argsort(-np.where(trial.known, error_px, -1.0), kind="stable"), "corner error"


class _Run:
    """The parts of a trial, each over all images in batches."""

    def __init__(self, engine: Engine, recipe: Recipe, size: Size, done: _Count) -> None:
        self.engine, self.recipe, self.size, self.done = engine, recipe, size, done
        self.shown_size: Size = engine.manifest.rectified_shape[:2]
        self.on_canvas = canvas_theta(recipe, size)

    def thetas(self, made: Augmentation) -> dict[str, NDArray[Any]]:
        """How the images are shown: as they come (the canvas, if any, cut off again), and by the network's theta."""
        return {
            "unrectified": np.tile(invert(self.on_canvas[None]), (len(made.images), 1, 1)),
            "rectified": self._localized(made.images),
        }

    def shown(self, distorted: NDArray[Any], theta: NDArray[Any], originals: NDArray[Any]) -> Shown:
        parts = []
        for rows in self._batches(len(distorted)):
            images = self.engine.warp(distorted[rows], theta[rows], self.shown_size)
            seen = to_float(images)
            covered = coverage(theta[rows], seen, to_float(distorted[rows]), self.recipe.fill_fraction)
            parts.append((
                images,
                self.engine.classify(images)[0],
                psnr_db(seen, to_float(originals[rows])),
                covered.area_scale,
                covered.outside_share,
                covered.content_kept,
            ))  # fmt: skip
        images, labels, psnr, *covered_by = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Shown(images, labels, psnr, Coverage(*covered_by))

    def straightness(
        self, made: Augmentation, theta: NDArray[Any], fit_made: Augmentation, fit_theta: NDArray[Any]
    ) -> Straightness:
        known = fit_made.exact
        pose = fit_pose(fit_made.theta[known], fit_theta[known], self.size)
        return Straightness(
            corner_errors_px(made.theta, theta, self.size),
            pose_free_errors_px(made.theta, theta, pose, self.size),
            residuals(made.theta, theta, self.size),
            pose,
        )

    def originals(self, images: NDArray[Any]) -> Originals:
        theta = np.tile(self.on_canvas, (len(images), 1, 1))
        input_size = self.engine.manifest.input_shape[:2]
        parts = []
        for rows in self._batches(len(images)):
            clean = self.engine.warp(images[rows], identity(len(images[rows])), self.shown_size)
            straight, found = self.engine.rectify(self.engine.warp(images[rows], theta[rows], input_size))
            parts.append((clean, self.engine.classify(clean)[0], self.engine.classify(straight)[0], found))
        clean, labels, labels_rectified, found = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Originals(clean, labels, labels_rectified, corner_errors_px(theta, found, self.size))

    def round_trip_psnr_db(self, images: NDArray[Any], made: Augmentation) -> Floats:
        """The PSNR of originals warped by the true theta and by its inverse, where neither warp met the edge."""
        from stn_core.sampler import warp

        if made.theta_rectifying is None:
            return np.full(len(images), np.nan)
        there_size, parts = (made.images.shape[1], made.images.shape[2]), []
        for rows in _slices(images):
            there, back = (theta[rows].astype(np.float32) for theta in (made.theta, made.theta_rectifying))
            clean = to_float(images[rows])
            again, inside = (
                warp(warp(one, there, there_size), back, self.size).numpy()
                for one in (clean, np.ones_like(clean[..., :1]))
            )
            parts.append(psnr_db(again, clean, eroded(inside[..., 0] > FULLY_INSIDE)))
        return np.concatenate(parts)

    def _localized(self, images: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([self.engine.localize(images[rows]) for rows in self._batches(len(images))])

    def _batches(self, count: int) -> Iterator[slice]:
        for start in range(0, count, BATCH_SIZE):
            yield slice(start, start + BATCH_SIZE)
            self.done.add(min(BATCH_SIZE, count - start))


class _Count:
    """Work done, in images, reported as it is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def add(self, images: int) -> None:
        self.done += images
        if self.progress:
            self.progress(self.done, self.total)


def _slices(images: NDArray[Any]) -> Iterator[slice]:
    return (slice(start, start + BATCH_SIZE) for start in range(0, len(images), BATCH_SIZE))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
