"""The measures as a table: which rows there are, and what each holds. The terminal and the report lay it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stn_core.evaluation.summary import Evaluation, Measures, Spread


@dataclass(frozen=True)
class Row:
    """One measure: its name with its unit, and the fields of ``Measures`` that hold it (``field`` or ``field.part``).

    ``before`` is of the images as they come, ``after`` of the rectified ones, ``true`` of those straightened exactly;
    empty where there is none.
    """

    name: str
    before: str = ""
    after: str = ""
    true: str = ""
    decimals: int = 4


def _spreads(name: str, before: str, after: str) -> tuple[Row, ...]:
    return tuple(
        Row(f"{name}, {part}, px", f"{before}.{part}", f"{after}.{part}", decimals=2)
        for part in ("median", "mean", "p90")
    )


SECTIONS: dict[str, tuple[Row, ...]] = {
    "reading": (
        Row(
            "accuracy, distorted",
            "accuracy_distorted_unrectified",
            "accuracy_distorted",
            "accuracy_distorted_true",
        ),
        Row("right before, wrong after", after="hurt_rate"),
        Row("wrong before, right after", after="helped_rate"),
        Row("accuracy, original", "accuracy_original_unrectified", "accuracy_original"),
        Row("original: right, then wrong", after="hurt_rate_original"),
        Row("original: wrong, then right", after="helped_rate_original"),
    ),
    "straightness": (
        *_spreads("corner error", "corner_error_unrectified_px", "corner_error_px"),
        *_spreads("pose-free", "pose_free_corner_error_unrectified_px", "pose_free_corner_error_px"),
        Row("residual angle, sd, deg", "angle_sd_unrectified_deg", "angle_sd_deg", decimals=2),
        Row("residual log-scale, sd", "log_scale_sd_unrectified", "log_scale_sd", decimals=3),
        Row("residual shift, sd, px", "shift_sd_unrectified_px", "shift_sd_px", decimals=2),
        Row("mirrored", "mirrored_share_unrectified", "mirrored_share"),
        Row("corner error of originals, px", after="corner_error_original_px.median", decimals=2),
    ),
    "content": (
        Row("content kept", "content_kept_unrectified", "content_kept", "content_kept_true"),
        Row("area scale, median", "area_scale_unrectified", "area_scale", "area_scale_true", 3),
        Row("samples from outside", "outside_share_unrectified", "outside_share", "outside_share_true"),
        Row("collapsed", after="collapsed_share"),
    ),
    "pixels": (
        Row(
            "PSNR to the original, dB",
            "psnr_to_original_unrectified_db",
            "psnr_to_original_db",
            "psnr_to_original_true_db",
            1,
        ),
        Row("round trip of the sampler, dB", true="round_trip_psnr_db", decimals=1),
    ),
}


def groups(evaluations: Sequence[Evaluation]) -> list[tuple[str, Measures]]:
    """The table's columns: each recipe, followed by its families where it has several."""
    found: list[tuple[str, Measures]] = []
    for evaluation in evaluations:
        found.append((evaluation.recipe, evaluation))
        if len(evaluation.families) > 1:
            found += [(family.name, family) for family in evaluation.families]
    return found


def cell(measures: Measures, field: str, decimals: int) -> str:
    """The measure as text; empty if there is none, a dash if it could not be measured."""
    if not field:
        return ""
    name, _, part = field.partition(".")
    value = getattr(measures, name)
    number: float = getattr(value, part) if isinstance(value, Spread) else value
    return f"{number:.{decimals}f}" if math.isfinite(number) else "∞" if number > 0 else "-"
