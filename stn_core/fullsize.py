"""Rectifies images at their own size and channels: theta is found on a small copy, and applied to the original once.

The output's window and resolution are told in ``stn_core.canvas``; the sampler is the one in C (``stn_core.native``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import native
from stn_core.bundle import Manifest
from stn_core.canvas import AS_IT_COMES, MAX_PIXELS, Canvas, Frame, Wanted, coarseness, output_window
from stn_core.engine import Engine
from stn_core.errors import BadTensor
from stn_core.geometry import Size
from stn_core.resizing import as_input

Image = NDArray[Any]

MAX_COARSENESS = 1.5
"""Source pixels that an output pixel may cover, along a side, before the source is averaged: a bilinear sampler reads
four, and what lies between them would be lost, or turn into patterns that are not there."""


@dataclass(frozen=True)
class FullImage:
    """One rectified image.

    ``image [h, w, C]`` has the datatype and the channels of the source. ``theta`` (float64, of the bundle's family)
    maps its normalized points to those of the source, of ``source_size`` (height, width), which it was read from: in
    canvas ``fit`` not the theta of the network alone. ``mask [h, w]`` is true where a pixel's centre was read from
    inside the source; None if it was not asked for.
    """

    image: Image
    theta: NDArray[np.float64]
    mask: NDArray[np.bool_] | None
    source_size: Size


def rectify_full(
    engine: Engine,
    images: Image | Sequence[Image],
    canvas: Canvas = "crop",
    size: Size | None = None,
    max_side_px: int | None = None,
    with_mask: bool = False,
    *,
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
) -> list[FullImage]:
    """Each image straightened at full size: one image ``[H, W, C]``, or several, of mixed sizes and channels.

    uint8, or float32 in [0, 1], of 1, 3 or 4 channels. ``size``, ``max_side_px`` and ``max_pixels`` of an output are
    those of ``canvas.Wanted``; ``threads`` are as many as there are cores unless given. BadTensor for images that are
    none; the errors of ``canvas.Wanted`` and ``canvas.output_window`` for what cannot be shown.
    """
    wanted = Wanted(canvas, size, max_side_px, max_pixels)
    images = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    thetas = localize_full(engine, images, threads)
    return [
        warp_full(image, theta, engine.manifest, wanted, with_mask, threads)
        for image, theta in zip(images, thetas, strict=True)
    ]


def localize_full(engine: Engine, images: Sequence[Image], threads: int | None = None) -> NDArray[np.float32]:
    """The network's theta of each image ``[H, W, C]``, ``[N, *theta_shape]``; all small copies are one batch.

    A small copy is made as training makes one of a picture file (``resizing.as_input``). BadTensor as in
    ``rectify_full``.
    """
    for index, image in enumerate(images):
        _check(image, index)
    if not images:
        return np.empty((0, *engine.manifest.theta_shape), np.float32)
    small = [as_input(image, engine.manifest.input_shape, threads or native.cores()) for image in images]
    if len({one.dtype for one in small}) > 1:
        small = [one / np.float32(255) if one.dtype == np.uint8 else one for one in small]
    return engine.localize(np.stack(small))


def warp_full(
    image: Image,
    theta: NDArray[Any],
    manifest: Manifest,
    wanted: Wanted = AS_IT_COMES,
    with_mask: bool = False,
    threads: int | None = None,
) -> FullImage:
    """``image [H, W, C]`` as ``wanted``, straightened by the ``theta`` that the bundle's network found for it.

    Errors are those of ``rectify_full``.
    """
    _check(image)
    threads = threads or native.cores()
    source: Size = (image.shape[0], image.shape[1])
    input_size: Size = manifest.input_shape[:2]
    applied, size = output_window(theta, Frame(source, input_size, manifest.rectified_size or input_size), wanted)
    seen = native.reduced(image[None], _sampled_size(applied, source, size), threads)
    warped = native.warp(seen, applied[None], size, manifest.fill_fraction, threads)[0]
    mask = native.inside(applied[None], source, size, threads)[0] if with_mask else None
    return FullImage(warped, applied, mask, source)


def _sampled_size(theta: NDArray[Any], source: Size, size: Size) -> Size:
    """The size to average the source to before it is sampled: the same image from edge to edge, so theta stays."""
    covered = coarseness(theta, source, size)
    height, width = (
        max(1, round(side / pixels)) if pixels > MAX_COARSENESS else side
        for side, pixels in zip(source, covered, strict=True)
    )
    return height, width


def _check(image: Image, index: int = 0) -> None:
    if image.ndim != 3 or 0 in image.shape or image.dtype not in (np.uint8, np.float32):
        raise BadTensor(
            f"images: expected uint8 or float32 [height, width, channels], got {image.dtype} {list(image.shape)} "
            f"at {index}"
        )
    native.check_sides((image.shape[0], image.shape[1]))
