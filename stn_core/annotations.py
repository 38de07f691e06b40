"""What is annotated on an image: keypoints, boxes, polygons, a mask of labels; checked, and as JSON and back.

Pixel coordinates are those of ``stn_core.points``: from the image's upper left corner, pixel i's centre at i + 0.5. A
keypoint, box or vertex of NaN has no place on this image, such as one that went beyond a horizon; in JSON it is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stn_core.errors import BadTensor, TooLarge, brief, shortened
from stn_core.points import numbers

MAX_POINTS = 100_000
"""Keypoints, corners of boxes and vertices of polygons of an image, all together."""
MAX_MASK_PX = 1 << 24
MIN_LABEL, MAX_LABEL = -(2**31), 2**31 - 1
"""Of a mask in JSON."""


def _no_points() -> NDArray[np.float64]:
    return np.empty((0, 2))


def _no_boxes() -> NDArray[np.float64]:
    return np.empty((0, 4))


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one image.

    ``keypoints_px [P, 2]``; ``boxes_px [B, 4]`` (x1, y1, x2, y2); ``polygons_px``, each ``[V, 2]`` with 3 vertices or
    more; ``mask [h, w]``, an integer label for each pixel, or None. Lists serve too and become arrays. BadTensor says
    what is wrong, TooLarge what is too much.
    """

    keypoints_px: NDArray[np.float64] = field(default_factory=_no_points)
    boxes_px: NDArray[np.float64] = field(default_factory=_no_boxes)
    polygons_px: Sequence[NDArray[np.float64]] = ()
    mask: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        keypoints = _rows("keypoints_px", self.keypoints_px, 2)
        boxes = _rows("boxes_px", self.boxes_px, 4)
        polygons = tuple(_rows(f"polygons_px[{k}]", polygon, 2) for k, polygon in enumerate(self.polygons_px))
        reversed_ = np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).any(axis=1))
        if reversed_.size:
            raise BadTensor(
                f"boxes_px[{reversed_[0]}]: expected x1 <= x2 and y1 <= y2, got {boxes[reversed_[0]].tolist()}"
            )
        short = next((k for k, polygon in enumerate(polygons) if len(polygon) < 3), None)
        if short is not None:
            raise BadTensor(f"polygons_px[{short}]: expected 3 vertices or more, got {len(polygons[short])}")
        points = len(keypoints) + 4 * len(boxes) + sum(map(len, polygons))
        if points > MAX_POINTS:
            raise TooLarge(f"annotations: expected at most {MAX_POINTS} points of an image, got {points}")
        object.__setattr__(self, "keypoints_px", keypoints)
        object.__setattr__(self, "boxes_px", boxes)
        object.__setattr__(self, "polygons_px", polygons)
        object.__setattr__(self, "mask", None if self.mask is None else _checked_mask(self.mask))

    @staticmethod
    def from_json(data: str | bytes | Mapping[str, Any]) -> Annotations:
        """The annotations in a JSON text, or in what was parsed of one; the inverse of ``to_json``.

        ``keypoints_px``, ``boxes_px``, ``polygons_px`` and ``mask`` are lists of rows; what is missing is none.
        BadTensor and TooLarge as for the arrays.
        """
        if isinstance(data, str | bytes):
            data = _parsed(data)
        if not isinstance(data, Mapping):
            raise BadTensor(f"annotations: expected a JSON object with some of {', '.join(_KEYS)}, got {brief(data)}")
        foreign = next((key for key in data if key not in _KEYS), None)
        if foreign is not None:
            raise BadTensor(f"annotations: expected some of {', '.join(_KEYS)}, got {shortened(brief(foreign), 60)}")
        polygons = _list("polygons_px", data.get("polygons_px", []))
        if len(polygons) > MAX_POINTS:
            raise TooLarge(
                f"annotations: expected at most {MAX_POINTS} points of an image, got {len(polygons)} polygons"
            )
        mask = data.get("mask")
        return Annotations(
            _rows_from_json("keypoints_px", data.get("keypoints_px", []), 2),
            _rows_from_json("boxes_px", data.get("boxes_px", []), 4),
            [_rows_from_json(f"polygons_px[{k}]", polygon, 2) for k, polygon in enumerate(polygons)],
            None if mask is None else _mask_from_json(mask),
        )

    def to_json(self) -> dict[str, Any]:
        """The annotations as what JSON can hold: lists of numbers, null for what has no place."""
        return {
            "keypoints_px": rows_to_json(self.keypoints_px),
            "boxes_px": rows_to_json(self.boxes_px),
            "polygons_px": [rows_to_json(polygon) for polygon in self.polygons_px],
            "mask": None if self.mask is None else self.mask.tolist(),
        }


