"""What ``stn predict`` and ``stn rectify`` have in common: the model ``straighten``, and what is told of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from stn_client import StnError, Straightening

from stn_cli.connection import DEFAULT_BUNDLE, checked_engine
from stn_cli.report import Column, Entry
from stn_core.motion import motion_shown

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
    turn_deg, scale = motion_shown(part.theta, part.source_size, part.rectified_size)
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


def straightening_job(command: str, bundle: str | None, engine: str | None, limits: dict[str, Any]) -> dict[str, Any]:
    """What a bulk job is told of bundle and limits; ``limits`` are those of ``given_limits``."""
    changes = {name: value for name, value in limits.items() if name != "decide"}
    decides = bool(changes) or limits.get("decide", False)
    named = {"bundle": bundle or DEFAULT_BUNDLE, "engine": checked_engine(engine)}
    return {"command": command, **named, "limits": changes if decides else None}
