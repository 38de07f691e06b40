"""The measures of many images together: what an evaluation says, as data."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, computed_field

from stn_core.evaluation.measures import circular_sd_deg, collapsed, sd
from stn_core.evaluation.trial import Shown, Straightness, Trial

MAX_COLLAPSED_SHARE = 0.05

Mask = NDArray[np.bool_]

# How the images are shown, and what that is called in the name of a measure.
KINDS = {"rectified": "", "unrectified": "_unrectified", "true": "_true"}

# JSON has neither NaN (nothing to measure) nor infinity (no difference at all, in dB): both are null.
Figure = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None),
]


class Spread(BaseModel):
    """The distribution of an error over images; NaN (null in JSON) where there are none."""

    model_config = ConfigDict(frozen=True)

    median: Figure
    mean: Figure
    p90: Figure


class Measures(BaseModel):
    """The measures of a group of distorted images. Shares, rates and accuracies lie in 0..1; px are the originals'.

    ``unrectified`` figures are those of the same images as they come; ``true`` ones those of the theta that
    straightens exactly; ``original`` ones those of the images before they were distorted.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    images_with_known_theta: int
    """Those that no ``elastic`` step moved; the others have no corner error and no residual."""

    accuracy_original: Figure
    accuracy_distorted: Figure
    accuracy_original_unrectified: Figure
    accuracy_distorted_unrectified: Figure
    accuracy_distorted_true: Figure
    hurt_rate: Figure
    """The share of images read right as they came and wrong after rectification."""
    helped_rate: Figure
    """The reverse."""
    hurt_rate_original: Figure
    helped_rate_original: Figure

    corner_error_px: Spread
    corner_error_unrectified_px: Spread
    corner_error_original_px: Spread
    pose_free_corner_error_px: Spread
    pose_free_corner_error_unrectified_px: Spread

    angle_sd_deg: Figure
    angle_sd_unrectified_deg: Figure
    log_scale_sd: Figure
    log_scale_sd_unrectified: Figure
    shift_sd_px: Figure
    shift_sd_unrectified_px: Figure
    mirrored_share: Figure
    mirrored_share_unrectified: Figure

    content_kept: Figure
    """The mean over images of the share of their mass that is shown."""
    content_kept_unrectified: Figure
    content_kept_true: Figure
    area_scale: Figure
    """The median over images of the input px behind one px shown; above 1 is zoomed out."""
    area_scale_unrectified: Figure
    area_scale_true: Figure
    outside_share: Figure
    """The share of px shown that come from outside the image."""
    outside_share_unrectified: Figure
    outside_share_true: Figure
    collapsed_share: Figure
    """The share of images zoomed by over 4 times the true area, either way, or with under half of their content."""

    psnr_to_original_db: Figure
    """The median over images."""
    psnr_to_original_unrectified_db: Figure
    psnr_to_original_true_db: Figure
    round_trip_psnr_db: Figure
    """The median for originals warped by the true theta and back, inside: of the sampler, not of the network."""


class Family(Measures):
    """The measures of the images that got one kind of distortion."""

    name: str


class Evaluation(Measures):
    """The measures of one bundle on one data set distorted by one recipe, of all images and by distortion family."""

    bundle: str
    bundle_version: str
    data: str
    recipe: str
    seed: int
    pose: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The constant theta that the pose-free corner error takes off the rectified images."""
    pose_fitted_on: str
    families: tuple[Family, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def collapse(self) -> bool:
        """True if more than 5 % of the images collapsed: then the other figures are not to be trusted."""
        return self.collapsed_share > MAX_COLLAPSED_SHARE

    def summary(self) -> dict[str, float]:
        """The figures a bundle's manifest carries; those that could not be measured are left out."""
        figures = {
            "accuracy_original": self.accuracy_original,
            "accuracy_distorted": self.accuracy_distorted,
            "corner_error_median_px": self.corner_error_px.median,
            "corner_error_p90_px": self.corner_error_px.p90,
            "hurt_rate": self.hurt_rate,
        }
        return {name: value for name, value in figures.items() if math.isfinite(value)}


