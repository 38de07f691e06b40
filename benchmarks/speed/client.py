"""The Python client beside the raw load generator: images a second for requests of the same size, and its memory.

    make bench PARTS=client

Each way of giving 100,000 digits to ``predict``, of which all outputs come back, runs in a process of its own, in turn
with the load generator; both have requests of so many images, so many of them in flight (IMAGES x CONNECTIONS). The
generator sends the same bytes again and again and looks at no answer, so it is the most that the service gives.

Memory is the most that the client's process ever held, interpreter and libraries included, without the caller's own
images: the result of the call with an array counts, while a stream lets go of what was taken.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from calling import WAYS, call
from calling import Plan as CallPlan
from load import Plan, load
from report import Comparison, results, show
from rich import box
from rich.console import Console
from rich.table import Table
from servers import Images, service, v2_request

from stn_core.datasets import sample_digits

DEFAULTS = {"rounds": 5, "seconds": 5.0}
CONFIG, IMAGES, DIGITS = "embedded", 100_000, 5_000
OUTPUTS = ("label", "probabilities", "theta", "rectified")
SHARE, MOST_MB = 0.9, 200.0
GENERATOR = "load"


class Lane(NamedTuple):
    """A way to call the service, or the generator, with so many images in a request, and so many requests in flight."""

    way: str
    images: int
    connections: int

    @property
    def name(self) -> str:
        return f"{self.way} {self.images} x {self.connections}"


LANES = [
    *(Lane(way, 512, 4) for way in (GENERATOR, *WAYS)),
    *(Lane(way, 64, 8) for way in (GENERATOR, "array", "iterator")),
]
AIMED = (Lane("array", 512, 4), Lane("iterator", 512, 4))
COMPARISONS = [
    Comparison(lane.name, lane._replace(way=GENERATOR).name, SHARE if lane in AIMED else None)
    for lane in LANES
    if lane.way != GENERATOR
]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds an image of each way, how it compares with the generator's, and the memory of the process."""
    found: dict[str, list[float]] = defaultdict(list)
    told: dict[str, list[dict[str, float]]] = defaultdict(list)
    digits = np.ascontiguousarray(sample_digits().images[:DIGITS])
    with service(CONFIG) as running:
        for number in range(rounds):
            for lane in LANES[number % len(LANES) :] + LANES[: number % len(LANES)]:
                one = _measured(lane, digits, running.port, seconds)
                found[lane.name].append(1e6 / one["images_s"])
                if lane.way != GENERATOR:
                    told[lane.name].append(one)
    part = results(found, COMPARISONS)
    processes = {name: {key: median(one[key] for one in each) for key in each[0]} for name, each in told.items()}
    memory = {lane.name: {"most_mb": MOST_MB, "met": _memory_mb(processes[lane.name]) <= MOST_MB} for lane in AIMED}
    show("Python client", part)
    _show(processes)
    return {**part, "images": IMAGES, "processes": processes, "memory": memory}


def _measured(lane: Lane, digits: Images, port: int, seconds: float) -> dict[str, float]:
    if lane.way != GENERATOR:
        return call(digits, CallPlan(port, lane.way, IMAGES, lane.images, lane.connections))
    request = v2_request("predict", {"images": digits[: lane.images]}, OUTPUTS)
    return load(request, Plan(port, lane.connections, seconds, lane.images))


def _memory_mb(process: dict[str, float]) -> float:
    return process["peak_mb"] - process["images_mb"]


def _show(processes: dict[str, dict[str, float]]) -> None:
    title = f"The client's process, {IMAGES:,} images; to reach: at most {MOST_MB:.0f} MB"
    table = Table("way", "us of processor time an image", "MB", "of them by the call", title=title, box=box.SIMPLE)
    for name, one in processes.items():
        figures = (one["cpu_us_per_image"], _memory_mb(one), one["added_mb"])
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)
