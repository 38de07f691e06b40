"""What the service answers: one frozen dataclass a model, with arrays that are the caller's own, ``N`` rows each.

``rectified`` and ``images`` come as the images went: in their datatype, and without a channel axis if they had none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """``label [N]``, ``probabilities [N, K]``, and the ``theta [N, 2, 3]`` that made ``rectified`` from the image."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float32]
    rectified: NDArray[Any]


@dataclass(frozen=True)
class Rectification:
    """``rectified`` images, and the ``theta [N, 2, 3]`` that made each: ``rectified(u) = image(theta u)``."""

    rectified: NDArray[Any]
    theta: NDArray[np.float32]


@dataclass(frozen=True)
class Classification:
    """``label [N]`` and ``probabilities [N, K]`` of the images as they are."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """Distorted ``images``, and what was done to each: ``distorted(u) = original(theta u)``, ``theta [N, 2, 3]``.

    ``theta_rectifying`` is its inverse and straightens them. Both are exact where ``affine [N]`` is true; where it is
    false, a step that is not affine moved pixels too.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64]
    affine: NDArray[np.bool_]
