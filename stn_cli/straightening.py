"""What ``stn predict`` and ``stn rectify`` have in common: the model ``straighten``, and what is told of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from stn_client import StnError, Straightening
from stn_client.results import Row

from stn_cli.report import Column, Entry
from stn_core.motion import motion_of

MODEL = "straighten"


class Straight(NamedTuple):
    """A row, with the turn and the scale that theta gives the image, as ``stn_core.motion`` measures them.

    The turn is that of the pixels, 0 to 180 degrees. The scale is that of what is in the image against its frame,
    whatever the number of pixels: 2 shows it twice as large.
    """

    row: Row
    turn_deg: float
    scale: float

    @property
    def error(self) -> StnError | None:
        return self.row.error


def straight_rows(part: Straightening) -> Iterator[Straight]:
    """The rows of ``part``, measured."""
    sizes = np.hstack([part.source_size, part.rectified_size])
    turn_deg, scale = np.full(len(part), np.nan), np.full(len(part), np.nan)
    for height, width, rectified_height, rectified_width in np.unique(sizes[sizes[:, 0] > 0], axis=0):
        source, rectified = (height, width), (rectified_height, rectified_width)
        rows = (sizes == (*source, *rectified)).all(axis=1)
        motion = motion_of(part.theta[rows], source, rectified)
        turn_deg[rows] = motion.turn_deg
        scale[rows] = motion.scale * np.sqrt(height * width / (rectified_height * rectified_width))
    return map(Straight, part, turn_deg.tolist(), scale.tolist())


def geometry(straight: Straight) -> dict[str, Any]:
    """What an entry says of theta, and of the decision if there is one."""
    row = straight.row
    said = {
        "turn_deg": straight.turn_deg,
        "scale": straight.scale,
        "theta": row.theta,
        "rectified_size": row.rectified_size,
        "source_size": row.source_size,
    }
    for name in ("decision", "reason"):
        if getattr(row, name) is not None:
            said[name] = str(getattr(row, name))
    return said if row.confidence is None else {**said, "confidence": row.confidence}


def columns(decided: bool) -> list[Column]:
    """The columns of what ``geometry`` says."""
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
    min_confidence: float | None,
    min_scale: float | None,
    max_scale: float | None,
    max_turn_deg: float | None,
    max_shear_deg: float | None,
    max_content_lost: float | None,
    min_motion_px: float | None,
    may_mirror: bool | None,
) -> dict[str, Any]:
    """The limits that were given, by the name the client knows them by."""
    return {name: value for name, value in locals().items() if value is not None}
