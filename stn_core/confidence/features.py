"""What of one image tells how sure its rectification is."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stn_core.motion import Motion

Evidence = Literal["theta", "reading"]
"""What a confidence rests on: theta, a second look and the image; or beside them what the classifier reads in both."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

THETA_FEATURES = (
    "log_left_px",
    "log_moved_px",
    "log_scale",
    "turn_rad",
    "shear_rad",
    "shift_px",
    "content_lost",
    "crispness",
    "roughness",
)
READING_FEATURES = ("log_odds_rectified", "log_odds_kept", "agree")
FEATURES: dict[Evidence, tuple[str, ...]] = {
    "theta": THETA_FEATURES,
    "reading": (*THETA_FEATURES, *READING_FEATURES),
}

Floats = NDArray[np.float64]


def theta_features(motion: Motion, left_px: NDArray[Any], content_kept: NDArray[Any], mass: NDArray[Any]) -> Floats:
    """The features ``[N, 9]`` of ``THETA_FEATURES``; not finite where theta is singular.

    ``left_px [N]``: how far a second look at the rectified image would move it; ``mass [N, H, W]``: that of the image
    as it came (``coverage.mass``). Crispness is the mean of the mass, weighted by itself; roughness the sum of the
    differences between neighbours, over the sum of the mass. They tell of blur, of noise and of empty images.
    """
    total = np.maximum(_sums(mass), 1e-6)
    steps = _sums(np.abs(mass[:, 1:] - mass[:, :-1])) + _sums(np.abs(mass[:, :, 1:] - mass[:, :, :-1]))
    with np.errstate(all="ignore"):  # of singular thetas
        columns = (
            np.log(left_px + 0.1),
            np.log(motion.moved_px + 0.1),
            np.log(motion.scale),
            np.radians(motion.turn_deg),
            np.radians(motion.shear_deg),
            motion.shift_px,
            1 - np.minimum(content_kept, 1),
            _sums(mass * mass) / total,
            steps / total,
        )
    return np.stack(columns, axis=1, dtype=np.float64)


def reading_features(rectified: NDArray[Any], kept: NDArray[Any]) -> Floats:
    """The features ``[N, 3]`` of ``READING_FEATURES``, of the classifier's probabilities ``[N, K]`` for both images."""
    agree = rectified.argmax(axis=1) == kept.argmax(axis=1)
    return np.stack([_log_odds(rectified), _log_odds(kept), agree], axis=1, dtype=np.float64)


def _log_odds(probabilities: NDArray[Any]) -> Floats:
    """Of the likeliest class; a thousandth on either side keeps them within 7."""
    top = probabilities.max(axis=1).astype(np.float64)
    return np.asarray(np.log((top + 1e-3) / (1 - top + 1e-3)))


def _sums(images: NDArray[Any]) -> NDArray[Any]:
    count, height, width = images.shape
    return np.asarray(images.reshape(count, height * width).sum(axis=1))
