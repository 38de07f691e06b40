"""What ``stn predict`` and ``stn rectify`` have in common: the model ``straighten``, and what is told of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stn_client import StnError, Straightening

from stn_cli.report import Column, Entry
from stn_core.geometry import affine_fits
from stn_core.motion import MIDDLE, motion_of
from stn_core.transforms import map_points

MODEL = "straighten"


class Straight(NamedTuple):
    """A row: what an entry says of its theta, and of the decision if there is one; and where it is in ``part``.

    ``turn_deg`` is that of the pixels, 0 to 180. ``scale`` is that of what is in the image against its frame, whatever
    the number of pixels: 2 shows it twice as large.
    """

    part: Straightening
    place: int
    error: StnError | None
    said: dict[str, Any]


def straight_rows(part: Straightening) -> Iterator[Straight]:
    """The rows of ``part``, measured; column by column, which is far sooner."""
    turn_deg, scale = _turn_and_scale(part)
    columns = {
        "turn_deg": turn_deg.tolist(),
        "scale": scale.tolist(),
        "theta": part.theta.tolist(),
        "rectified_size": part.rectified_size.tolist(),
        "source_size": part.source_size.tolist(),
    }
    for name in ("decision", "reason", "confidence"):
        column = getattr(part, name)
        if column is not None:
            columns[name] = list(column) if column.dtype.kind == "f" else column.tolist()
    for place, (index, values) in enumerate(zip(part.index, zip(*columns.values(), strict=True), strict=True)):
        yield Straight(part, place, part.errors.get(index), dict(zip(columns, values, strict=True)))


def _turn_and_scale(part: Straightening) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    theta = part.theta
    if theta.shape[1:] != (2, 3):
        theta = affine_fits(MIDDLE, map_points(theta, MIDDLE))
    in_px = theta.copy()
    in_px[:, :, :2] *= part.source_size[:, ::-1, None] / part.rectified_size[:, None, ::-1]
    return motion_of(in_px, (1, 1), (1, 1)).turn_deg, motion_of(theta, (1, 1), (1, 1)).scale


def columns(decided: bool) -> list[Column]:
    """The columns of what rows say of theta."""
    shown = [
        Column("turn, deg", 9, lambda entry: f"{entry['turn_deg']:.1f}"),
        Column("scale", 5, lambda entry: f"{entry['scale']:.2f}"),
    ]
    if decided:
        shown += [Column("decision", 16, _decision), Column("confidence", 10, _confidence)]
    return shown


def _decision(entry: Entry) -> str:
    return str(entry["decision"] if entry["decision"] == "rectified" else entry["reason"])


def _confidence(entry: Entry) -> str:
    confidence = entry.get("confidence")
    return "-" if confidence is None else f"{confidence:.3f}"


def given_limits(
    decide: bool | None,
    min_confidence: float | None,
    min_scale: float | None,
    max_scale: float | None,
    max_turn_deg: float | None,
    max_shear_deg: float | None,
    max_content_lost: float | None,
    min_motion_px: float | None,
    may_mirror: bool | None,
) -> dict[str, Any]:
    """The limits that were given, by the name the client knows them by; and ``decide``, where that was."""
    return {name: value for name, value in locals().items() if value is not None}
