"""Our side of the large images: by thetas that are given, and the whole way from the image on."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from contestant import Case
from inputs import full_theta, random_images
from numpy.typing import NDArray
from shapes import FULL_KINDS, FULL_SIZES, FULL_THREADS, SHRUNK_SIDE_PX, full_case


def warp(size: str, kind: str, threads: int) -> Case:
    from stn_core.bundle import read_manifest
    from stn_core.canvas import Wanted
    from stn_core.fullsize import warp_full

    height, width = FULL_SIZES[size]
    image, theta = random_images((1, height, width, 3), "uint8")[0], full_theta(kind, height, width)
    side_px = SHRUNK_SIDE_PX if kind == "shrink" else width
    wanted = Wanted(size=(round(side_px * height / width), side_px))
    manifest = read_manifest("digits")
    return lambda: warp_full(image, theta, manifest, wanted, threads=threads), 1


def rectify(size: str, threads: int) -> Case:
    """A digit in colour: its small copy, the network, the warp, and the mask."""
    from stn_core.engine import Engine
    from stn_core.fullsize import rectify_full

    image, engine = _large_digit(*FULL_SIZES[size]), Engine.load("digits", threads=threads)
    rectify_full(engine, image[:600, :900])  # loads what a first call does, and is no part of its memory
    return lambda: rectify_full(engine, image, "fit", with_mask=True, threads=threads), 1


def localize(size: str, threads: int) -> Case:
    """The small copy and the network alone."""
    from stn_core.engine import Engine
    from stn_core.fullsize import localize_full

    image, engine = _large_digit(*FULL_SIZES[size]), Engine.load("digits", threads=threads)
    localize_full(engine, [image[:600, :900]])
    return lambda: localize_full(engine, [image], threads), 1


def _large_digit(height: int, width: int) -> NDArray[Any]:
    from PIL import Image

    from stn_core.datasets import sample_digits

    digit = Image.fromarray(sample_digits().images[0, ..., 0])
    return np.array(digit.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))


CASES = {
    full_case("ours", size, kind, threads): partial(warp, size, kind, threads)
    for size in FULL_SIZES
    for kind in FULL_KINDS
    for threads in FULL_THREADS
} | {
    full_case("ours", size, step.__name__, threads): partial(step, size, threads)
    for size in FULL_SIZES
    for step in (localize, rectify)
    for threads in FULL_THREADS
}
