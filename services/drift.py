"""How the images that come differ from straight ones, as the network sees it: sums, of which dashboards make means.

A mean that moves away from that of yesterday tells of a camera that was turned, or of other senders.
"""

import numpy as np

from services.batching import Array
from stn_core.geometry import affine_fits
from stn_core.motion import MIDDLE
from stn_core.transforms import map_points

MEASURES = ("rotation_deg", "log_scale", "shift")
"""Degrees clockwise; the natural logarithm of the scale; the centre's distance from the middle, in half sides."""

_MOST_PENDING = 4096


class Drift:
    """Sums of what thetas say. ``add`` only keeps them: many at once cost little, one by one they cost much."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(MEASURES, 0.0)
        self._count = self._pending_images = 0
        self._pending: list[Array] = []

    def add(self, theta: Array) -> None:
        """``theta [N, ...]``, of any family, as predicted: it takes points of straight images to those that came."""
        self._pending.append(theta)
        self._pending_images += len(theta)
        if self._pending_images >= _MOST_PENDING:
            self._sum_up()

    def sums(self) -> dict[str, list[float]]:
        """The sum and the number of images of each measure."""
        if self._pending:
            self._sum_up()
        return {name: [total, float(self._count)] for name, total in self._sums.items()}

    def _sum_up(self) -> None:
        measured = measures(np.concatenate(self._pending))
        self._pending, self._pending_images = [], 0
        self._count += measured.shape[1]
        for name, total in zip(MEASURES, measured.sum(axis=1), strict=True):
            self._sums[name] += float(total)


def measures(theta: Array) -> Array:
    """MEASURES ``[3, M]`` of those of ``theta [N, ...]`` that have them; in the image's own coordinates, -1 to 1."""
    theta = np.asarray(theta, np.float64)
    theta = theta[np.isfinite(theta).all(axis=(1, 2))]
    with np.errstate(all="ignore"):  # what is singular is left out
        nearest = theta if theta.shape[1:] == (2, 3) else affine_fits(MIDDLE, map_points(theta, MIDDLE))
        (a, b, x), (d, e, y) = np.moveaxis(nearest, 0, 2)
        found = np.stack(
            [np.degrees(np.arctan2(d - b, a + e)), np.log(np.abs(a * e - b * d)) / 2, np.hypot(x, y)],
        )
    return np.asarray(found[:, np.isfinite(found).all(axis=0)])
