"""Augmenting 1,024 real digits (28x28x1, uint8) by the tutorial's recipe: time an image, ours and imgaug's.

    make bench PARTS=augment

Both draw afresh for each image. Ours gives the exact theta of each image too, and its inverse.
"""

from __future__ import annotations

from typing import Any

from contest import Contestant, Lane, compete, contestants
from report import Comparison, results, show

SIDE = Contestant("cases_ours_augment", of_peers=False)
DEFAULTS = {"rounds": 15, "seconds": 1.0}
LANES = [Lane(case, SIDE, case) for case in ("ours", "imgaug")]
COMPARISONS = [Comparison("ours", "imgaug", 8.0)]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time an image."""
    with contestants([SIDE]) as processes:
        part = results(compete(LANES, processes, rounds, seconds), COMPARISONS)
    show("Augment", part)
    return part
