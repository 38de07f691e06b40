"""Clutter: patches of other digits' strokes put over an image, as in the paper's translated, cluttered MNIST."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.datasets.mnist import sample_digits
from stn_core.draws import Ids, uniform
from stn_core.errors import BadTensor
from stn_core.recipes.steps import Clutter


def add_clutter(images: NDArray[Any], step: Clutter, seeds: Ids) -> NDArray[Any]:
    """``images [N, H, W, C]`` (uint8, or float32 in [0, 1]), each with the patches its seed draws; a new array.

    Where a patch and the image meet, the lighter of the two shows. BadTensor if the image is smaller than a patch.
    """
    side, (count, height, width) = step.patch_px, images.shape[:3]
    if min(height, width) < side:
        raise BadTensor(f"images: expected at least the {side} px of a patch of clutter, got {height} x {width}")
    digits = _digits()
    images = images.copy()
    rows = np.arange(count)[:, None, None]
    line = np.arange(side)
    for number in range(step.patches):

        def below(limit: int, slot: int, number: int = number) -> NDArray[np.int64]:
            return np.floor(uniform(number, seeds, slot) * limit).astype(np.int64)

        def square(y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            return (y[:, None] + line)[:, :, None], (x[:, None] + line)[:, None, :]

        source_y, source_x = square(below(digits.shape[1] - side + 1, 1), below(digits.shape[2] - side + 1, 2))
        y, x = square(below(height - side + 1, 3), below(width - side + 1, 4))
        patches: NDArray[Any] = digits[below(len(digits), 0)[:, None, None], source_y, source_x][..., None]
        if images.dtype != np.uint8:
            patches = patches.astype(images.dtype) / 255
        images[rows, y, x] = np.maximum(images[rows, y, x], patches)
    return images


@lru_cache(maxsize=1)
def _digits() -> NDArray[np.uint8]:
    """``[5000, 28, 28]``: real MNIST digits, of its training set."""
    return np.ascontiguousarray(sample_digits().images[..., 0])
