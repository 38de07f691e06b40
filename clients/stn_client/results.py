"""What the service answers: one frozen dataclass a model, with arrays that are the caller's own, ``N`` rows each.

``theta`` maps normalized output points to normalized input points, and is of one of three families, told apart by its
shape: affine ``[N, 2, 3]``, homography ``[N, 3, 3]``, thin-plate spline ``[N, K*K, 2]``.

``rectified`` and ``images`` come as the images went: in their datatype, and without a channel axis if they had none;
encoded pictures come as uint8 ``[N, H, W, C]``. Where they differ in size they are an array ``[N]`` of arrays.

Where a limit was given, each image has a ``decision``, ``'rectified'`` or ``'kept'`` as it came; its ``reason``,
``'ok'`` or the limit that it went beyond; the ``confidence`` that rectification does no harm, None if the bundle has
none; and ``theta_applied``, the identity where it was kept. They are None otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stn_client.mapping import Geometry
from stn_client.pictures import pixels_of
from stn_client.rows import Mapped, Row, Rows

__all__ = [
    "Augmentation",
    "Classification",
    "Prediction",
    "Rectification",
    "Row",
    "Rows",
    "Straightening",
    "Warping",
]


@dataclass(frozen=True, kw_only=True)
class _Rectified(Mapped):
    """What images have that were straightened at the network's size; ``source_size [N, 2]`` is that which they had."""

    decision: NDArray[np.str_] | None = None
    reason: NDArray[np.str_] | None = None
    confidence: NDArray[np.float32] | None = None
    theta_applied: NDArray[np.float32] | None = None
    source_size: NDArray[np.int64] | None = None
    _images: ClassVar[str | None] = "rectified"

    def _geometry(self) -> Geometry:
        rectified, theta = self._columns()["rectified"], self._columns()["theta"]
        sizes = np.array([image.shape[:2] for image in rectified], np.int64).reshape(-1, 2)
        source_size = np.zeros_like(sizes) if self.source_size is None else self.source_size
        return Geometry(theta if self.theta_applied is None else self.theta_applied, sizes, source_size)


@dataclass(frozen=True)
class Prediction(_Rectified):
    """``label [N]``, ``probabilities [N, K]``, and the ``theta`` that made ``rectified`` from the image."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float32]
    rectified: NDArray[Any]


@dataclass(frozen=True)
class Rectification(_Rectified):
    """``rectified`` images, and the ``theta`` that made each: ``rectified(u) = image(theta u)``."""

    rectified: NDArray[Any]
    theta: NDArray[np.float32]


@dataclass(frozen=True)
class Straightening(Mapped):
    """Images of any size, straightened at their own: ``images(u) = source(theta u)``.

    ``images`` are uint8 ``[N, h, w, C]``, or an array ``[N]`` of arrays where their sizes differ; ``mask`` likewise,
    bool ``[h, w]``, True where a pixel was read from inside the source, None if it was not asked for. What went as
    files came back as PNG files: ``encoded`` and ``encoded_mask`` have these, and a row, or the whole, is decoded when
    it is asked for, which needs Pillow (Unsupported without it). Of images that went as pixels they have the pixels.
    With ``pictures=False`` all four are None.

    Sizes are (height, width). ``theta`` is what was applied, the canvas and the decision included.
    """

    encoded: NDArray[Any] | None
    encoded_mask: NDArray[Any] | None
    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float64]
    rectified_size: NDArray[np.int64]
    source_size: NDArray[np.int64]
    decision: NDArray[np.str_] | None = None
    reason: NDArray[np.str_] | None = None
    confidence: NDArray[np.float32] | None = None
    _images: ClassVar[str | None] = "images"
    _by_row: ClassVar[tuple[str, ...]] = ("images", "mask")
    _untabled: ClassVar[tuple[str, ...]] = ("encoded", "encoded_mask")

    @cached_property
    def images(self) -> NDArray[Any] | None:
        if self.encoded is None or self.encoded.dtype != object:
            return self.encoded
        return _joined([self._value("images", row) for row in range(len(self))])

    @cached_property
    def mask(self) -> NDArray[Any] | None:
        if self.encoded_mask is None:
            return None
        return _joined([self._value("mask", row) for row in range(len(self))])

    def _value(self, name: str, row: int) -> Any:
        if name == "images":
            return None if self.encoded is None else _pixels(self.encoded[row])
        if name != "mask":
            return super()._value(name, row)
        if self.encoded_mask is None:
            return None
        mask = _pixels(self.encoded_mask[row])
        return (mask[..., 0] if mask.ndim == 3 else mask) > 0

    def _geometry(self) -> Geometry:
        return Geometry(self.theta, self.rectified_size, self.source_size)


@dataclass(frozen=True)
class Classification(Rows):
    """``label [N]`` and ``probabilities [N, K]`` of the images as they are."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Warping(Rows):
    """Warped ``images``: ``warped(u) = image(theta u)``."""

    images: NDArray[Any]
    _images: ClassVar[str | None] = "images"


@dataclass(frozen=True)
class Augmentation(Rows):
    """Distorted ``images``, of the canvas' size if the recipe has one: ``distorted(u) = original(theta u)``.

    ``theta_rectifying`` is the inverse of ``theta`` and straightens them; None for a spline, which has no inverse. Both
    are exact where ``exact [N]`` is true; where it is false, an ``elastic`` step moved pixels too. ``by_imgaug`` names
    the recipe's steps that no warp composes with, which imgaug applies image by image and so much slower. With
    ``copies``, those of an image follow one another. ``annotations [N]``: those that were given, moved with their
    images (``stn_core.moving.MovedAnnotations``, or None); None if none were.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64] | None
    exact: NDArray[np.bool_]
    by_imgaug: tuple[str, ...]
    annotations: NDArray[Any] | None = None
    source_size: NDArray[np.int64] | None = None
    _images: ClassVar[str | None] = "images"
    _untabled: ClassVar[tuple[str, ...]] = ("annotations",)


def _pixels(image: Any) -> NDArray[Any]:
    return pixels_of(image) if isinstance(image, bytes) else np.asarray(image)


def _joined(images: list[NDArray[Any]]) -> NDArray[Any]:
    """``[N, ...]``, black for images that are not there, or ``[N]`` of arrays if their shapes or datatypes differ."""
    kinds = {(image.dtype, image.shape) for image in images if image.size}
    if len(kinds) != 1:
        rows = np.empty(len(images), object)
        for row, image in enumerate(images):
            rows[row] = image
        return rows
    dtype, shape = kinds.pop()
    return np.stack([image if image.size else np.zeros(shape, dtype) for image in images])
