"""Boxes and polygons in pixels: corners, bounding boxes, edges cut into pieces, and what of them is on a canvas.

Pixel coordinates are those of ``stn_core.points``. A box is (x1, y1, x2, y2), its upper left and lower right corners;
a polygon is its vertices ``[V, 2]`` in order, closed from the last to the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.errors import BadTensor, TooLarge, brief
from stn_core.geometry import Size
from stn_core.points import EDGE_PX, numbers

MAX_VERTICES = 100_000
"""Of a polygon whose edges are cut into pieces."""


def box_polygons(boxes_px: ArrayLike) -> NDArray[np.float64]:
    """The corners ``[..., 4, 2]`` of ``boxes_px [..., 4]``: clockwise as seen, from the upper left; BadTensor if it is
    none.

    ``to_source`` and ``to_rectified`` take them as they are, and ``bounding_boxes`` makes boxes of them again.
    """
    boxes = numbers("boxes_px", boxes_px)
    if boxes.shape[-1:] != (4,):
        raise BadTensor(f"boxes_px: expected [..., 4], x1, y1, x2 and y2 each, got {list(boxes.shape)}")
    return boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]


def bounding_boxes(polygons_px: ArrayLike) -> NDArray[np.float64]:
    """The smallest boxes ``[..., 4]`` around ``polygons_px [..., V, 2]``; NaN around none, or where a vertex is NaN."""
    polygons = numbers("polygons_px", polygons_px)
    if polygons.ndim < 2 or polygons.shape[-1] != 2:
        raise BadTensor(f"polygons_px: expected [..., V, 2], (x, y) of each vertex, got {list(polygons.shape)}")
    if not polygons.shape[-2]:
        return np.full((*polygons.shape[:-2], 4), np.nan)
    return np.concatenate([polygons.min(axis=-2), polygons.max(axis=-2)], axis=-1)


def subdivided(polygon_px: ArrayLike, max_edge_px: float) -> NDArray[np.float64]:
    """The polygon ``[V', 2]`` with vertices added on its edges, so that none is longer than ``max_edge_px``.

    A spline bends edges: mapped with more vertices, a polygon follows it. The vertices it had stay, in their order.
    BadTensor for a length that is not above 0, TooLarge if it makes more than ``MAX_VERTICES``.
    """
    polygon = _vertices(polygon_px)
    if not max_edge_px > 0:
        raise BadTensor(f"max_edge_px: expected a length above 0, got {brief(max_edge_px)}")
    edges = np.roll(polygon, -1, axis=0) - polygon
    pieces = np.ceil(np.hypot(edges[:, 0], edges[:, 1]) / max_edge_px)
    pieces = np.where(pieces > 1, pieces, 1)  # one also where an edge has no length, or is NaN
    if pieces.sum() > MAX_VERTICES:
        raise TooLarge(
            f"max_edge_px: expected pieces of edges that make at most {MAX_VERTICES} vertices, got {pieces.sum():.0f} "
            f"with {max_edge_px} px; use a longer one"
        )
    counts = pieces.astype(int)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    share = number / np.repeat(counts, counts)
    # At a vertex nothing is added: the next one may be NaN.
    added = np.where(share[:, None] > 0, share[:, None] * np.repeat(edges, counts, axis=0), 0.0)
    return np.asarray(np.repeat(polygon, counts, axis=0) + added)


def clipped(polygon_px: ArrayLike, size: Size) -> NDArray[np.float64]:
    """What of a polygon is on a canvas of ``size`` (height, width), ``[V', 2]``: no vertices if nothing is.

    By Sutherland and Hodgman: a polygon that leaves the canvas and comes back stays one, joined along the edge.
    """
    polygon = _vertices(polygon_px)
    height, width = size
    for axis, side in ((0, width), (1, height)):
        polygon = _cut(polygon, polygon[:, axis])
        polygon = _cut(polygon, side - polygon[:, axis])
    return polygon


def visible_fractions(polygons_px: Sequence[ArrayLike], size: Size) -> NDArray[np.float64]:
    """The share of each polygon's area that lies on a canvas of ``size`` (height, width), ``[len(polygons)]``.

    NaN if a vertex is; of a polygon without area, the share of its vertices. For polygons whose edges do not cross.
    """
    polygons = [_vertices(polygon) for polygon in polygons_px]
    counts = np.array([len(polygon) for polygon in polygons], int)
    if not counts.all():
        raise BadTensor("polygons_px: expected one vertex or more of each polygon, got one that has none")
    if not polygons:
        return np.empty(0)
    vertices, ends = np.concatenate(polygons), np.cumsum(counts)
    starts, following = ends - counts, np.arange(1, len(vertices) + 1)
    following[ends - 1] = starts
    extent = np.array(size[::-1], np.float64)
    on_canvas = ((vertices >= -EDGE_PX) & (vertices <= extent + EDGE_PX)).all(axis=1)
    share_of_vertices = np.add.reduceat(on_canvas.astype(np.float64), starts) / counts
    with np.errstate(all="ignore"):  # of places that are far away, or NaN
        near = vertices - np.repeat(vertices[starts], counts, axis=0)  # where less is lost in the differences
        whole = np.abs(np.add.reduceat(_areas_above(near, near[following]), starts))
        visible = np.abs(np.add.reduceat(_areas_on_canvas(vertices, vertices[following], extent), starts))
        fractions = np.minimum(1.0, np.round(visible / whole, 9))  # so that rounding leaves nothing of what is off
    fractions = np.where((share_of_vertices == 1) | ~(whole > 0), share_of_vertices, fractions)
    return np.where(np.isnan(np.add.reduceat(vertices, starts)).any(axis=1), np.nan, fractions)


def _areas_above(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """The signed areas ``[E]`` between edges and the line y = 0; those of a polygon's edges add up to its own."""
    return np.asarray((ends[:, 0] - starts[:, 0]) * (starts[:, 1] + ends[:, 1]) / 2)


def _areas_on_canvas(
    starts: NDArray[np.float64], ends: NDArray[np.float64], extent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of the areas between edges and the line y = 0, what lies on the canvas: y, cut to it, integrated over x."""
    width, height = extent
    way = ends - starts
    slope = np.divide(way[:, 1], way[:, 0], out=np.zeros(len(way)), where=way[:, 0] != 0)
    x = np.clip(np.stack([starts[:, 0], ends[:, 0]]), 0, width)
    y = starts[:, 1] + slope * (x - starts[:, 0])
    to_y = np.clip(y, 0, height) ** 2 / 2 + height * np.maximum(y - height, 0)  # the integral of y, cut, up to y
    rise = y[1] - y[0]
    level = (np.abs(rise) < 1e-6 * height) | (y <= 0).all(axis=0) | (y >= height).all(axis=0)
    mean = np.divide(to_y[1] - to_y[0], rise, out=np.clip(y.mean(axis=0), 0, height), where=~level)
    return np.asarray((x[1] - x[0]) * mean)


def _cut(polygon: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a polygon on the side of a line where the ``depth [V]`` of its vertices is not negative."""
    following = np.roll(depth, -1)
    crosses = (depth < 0) != (following < 0)
    share = np.divide(depth, depth - following, out=np.zeros_like(depth), where=crosses)
    crossings = polygon + share[:, None] * (np.roll(polygon, -1, axis=0) - polygon)
    kept = np.stack([depth >= 0, crosses], axis=1)
    return np.asarray(np.stack([polygon, crossings], axis=1)[kept])


def _vertices(polygon_px: ArrayLike) -> NDArray[np.float64]:
    polygon = numbers("polygon_px", polygon_px)
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise BadTensor(f"polygon_px: expected [V, 2], (x, y) of each vertex, got {list(polygon.shape)}")
    return polygon
