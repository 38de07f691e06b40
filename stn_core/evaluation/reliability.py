"""How far a confidence can be trusted: against what came true, over many images. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """For bins of equally many images, from the least confidence to the highest: the mean ``confidence`` and the
    ``share`` that came true, ``[B]`` each; and the ``error``, the mean of their distance over all images (ECE).
    """

    confidence: Floats
    share: Floats
    error: float


def reliability(confidence: NDArray[Any], happened: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """The reliability of ``confidence [N]``, given what ``happened [N]``; with fewer images than bins, of as many."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    means = np.array([confidence[part].mean() for part in parts], np.float64)
    shares = np.array([happened[part].mean() for part in parts], np.float64)
    sizes = np.array([len(part) for part in parts])
    error = float(np.sum(np.abs(means - shares) * sizes) / len(order)) if len(order) else float("nan")
    return Reliability(means, shares, error)


def auc(score: NDArray[Any], happened: NDArray[np.bool_]) -> float:
    """How probably the score of what happened is above that of what did not (a tie is half); NaN if all did or none."""
    yes = int(happened.sum())
    no = len(happened) - yes
    if not yes or not no:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][happened].sum() - yes * (yes + 1) / 2) / (yes * no))
