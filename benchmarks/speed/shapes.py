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
FULL_SIZES = {"12 MP": (3000, 4000), "20 MP": (3648, 5472)}
FULL_KINDS = ("affine", "homography", "shrink")
FULL_THREADS = (1, 2)
SHRUNK_SIDE_PX = 1000


def full_case(side: str, size: str, kind: str, threads: int) -> str:
    """The name of a case about one large image."""
    return f"{side} {size} {kind}, {threads} thread{'s' if threads > 1 else ''}"
