"""Warping by affine transforms, forward only: time an image, and how far the results are from exact ones.

    make bench PARTS=warp

Digits are 28x28x1 float32, photos 224x224x3 uint8 and 1080p 1080x1920x3 uint8, in one batch; each is turned, scaled and
shifted at random. All use every core; OpenCV goes image by image in a loop of Python, as it has no batches.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from cases_peers_warp import warp_by_opencv
from contest import FOLDER, Contestant, Lane, compete, contestants
from inputs import pixel_maps, random_images, random_thetas
from numpy.typing import NDArray
from report import Comparison, results, show
from shapes import WARPS

OURS, PEERS = Contestant("cases_ours_warp", of_peers=False), Contestant("cases_peers_warp", of_peers=True)
DEFAULTS = {"rounds": 15, "seconds": 1.0}
LANES = [
    *[Lane(case, OURS, case) for case in (*(f"ours {name}" for name in WARPS), "original digits")],
    *[Lane(case, PEERS, case) for case in (f"{peer} {name}" for peer in ("pytorch", "opencv") for name in WARPS)],
    Lane("kornia digits", PEERS, "kornia digits"),
]
COMPARISONS = [
    Comparison("ours digits", "pytorch digits", 1.0),
    Comparison("ours digits", "original digits", 28.0),
    Comparison("ours digits", "kornia digits"),
    Comparison("ours digits", "opencv digits"),
    Comparison("ours photos", "opencv photos", 1 / 1.2),
    Comparison("ours photos", "pytorch photos"),
    Comparison("ours 1080p", "opencv 1080p", 1 / 1.2),
    Comparison("ours 1080p", "pytorch 1080p"),
]
ACCURACY_IMAGES = 4


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time and accuracy."""
    with contestants([OURS, PEERS]) as processes:
        part = results(compete(LANES, processes, rounds, seconds), COMPARISONS)
    show("Warp, forward", part)
    return {**part, "accuracy": accuracy()}


def accuracy() -> dict[str, Any]:
    """The largest and the mean error of ours and of OpenCV on photos, in gray levels of 255.

    Held against the definition of bilinear interpolation in float64. Results in uint8 are off by up to 0.5 in any case.
    """
    sys.path.append(str(FOLDER.parent.parent / "tests" / "core"))
    from sampler_oracle import warp as exact_warp

    _, height, width, channels = WARPS["photos"].shape
    images, thetas = random_images((ACCURACY_IMAGES, height, width, channels), "uint8"), random_thetas(ACCURACY_IMAGES)
    exact = exact_warp(images.astype(np.float64), thetas.astype(np.float64), (height, width), "constant", 0.0)
    floats = images.astype(np.float32) / np.float32(255)
    found = {}
    for side, warp in (("ours", _ours), ("opencv", _opencv)):
        found[f"{side} uint8"] = _error(warp(images, thetas), exact)
        found[f"{side} float32"] = _error(warp(floats, thetas) * 255.0, exact)
    no_worse = all(
        found[f"ours {dtype}"][kind] <= found[f"opencv {dtype}"][kind]
        for dtype in ("uint8", "float32")
        for kind in ("largest", "mean")
    )
    for name, error in found.items():
        print(f"  {name}: largest error {error['largest']:.4f}, mean {error['mean']:.5f} gray levels")
    return {"errors": found, "no_worse_than_opencv": no_worse}


def _ours(images: NDArray[Any], thetas: NDArray[Any]) -> NDArray[Any]:
    from stn_core import native

    return native.warp(images, thetas)


def _opencv(images: NDArray[Any], thetas: NDArray[Any]) -> NDArray[Any]:
    return np.stack(warp_by_opencv(images, pixel_maps(thetas, *images.shape[1:3])))


def _error(found: NDArray[Any], exact: NDArray[Any]) -> dict[str, float]:
    off = np.abs(found.astype(np.float64) - exact)
    return {"largest": float(off.max()), "mean": float(off.mean())}
