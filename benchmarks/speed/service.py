"""The service over HTTP beside other servers of the same networks, and beside the engine without any server.

    make bench PARTS=service

Digits in uint8, answered by labels and probabilities; each server is started anew in every round, has the machine to
itself, and must first answer with the engine's own labels. Loads are called IMAGES x CONNECTIONS, each connection with
one request of so many images outstanding. FastAPI runs the model for each request, LitServe, BentoML and ours join
requests to batches. Ours is at last asked for 70 % of the requests that it answered at most (1 x 32), at a fixed rate.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from load import Plan, ask, load
from report import Comparison, results, show
from servers import SERVERS, Images, Running, Server

from stn_core.datasets import sample_digits
from stn_core.engine import Engine

Found = defaultdict[str, list[float]]
Figures = defaultdict[str, list[dict[str, float]]]


class Load(NamedTuple):
    images: int
    connections: int

    def __str__(self) -> str:
        return f"{self.images} x {self.connections}"


DEFAULTS = {"rounds": 5, "seconds": 5.0}
LOADS = (Load(1, 1), Load(1, 32), Load(64, 8))
OURS, PEERS = ("embedded", "local"), ("FastAPI", "LitServe", "BentoML")
BATCH, ENGINE_CALLERS = 64, 2
SHARE_OF_BEST, OPEN_CONNECTIONS = 0.7, 64
ENGINE = f"engine in process, {BATCH}"
AT_SHARE = "at 70 %"

COMPARISONS = [
    Comparison("embedded 1 x 32", "FastAPI 1 x 32", 1.0),
    Comparison("embedded 1 x 32", "LitServe 1 x 32", 3.5),
    Comparison("embedded 1 x 32", "BentoML 1 x 32"),
    Comparison("embedded 64 x 8", "FastAPI 64 x 8"),
    Comparison("embedded 64 x 8", ENGINE, 0.85),
    Comparison("embedded 1 x 1 p50", "FastAPI 1 x 1 p50", 1 / 2),
    Comparison("local 1 x 1 p50", "FastAPI 1 x 1 p50"),
    Comparison("local 1 x 32", "embedded 1 x 32", 0.85),
    Comparison("local 64 x 8", "embedded 64 x 8", 0.85),
    *[Comparison(f"{name} {AT_SHARE} p99", f"{name} {AT_SHARE} p50", 1 / 5) for name in OURS],
]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds an image of every server and load, latencies, and what they are beside one another."""
    found: Found = defaultdict(list)
    figures: Figures = defaultdict(list)
    left_out: dict[str, str] = {}
    names = (*OURS, *PEERS)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name not in left_out:
                try:
                    _round_of(name, seconds, found, figures)
                except RuntimeError as error:
                    if name in OURS:
                        raise
                    left_out[name] = str(error)
        found[ENGINE].append(_engine_us(seconds))
    compared = [one for one in COMPARISONS if one.ours in found and one.theirs in found]
    part = results(found, compared)
    show("Service", part)
    for name, why in left_out.items():
        print(f"  {name} is left out: {why}")
    return {**part, "loads": {name: _middle(each) for name, each in figures.items()}, "left_out": left_out}


def _round_of(name: str, seconds: float, found: Found, figures: Figures) -> None:
    """Starts a server, puts all loads on it one after another, and ends it."""
    server = SERVERS[name]
    with server.start() as running:
        _check(server, running)
        for one in LOADS:
            request = server.request(_digits()[: one.images])
            told = load(request, Plan(running.port, one.connections, seconds, one.images))
            found[f"{name} {one}"].append(1e6 / told["images_s"])
            figures[f"{name} {one}"].append(told)
        found[f"{name} {LOADS[0]} p50"].append(1e3 * figures[f"{name} {LOADS[0]}"][-1]["p50_ms"])
        if name in OURS:
            best = max(figures[f"{name} {one}"][-1]["requests_s"] for one in LOADS)
            plan = Plan(running.port, OPEN_CONNECTIONS, seconds, rate=SHARE_OF_BEST * best)
            told = load(server.request(_digits()[:1]), plan)
            figures[f"{name} {AT_SHARE}"].append(told)
            for percentile in ("p50", "p99"):
                found[f"{name} {AT_SHARE} {percentile}"].append(1e3 * told[f"{percentile}_ms"])


def _check(server: Server, running: Running) -> None:
    """RuntimeError unless the server answers as the engine does."""
    images = _digits()
    status, headers, body = ask(running.port, server.request(images))
    expected = _engine(1).classify(_engine(1).rectify(images)[0])[0]
    if status != 200 or (server.labels(headers, body) != expected).any():
        raise RuntimeError(f"expected the engine's labels, got status {status} and {body[:200]!r}")


def _engine_us(seconds: float) -> float:
    """Microseconds an image in batches of 64: two callers with a thread each, or one with two, whichever is faster."""
    return min(_called_us(callers, ENGINE_CALLERS // callers, seconds / 2) for callers in (1, ENGINE_CALLERS))


def _called_us(callers: int, threads: int, seconds: float) -> float:
    engine, images = _engine(threads), _digits()
    started_s = perf_counter()

    def run(_: int) -> int:
        batches = 0
        while perf_counter() - started_s < seconds:
            engine.classify(engine.rectify(images)[0])
            batches += 1
        return batches

    with ThreadPoolExecutor(callers) as pool:
        batches = sum(pool.map(run, range(callers)))
    return 1e6 * (perf_counter() - started_s) / (batches * BATCH)


@cache
def _engine(threads: int) -> Engine:
    engine = Engine.load("digits", threads=threads)
    engine.warm_up()
    return engine


@cache
def _digits() -> Images:
    images: Images = np.ascontiguousarray(sample_digits().images[::70][:BATCH])
    return images


def _middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}
