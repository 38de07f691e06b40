"""Masks of labels warped by theta: each pixel takes the label of one, and none is mixed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.errors import BadTensor
from stn_core.geometry import Size
from stn_core.points import numbers, read_from
from stn_core.transforms import check_shape

MAX_PLACES = 1 << 18
"""So many pixels at most are looked up at once, to save memory."""
TIE_PX = 1e-6
"""A place so near to the edge between two pixels is the second's, on whichever side rounding put it."""


def warp_mask(mask: NDArray[Any], theta: ArrayLike, size: Size, fill_label: int = 0) -> NDArray[Any]:
    """``mask [h, w]`` of labels warped by the theta of one image, of any family: ``size`` in its datatype.

    Each pixel has the label of the one whose square its centre is read from, ``fill_label`` where that is outside.
    BadTensor if the fill does not fit into the datatype.
    """
    if not np.iinfo(mask.dtype).min <= fill_label <= np.iinfo(mask.dtype).max:
        raise BadTensor(f"fill_label: expected a label that fits into the mask's {mask.dtype}, got {fill_label}")
    thetas = numbers("theta", theta)[None]
    check_shape(thetas.shape)
    height, width = size
    out = np.full(size, fill_label, mask.dtype)
    x = (2 * np.arange(width) + 1) / width - 1
    rows_at_once = max(1, MAX_PLACES // width)
    for start in range(0, height, rows_at_once):
        y = (2 * np.arange(start, min(start + rows_at_once, height)) + 1) / height - 1
        out[start : start + len(y)] = _labels(mask, thetas, x, y, fill_label)
    return out


def _labels(mask: NDArray[Any], theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any], fill_label: int) -> NDArray[Any]:
    """The labels ``[len(y), len(x)]`` at the normalized columns ``x`` and rows ``y``."""
    grid = np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=-1)
    extent = np.array(mask.shape[::-1])
    with np.errstate(all="ignore"):  # what is not finite is nowhere
        places = np.floor((read_from(theta, grid[None])[0] + 1) * extent / 2 + TIE_PX)
        inside = ((places >= 0) & (places < extent)).all(axis=1)
    column, row = np.where(inside[:, None], places, 0).astype(np.intp).T
    return np.where(inside, mask[row, column], mask.dtype.type(fill_label)).reshape(len(y), len(x))
