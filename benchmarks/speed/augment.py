"""Augmenting 1,024 real digits (28x28x1, uint8) by the tutorial's recipe: time an image, ours and imgaug's.

    make bench PARTS=augment

All draw afresh for each image. Ours gives the exact theta of each image too, and its inverse; once in process, and once
through the service, asked for all digits at a time over a few connections.
"""

from __future__ import annotations

from typing import Any

from cases_ours_augment import IMAGES, digits
from contest import Contestant, Lane, compete, contestants
from inputs import SEED
from load import Plan, load
from report import Comparison, results, show
from servers import service, v2_request

SIDE = Contestant("cases_ours_augment", of_peers=False)
DEFAULTS = {"rounds": 15, "seconds": 1.0}
LANES = [Lane(case, SIDE, case) for case in ("ours", "imgaug")]
SERVED, CONNECTIONS = "ours over HTTP", 4
COMPARISONS = [Comparison("ours", "imgaug"), Comparison(SERVED, "imgaug", 8.0)]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time an image."""
    outputs = ("images", "theta", "theta_rectifying", "exact")
    request = v2_request("augment", {"images": digits()}, outputs, {"recipe": "tutorial-mix", "seed": SEED})
    found: dict[str, list[float]] = {lane.name: [] for lane in LANES} | {SERVED: []}
    with contestants([SIDE]) as processes, service("embedded") as running:
        plan = Plan(running.port, CONNECTIONS, 2 * seconds, IMAGES)
        for _ in range(rounds):
            for name, us in compete(LANES, processes, 1, seconds).items():
                found[name] += us
            found[SERVED].append(1e6 / load(request, plan)["images_s"])
    part = results(found, COMPARISONS)
    show("Augment", part)
    return part