def summarize(trial: Trial) -> Evaluation:
    """The measures of all of a trial's images, and of each family's."""
    (a, b, c), (d, e, f) = trial.straight["rectified"].pose.tolist()
    return Evaluation(
        bundle=trial.bundle,
        bundle_version=trial.bundle_version,
        data=trial.data.name,
        recipe=trial.recipe,
        seed=trial.seed,
        pose=((a, b, c), (d, e, f)),
        pose_fitted_on=trial.pose_fitted_on,
        families=tuple(Family(name=name, **_measures(trial, rows)) for name, rows in trial.families.items()),
        **_measures(trial, np.ones(len(trial.known), bool)),
    )


def _measures(trial: Trial, rows: Mask) -> dict[str, Any]:
    """The fields of ``Measures`` for the images at ``rows [N]``."""
    known = rows & trial.known
    measures: dict[str, Any] = {
        "images": int(rows.sum()),
        "images_with_known_theta": int(known.sum()),
        "corner_error_original_px": _spread(trial.originals.corner_error_px[rows]),
        "collapsed_share": _mean(collapsed(trial.shown["rectified"].coverage, trial.shown["true"].coverage)[rows]),
        "round_trip_psnr_db": _median(trial.round_trip_psnr_db[rows]),
        **_reading(trial, rows),
    }
    for name, kind in KINDS.items():
        measures |= _of_shown(trial.shown[name], rows, kind)
        if name in trial.straight:
            measures |= _of_straightness(trial.straight[name], known, kind)
    return measures


def _reading(trial: Trial, rows: Mask) -> dict[str, float]:
    """How well the classifier reads the images at ``rows``, and whom rectification hurts and helps."""
    labels = trial.data.labels
    before, after, ideal = ((trial.shown[name].labels == labels)[rows] for name in ("unrectified", "rectified", "true"))
    original_before = (trial.originals.labels_unrectified == labels)[rows]
    original_after = (trial.originals.labels_rectified == labels)[rows]
    return {
        "accuracy_original": _mean(original_after),
        "accuracy_distorted": _mean(after),
        "accuracy_original_unrectified": _mean(original_before),
        "accuracy_distorted_unrectified": _mean(before),
        "accuracy_distorted_true": _mean(ideal),
        "hurt_rate": hurt_rate(before, after),
        "helped_rate": hurt_rate(after, before),
        "hurt_rate_original": hurt_rate(original_before, original_after),
        "helped_rate_original": hurt_rate(original_after, original_before),
    }


def _of_shown(shown: Shown, rows: Mask, kind: str) -> dict[str, float]:
    return {
        f"content_kept{kind}": _mean(shown.coverage.content_kept[rows]),
        f"area_scale{kind}": _median(shown.coverage.area_scale[rows]),
        f"outside_share{kind}": _mean(shown.coverage.outside_share[rows]),
        f"psnr_to_original{kind}_db": _median(shown.psnr_to_original_db[rows]),
    }


def _of_straightness(straight: Straightness, known: Mask, kind: str) -> dict[str, Any]:
    left = straight.residuals
    return {
        f"corner_error{kind}_px": _spread(straight.corner_error_px[known]),
        f"pose_free_corner_error{kind}_px": _spread(straight.pose_free_error_px[known]),
        f"angle_sd{kind}_deg": circular_sd_deg(left.angle_rad[known]),
        f"log_scale_sd{kind}": sd(left.log_scale[known, None]),
        f"shift_sd{kind}_px": sd(left.shift_px[known]),
        f"mirrored_share{kind}": _mean(left.mirrored[known]),
    }


def hurt_rate(right_before: Mask, right_after: Mask) -> float:
    """The share of images that were right before and are wrong after."""
    return _mean(right_before & ~right_after)


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _median(values: NDArray[Any]) -> float:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if values.size else math.nan


def _spread(errors: NDArray[Any]) -> Spread:
    if not errors.size:
        return Spread(median=math.nan, mean=math.nan, p90=math.nan)
    return Spread(median=float(np.median(errors)), mean=float(errors.mean()), p90=float(np.percentile(errors, 90)))
