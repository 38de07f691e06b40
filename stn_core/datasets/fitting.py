"""Brings the images of a data set to another size or number of channels, as pictures are brought when read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.datasets.splits import Dataset
from stn_core.errors import BadData
from stn_core.geometry import Size

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # what Pillow weighs colours by


def fitted(data: Dataset, size: Size | None, channels: int | None) -> Dataset:
    """``data`` with images of ``size`` (height, width) and of 1 (gray) or 3 (colour) channels; None leaves as it is."""
    images = data.images
    if channels not in (None, images.shape[3]):
        images = _in_channels(images, channels, data.name)
    if size is not None and images.shape[1:3] != tuple(size):
        images = _resized(images, size)
    return data if images is data.images else replace(data, images=images)


def _in_channels(images: NDArray[Any], channels: int | None, name: str) -> NDArray[Any]:
    came = images.shape[3]
    if (came, channels) == (1, 3):
        return np.repeat(images, 3, axis=3)
    if (came, channels) == (3, 1):
        gray = (images @ _LUMA)[..., None]
        return np.round(gray).astype(np.uint8) if images.dtype == np.uint8 else gray.astype(np.float32)
    raise BadData(
        f"{name}: images of {came} channels can not become ones of {channels}; expected 1 (gray) or 3 (colour)"
    )


def _resized(images: NDArray[Any], size: Size) -> NDArray[Any]:
    """Channel by channel, by Pillow: it averages what it makes smaller, and takes floats too."""
    from PIL import Image

    height, width = size
    resized = np.empty((len(images), height, width, images.shape[3]), images.dtype)
    for index, image in enumerate(images):
        for channel in range(images.shape[3]):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            resized[index, ..., channel] = plane.resize((width, height), Image.Resampling.BILINEAR)
    return resized