_KEYS = ("keypoints_px", "boxes_px", "polygons_px", "mask")


def rows_to_json(rows: NDArray[Any]) -> list[list[float] | None]:
    """``rows [R, ...]`` as lists, null for a row with NaN."""
    lost = np.isnan(rows).any(axis=1)
    return [None if gone else row for row, gone in zip(rows.tolist(), lost.tolist(), strict=True)]


def _rows(name: str, values: Any, width: int) -> NDArray[np.float64]:
    rows = numbers(name, values)
    if rows.shape == (0,):
        rows = rows.reshape(0, width)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise BadTensor(f"{name}: expected the shape [any number, {width}], got {list(rows.shape)}")
    lost = np.isnan(rows)
    if np.isinf(rows).any() or (lost.any(axis=1) != lost.all(axis=1)).any():
        raise BadTensor(f"{name}: expected rows of finite numbers, or all NaN for what has no place on the image")
    return rows


def _checked_mask(labels: Any) -> NDArray[Any]:
    try:
        mask: NDArray[Any] = np.asarray(labels)
    except ValueError:
        raise BadTensor("mask: expected integer labels [h, w], got rows of unequal lengths") from None
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "iu":
        raise BadTensor(f"mask: expected integer labels [h, w], neither of them 0, got {mask.dtype} {list(mask.shape)}")
    if mask.size > MAX_MASK_PX:
        raise TooLarge(f"mask: expected at most {MAX_MASK_PX} pixels, got {mask.shape[0]} x {mask.shape[1]}")
    return mask


def _parsed(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadTensor(f"annotations: expected JSON, got something that does not parse: {error}") from None


def _list(name: str, data: object) -> list[Any]:
    if not isinstance(data, list):
        raise BadTensor(f"{name}: expected a list, got {brief(data)}")
    return data


def _rows_from_json(name: str, data: object, width: int) -> NDArray[np.float64]:
    rows = _list(name, data)
    if len(rows) > MAX_POINTS:
        raise TooLarge(f"{name}: expected at most {MAX_POINTS} points of an image, got {len(rows)}")
    nowhere = [np.nan] * width
    rows = [nowhere if row is None else row for row in rows]
    wrong = next((k for k, row in enumerate(rows) if not _is_row(row, width)), None)
    if wrong is not None:
        raise BadTensor(f"{name}[{wrong}]: expected {width} numbers or null, got {brief(rows[wrong])}")
    try:
        return np.array(rows, np.float64).reshape(-1, width)
    except OverflowError:
        raise BadTensor(f"{name}: expected numbers that fit into 64 bits") from None


def _is_row(row: object, width: int) -> bool:
    return isinstance(row, list) and len(row) == width and all(type(value) in (int, float) for value in row)


def _mask_from_json(data: object) -> NDArray[np.int32]:
    rows = _list("mask", data)
    widths = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(widths) != 1 or min(widths) < 1:
        raise BadTensor("mask: expected rows of labels, as a list of lists of one length, got something else")
    if len(rows) * min(widths) > MAX_MASK_PX:
        raise TooLarge(f"mask: expected at most {MAX_MASK_PX} pixels, got {len(rows)} x {min(widths)}")
    whole = all(set(map(type, row)) == {int} for row in rows)
    if not whole or min(map(min, rows)) < MIN_LABEL or max(map(max, rows)) > MAX_LABEL:
        raise BadTensor(f"mask: expected whole numbers from {MIN_LABEL} to {MAX_LABEL} as labels, got another value")
    return np.array(rows, np.int32)
