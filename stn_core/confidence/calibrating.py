"""Fits the confidence of a bundle to what its networks do with images whose true theta is known, and with nonsense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.confidence.features import EVIDENCE, Evidence, Floats
from stn_core.confidence.file import Calibration
from stn_core.confidence.model import FITTED_PARTS, PARTS, LogisticModel, fit_model
from stn_core.confidence.situations import Batch, situations
from stn_core.datasets import Dataset
from stn_core.decision import MIN_MOTION_PX, recipe_limits
from stn_core.engine import Engine
from stn_core.errors import BadData, Unsupported
from stn_core.evaluation.reliability import auc, reliability
from stn_core.geometry import Size, identity
from stn_core.motion import off_px
from stn_core.recipes import Recipe

MIN_ORIGINALS = 50
MIN_IMAGES, MAX_IMAGES, IMAGES_EACH = 2_000, 20_000, 4
KEPT_SHARE, MAX_MIN_CONFIDENCE = 0.001, 0.5
"""The threshold: of the images that a bundle is made for so many may be kept for want of confidence; 0.5 at most."""
TOLERANCE_FRACTION = 0.07
"""Of the image's side (the geometric mean of both): 2 px of 28, which a classifier forgives that learned by jitter."""

Progress = Callable[[int, int], None]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """What became of images, ``[N]`` each: their ``kind``, and whether rectification did no harm (``harmless``).

    ``right_kept`` and ``right_rectified``: whether the classifier reads the image rightly as it came, and rectified.
    ``original``: which image of the data it shows. ``features`` are those of each kind of evidence, ``[N, F]``.
    """

    kind: NDArray[np.str_]
    harmless: Mask
    right_kept: Mask
    right_rectified: Mask
    original: NDArray[np.int64]
    features: dict[Evidence, Floats]


def calibrate(
    engine: Engine,
    data: Dataset,
    others: Sequence[Recipe] | None = None,
    count: int | None = None,
    seed: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """The calibration of ``engine``'s bundle, by images of ``data`` that its networks were not fitted on.

    About ``count`` images are made of them (``situations``), by default four times as many, from 2,000 to 20,000;
    ``progress`` is called with those done and those in all. BadData where the data do not fit the bundle or are too
    few, Unsupported where nothing tells which theta is right: for a bundle taught by the class alone, and for a recipe
    whose steps have no theta.
    """
    manifest, size = engine.manifest, data.image_shape[:2]
    _check_can_be_calibrated(engine, data)
    count = min(max(IMAGES_EACH * len(data), MIN_IMAGES), MAX_IMAGES) if count is None else count
    tolerance_px = TOLERANCE_FRACTION * float(np.sqrt(size[0] * size[1]))
    found: list[Outcome] = []
    for batch in situations(manifest, data, others, count, seed):
        found.append(observe(engine, batch, size, tolerance_px))
        if progress:
            progress(min(count, sum(len(one.harmless) for one in found)), count)
    outcome = joined(found)
    if not (outcome.kind == manifest.recipe.name).any():
        raise Unsupported(f"recipe {manifest.recipe.name}: its steps have no theta, so nothing tells what is straight")
    part = outcome.original % PARTS
    models: dict[Evidence, LogisticModel] = {
        evidence: fit_model(outcome.features[evidence], outcome.harmless, part) for evidence in EVIDENCE
    }
    own = outcome.features["theta"][outcome.kind == manifest.recipe.name]
    least = min(float(np.quantile(models["theta"].probability(own), KEPT_SHARE)), MAX_MIN_CONFIDENCE)
    limits = recipe_limits(manifest.recipe, size, manifest.input_shape[:2], manifest.rectified_shape[:2])
    limits = limits.changed({"min_confidence": np.floor(100 * least) / 100})
    measured: dict[str, Any] = {
        "created": datetime.now(UTC).date().isoformat(),
        "data": data.name,
        "seed": seed,
        "images": len(part),
        **{evidence: _measured(outcome, models[evidence], evidence, limits.min_confidence) for evidence in EVIDENCE},
    }
    return Calibration(
        original_size=size,
        tolerance_px=round(tolerance_px, 4),
        limits=limits,
        models=models,
        measured=measured,
    )


def observe(engine: Engine, batch: Batch, original_size: Size, tolerance_px: float) -> Outcome:
    """What ``engine`` makes of a batch of images; lengths are in px of the originals."""
    seen = engine.observe(batch.images, EVIDENCE, original_size)
    assert seen.probabilities is not None
    kept_px = off_px(identity(len(batch.images)), original_size, batch.theta_true)
    rectified_px = off_px(seen.theta, original_size, batch.theta_true)
    rectified, kept = (one.argmax(axis=1) == batch.labels for one in seen.probabilities)
    return Outcome(
        kind=np.full(len(batch.images), batch.kind),
        harmless=rectified_px <= np.maximum(kept_px + MIN_MOTION_PX, tolerance_px),
        right_kept=kept,
        right_rectified=rectified,
        original=batch.original,
        features=seen.features,
    )


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """One after the other."""
    columns = {
        field.name: np.concatenate([getattr(one, field.name) for one in outcomes])
        for field in fields(Outcome)
        if field.name != "features"
    }
    features = {evidence: np.concatenate([one.features[evidence] for one in outcomes]) for evidence in EVIDENCE}
    return Outcome(**columns, features=features)


def _check_can_be_calibrated(engine: Engine, data: Dataset) -> None:
    if engine.manifest.training.get("localization_steps") == 0:
        raise Unsupported(
            f"bundle {engine.manifest.name} was taught by the class alone: nothing tells how straight it leaves an "
            "image; train it with --localization-steps above 0 to give it a confidence"
        )
    if len(data) < MIN_ORIGINALS:
        raise BadData(
            f"data {data.name}: expected at least {MIN_ORIGINALS} images, which the networks were not fitted on, to "
            f"calibrate a confidence by; got {len(data)}"
        )


def _measured(outcome: Outcome, model: LogisticModel, evidence: Evidence, least: float) -> dict[str, Any]:
    """How well the model does on the images of the part that it was not fitted on: in all, and by kind."""
    rows = np.flatnonzero(outcome.original % PARTS > FITTED_PARTS)
    confidence = model.probability(outcome.features[evidence][rows])
    harmless, kind, sure = outcome.harmless[rows], outcome.kind[rows], confidence >= least
    hurt, helped = outcome.right_kept & ~outcome.right_rectified, outcome.right_rectified & ~outcome.right_kept
    return {
        "images": len(rows),
        "calibration_error": _rounded(reliability(confidence, harmless).error),
        "auc": _rounded(auc(confidence, harmless)),
        "by_kind": {
            str(name): {
                "images": int((kind == name).sum()),
                "harmless": _rounded(harmless[kind == name].mean()),
                "confidence": _rounded(confidence[kind == name].mean()),
                "sure": _rounded(sure[kind == name].mean()),
                "hurt_rate": _rounded(hurt[rows][kind == name].mean()),
                "hurt_rate_sure": _rounded((hurt[rows] & sure)[kind == name].mean()),
                "helped_rate": _rounded(helped[rows][kind == name].mean()),
                "helped_rate_sure": _rounded((helped[rows] & sure)[kind == name].mean()),
            }
            for name in dict.fromkeys(kind.tolist())
        },
    }


def _rounded(value: Any) -> float | None:
    """Four digits behind the point; None for what could not be measured, which JSON has no number for."""
    return round(float(value), 4) if np.isfinite(value) else None
