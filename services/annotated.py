"""Annotations that come with image files and move with their copies: read, bounded, moved."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from services.forms import Item
from services.pipelines import Outcome
from services.settings import Limits
from stn_core.annotations import MAX_MASK_PX, MAX_POINTS, Annotations
from stn_core.errors import BadBody, BadTensor, StnError, TooLarge, brief
from stn_core.geometry import Size
from stn_core.moving import move_each
from stn_core.recipes import Recipe, theta_shape_of
from stn_core.transforms import THETA_SHAPES

ANNOTATIONS = "annotations"
Read = Annotations | StnError | None
"""What came with a file: annotations, what is wrong with them, or nothing."""


def read_annotations(given: object, items: Sequence[Item]) -> list[Read]:
    """The annotations of each file: from the parameter ``given``, or those that came beside the files in JSON.

    BadBody if they are none as a whole; what is wrong with one entry is an error of its file alone.
    """
    beside = [item.annotations for item in items]
    if given is None:
        return [_read_one(entry) for entry in beside]
    if any(entry is not None for entry in beside):
        raise BadBody("annotations: expected those beside each image, or the parameter, got both")
    entries = _parsed(given) if isinstance(given, str) else given
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list) or len(entries) != len(items):
        got = f"a list of {len(entries)}" if isinstance(entries, list) else brief(entries)
        raise BadBody(
            f"annotations: expected a list of {len(items)}, an object or null for each file, or one object for a "
            f"single file, got {got}"
        )
    return [_read_one(entry) for entry in entries]


class AnnotationAllowance:
    """The points and labels that may still be made for one request, all its copies together."""

    def __init__(self, recipe: Recipe, copies: int, limits: Limits) -> None:
        self._copies = copies
        self._points_left = MAX_POINTS
        shape = theta_shape_of(recipe)
        # A label is found as a pixel is: of a spline by as many terms as it has control points.
        most_by_spline = limits.max_spline_terms // shape[0]
        self._most_labels = min(MAX_MASK_PX, most_by_spline) if shape == THETA_SHAPES["tps"] else MAX_MASK_PX
        self._labels_left = self._most_labels

    def take(self, annotations: Annotations) -> None:
        """TooLarge if it is more than is left."""
        outlines = 4 * len(annotations.boxes_px) + sum(map(len, annotations.polygons_px))
        points = (len(annotations.keypoints_px) + outlines) * self._copies
        labels = 0 if annotations.mask is None else annotations.mask.size * self._copies
        for name, count, left, most in (
            ("points", points, self._points_left, MAX_POINTS),
            ("pixels of masks", labels, self._labels_left, self._most_labels),
        ):
            if count > left:
                raise TooLarge(
                    f"annotations: expected at most {most} {name} in one answer, of which {left} are left, and the "
                    f"copies of this file make {count}; send several requests, or ask for fewer copies"
                )
        self._points_left -= points
        self._labels_left -= labels


def check_mask(annotations: Annotations, size: Size) -> None:
    """BadTensor unless the mask, if there is one, has the ``size`` (height, width) of its image."""
    if annotations.mask is not None and annotations.mask.shape != size:
        height, width = annotations.mask.shape
        raise BadTensor(
            f"annotations.mask: expected the size of its image, {size[0]} x {size[1]} px, got {height} x {width}"
        )


def with_moved(outcome: Outcome, annotations: Annotations, source_size: Size) -> Outcome:
    """``outcome`` of the copies of one image, and among its outputs what became of the annotations on each, as JSON."""
    theta, exact, images = (outcome.outputs[name] for name in ("theta", "exact", "images"))
    moved = move_each([annotations] * len(theta), theta, source_size, (images.shape[1], images.shape[2]))
    column = np.empty(len(theta), object)
    column[:] = [replace(one, exact=bool(good)).to_json() for one, good in zip(moved, exact, strict=True)]
    return outcome._replace(outputs={**outcome.outputs, ANNOTATIONS: column})


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadBody(f"annotations: expected JSON, got something that does not parse: {error}") from None


def _read_one(entry: Any) -> Read:
    if entry is None:
        return None
    try:
        return Annotations.from_json(entry)
    except StnError as error:
        return error
