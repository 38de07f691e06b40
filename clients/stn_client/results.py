"""What the service answers: one frozen dataclass a model, with arrays that are the caller's own, ``N`` rows each.

``theta`` maps normalized output points to normalized input points, and is of one of three families, told apart by its
shape: affine ``[N, 2, 3]``, homography ``[N, 3, 3]``, thin-plate spline ``[N, K*K, 2]``.

``rectified`` and ``images`` come as the images went: in their datatype, and without a channel axis if they had none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """``label [N]``, ``probabilities [N, K]``, and the ``theta`` that made ``rectified`` from the image."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float32]
    rectified: NDArray[Any]


@dataclass(frozen=True)
class Rectification:
    """``rectified`` images, and the ``theta`` that made each: ``rectified(u) = image(theta u)``."""

    rectified: NDArray[Any]
    theta: NDArray[np.float32]


@dataclass(frozen=True)
class Classification:
    """``label [N]`` and ``probabilities [N, K]`` of the images as they are."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """Distorted ``images``, of the canvas' size if the recipe has one: ``distorted(u) = original(theta u)``.

    ``theta_rectifying`` is the inverse of ``theta`` and straightens them; None for a spline, which has no inverse. Both
    are exact where ``exact [N]`` is true; where it is false, an ``elastic`` step moved pixels too. ``by_imgaug`` names
    the recipe's steps that no warp composes with, which imgaug applies image by image and so much slower.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64] | None
    exact: NDArray[np.bool_]
    by_imgaug: tuple[str, ...]
