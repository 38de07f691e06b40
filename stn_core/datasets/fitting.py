"""Brings the images of a data set to another size or number of channels, as pictures are brought when read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.datasets.splits import Dataset
from stn_core.errors import BadData
from stn_core.geometry import Size
from stn_core.resizing import in_channels, resized


def fitted(data: Dataset, size: Size | None, channels: int | None) -> Dataset:
    """``data`` with images of ``size`` (height, width) and of 1 (gray) or 3 (colour) channels; None leaves as it is."""
    images = data.images
    if size is not None and images.shape[1:3] != tuple(size):
        images = np.stack([resized(image, size) for image in images])
    if channels not in (None, images.shape[3]):
        images = _in_channels(images, channels, data.name)
    return data if images is data.images else replace(data, images=images)


def _in_channels(images: NDArray[Any], channels: int, name: str) -> NDArray[Any]:
    came = images.shape[3]
    if not {came, channels} <= {1, 3}:
        raise BadData(
            f"{name}: images of {came} channels can not become ones of {channels}; expected 1 (gray) or 3 (colour)"
        )
    return in_channels(images, channels)
