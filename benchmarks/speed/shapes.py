"""The batches that the contests are about, by the names that results give them."""

from __future__ import annotations

from typing import NamedTuple


class Images(NamedTuple):
    """A batch ``[N, H, W, C]``."""

    shape: tuple[int, int, int, int]
    dtype: str


WARPS = {
    "digits": Images((1024, 28, 28, 1), "float32"),
    "photos": Images((32, 224, 224, 3), "uint8"),
    "1080p": Images((1, 1080, 1920, 3), "uint8"),
}
ENGINE_BATCHES = (1, 16, 64, 256)
TRAINING_BATCHES = (64, 256)
