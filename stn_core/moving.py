"""Annotations that move with their image, by the theta of the warp: keypoints, boxes, polygons, the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.annotations import MAX_POINTS, Annotations, rows_to_json
from stn_core.errors import BadTensor, TooLarge
from stn_core.geometry import Size
from stn_core.masks import warp_mask
from stn_core.points import MappedPoints, numbers, to_rectified_each
from stn_core.polygons import bounding_boxes, box_polygons, subdivided, visible_fractions
from stn_core.transforms import check_shape


@dataclass(frozen=True, eq=False)
class MovedAnnotations:
    """Annotations on the new image, and what of them its canvas shows.

    ``annotations``: as before, in the same order; its boxes are the bounding boxes of ``box_polygons_px [V, 2]``, what
    the warp made of them (the 4 corners, from the upper left one, clockwise as seen before). All may reach over the
    canvas; what has no place at all is NaN. ``keypoints_inside [P]``; ``boxes_visible_fraction [B]`` and
    ``polygons_visible_fraction``: the share of the area that is on the canvas, NaN where a vertex has no place.
    ``exact``: False if the pixels moved by more than theta tells, so that these places are about right.
    """

    annotations: Annotations
    box_polygons_px: tuple[NDArray[np.float64], ...]
    keypoints_inside: NDArray[np.bool_]
    boxes_visible_fraction: NDArray[np.float64]
    polygons_visible_fraction: NDArray[np.float64]
    exact: bool = True

    def to_json(self) -> dict[str, Any]:
        """The annotations' JSON with ``box_polygons_px`` and the flags; null for NaN."""
        return {
            **self.annotations.to_json(),
            "box_polygons_px": [rows_to_json(polygon) for polygon in self.box_polygons_px],
            "keypoints_inside": self.keypoints_inside.tolist(),
            "boxes_visible_fraction": _to_json(self.boxes_visible_fraction),
            "polygons_visible_fraction": _to_json(self.polygons_visible_fraction),
            "exact": self.exact,
        }


def move(
    annotations: Annotations,
    theta: ArrayLike,
    source_size: Size,
    output_size: Size,
    max_edge_px: float | None = None,
    fill_label: int = 0,
) -> MovedAnnotations:
    """The annotations of a source image on the image that a warp makes of it: ``output(u) = source(theta u)``.

    ``theta`` is that of one image, of any family. With ``max_edge_px``, edges of boxes and polygons are first cut into
    pieces no longer than that, which follow a spline. A mask keeps its datatype; its labels are those of the nearest
    pixels, and ``fill_label`` where nothing was. BadTensor if theta cannot be undone, or the mask's size is not the
    source's; TooLarge if the pieces make too many points.
    """
    thetas = numbers("theta", theta)[None]
    return move_each([annotations], thetas, source_size, output_size, max_edge_px, fill_label)[0]


def move_each(
    annotations: Sequence[Annotations],
    theta: ArrayLike,
    source_size: Size,
    output_size: Size,
    max_edge_px: float | None = None,
    fill_label: int = 0,
) -> list[MovedAnnotations]:
    """``move`` for N images of one size, each by its own of ``theta [N, ...]``."""
    thetas = numbers("theta", theta)
    check_shape(thetas.shape)
    if len(annotations) != len(thetas):
        raise BadTensor(
            f"annotations: expected {len(thetas)}, those of one image for each theta, got {len(annotations)}"
        )
    outlines = [_outlines(each, max_edge_px) for each in annotations]
    points = [np.concatenate([a.keypoints_px, *lines]) for a, lines in zip(annotations, outlines, strict=True)]
    mapped = to_rectified_each(points, thetas, output_size, source_size)
    ends = [
        len(a.keypoints_px) + np.cumsum([0, *map(len, lines)]) for a, lines in zip(annotations, outlines, strict=True)
    ]
    polygons = [[m.points_px[i:j] for i, j in pairwise(cuts)] for m, cuts in zip(mapped, ends, strict=True)]
    visible = visible_fractions(list(chain.from_iterable(polygons)), output_size)
    shares = np.split(visible, np.cumsum(list(map(len, polygons)))[:-1])
    masks = [_moved_mask(*each, source_size, output_size, fill_label) for each in zip(annotations, thetas, strict=True)]
    parts = zip(annotations, mapped, polygons, shares, masks, strict=False)
    return [_gathered(*each) for each in parts]


def _moved_mask(
    annotations: Annotations, theta: NDArray[Any], source_size: Size, output_size: Size, fill_label: int
) -> NDArray[Any] | None:
    mask = annotations.mask
    if mask is None:
        return None
    if mask.shape != tuple(source_size):
        raise BadTensor(
            f"mask: expected the size of its image, {source_size[0]} x {source_size[1]} px, got "
            f"{mask.shape[0]} x {mask.shape[1]}"
        )
    return warp_mask(mask, theta, output_size, fill_label)


def _outlines(annotations: Annotations, max_edge_px: float | None) -> list[NDArray[np.float64]]:
    """The polygons of the boxes, then the polygons."""
    polygons = [*box_polygons(annotations.boxes_px), *annotations.polygons_px]
    if max_edge_px is None:
        return polygons
    cut, vertices = [], 0
    for polygon in polygons:
        cut.append(subdivided(polygon, max_edge_px))
        vertices += len(cut[-1])
        if vertices > MAX_POINTS:  # before many such polygons fill the memory
            raise TooLarge(
                f"max_edge_px: expected at most {MAX_POINTS} points of an image, but pieces of {max_edge_px} px make "
                "more; use longer ones"
            )
    return cut


def _gathered(
    before: Annotations,
    mapped: MappedPoints,
    polygons: list[NDArray[np.float64]],
    visible: NDArray[np.float64],
    mask: NDArray[Any] | None,
) -> MovedAnnotations:
    keypoints, boxes = len(before.keypoints_px), len(before.boxes_px)
    bounding = np.array([bounding_boxes(polygon) for polygon in polygons[:boxes]])
    return MovedAnnotations(
        Annotations(mapped.points_px[:keypoints], bounding, polygons[boxes:], mask),
        tuple(polygons[:boxes]),
        mapped.inside[:keypoints],
        visible[:boxes],
        visible[boxes:],
    )


def _to_json(fractions: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(fraction) else fraction for fraction in fractions.tolist()]
