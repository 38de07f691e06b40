"""Random draws that belong to an image, not to its place in a call: pure functions of (seed, image id, slot).

A recipe numbers its steps; each parameter of a step is a slot. Hashing (seed, slot, id) gives the draw, so the order
and the size of a batch change nothing, and draws for a million images are one vectorised expression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Ids = NDArray[np.uint64]


def image_ids(images: NDArray[Any]) -> Ids:
    """One id an image ``[N]``: a hash of its bytes and of how many equal images came before it in ``images``.

    Equal images in one call so have different ids, and different draws.
    """
    return Numbering().ids(np.ascontiguousarray(images))


class Numbering:
    """Ids of images that come part by part, the same as if all came at once; remembers a hash of each."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def ids(self, images: Iterable[Any]) -> Ids:
        """The ids of the next images, ``[N]``: arrays (row-major), or whatever bytes stand for them."""
        digests = b"".join(hashlib.blake2b(image, digest_size=8).digest() for image in images)
        content = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
        occurrence = []
        for digest in content.tolist():
            before = self._seen.get(digest, 0)
            self._seen[digest] = before + 1
            occurrence.append(before)
        return _mix(content + np.array(occurrence, np.uint64) * _GOLDEN)


def uniform(seed: int, ids: Ids, slot: int) -> NDArray[np.float64]:
    """Draws from [0, 1), ``[N]``: one for each id, independent between seeds and slots."""
    return (bits(seed, ids, slot) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(ids: Ids, count: int, first: int = 0) -> NDArray[np.float64]:
    """Standard normal draws ``[N, count]``, independent between ids; ``first`` numbers the first of them.

    By the Box-Muller transform of two uniform draws each.
    """
    columns = [
        np.sqrt(-2 * np.log1p(-uniform(0, ids, 2 * number))) * np.cos(2 * np.pi * uniform(0, ids, 2 * number + 1))
        for number in range(first, first + count)
    ]
    return np.stack(columns, axis=1)


def bits(seed: int, ids: Ids, slot: int) -> Ids:
    """64 random bits for each id, ``[N]``, independent between seeds and slots."""
    stream = _mix(_mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)) + np.array([slot + 1], np.uint64) * _GOLDEN)
    return _mix(_mix(ids ^ stream) + stream)


def _mix(x: Ids) -> Ids:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit numbers that scatters every bit."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
