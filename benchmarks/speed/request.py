"""Where the time of a request goes: processor time by process, and latency with and without the proxy.

    make bench PARTS=request

Processor time is what the kernel counted for every process of the service during a load, divided by the requests that
were answered; the load generator's is told too, as it shares the cores. The engine's own time is measured in process,
on as many images. Latency is that of one connection: to the service's port, to the replica's own behind the proxy, and
of the engine called directly.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from load import Plan, ask, http_request, load
from rich import box
from rich.console import Console
from rich.table import Table
from servers import SERVERS, Images, Running

from services.processes import descendants
from stn_core.datasets import sample_digits
from stn_core.engine import Engine

DEFAULTS = {"rounds": 3, "seconds": 4.0}
CONFIGS = ("embedded", "local")
LOADS = ((1, 1), (1, 32), (64, 8))
REPLICA_PORTS = range(30000, 30010)  # where Ray's replicas that speak HTTP listen
ROLES = ("Rectifier", "Classifier", "Service", "haproxy")
OTHERS, GENERATOR, ENGINE = "Ray's other processes", "load generator", "engine, in process"

Found = dict[str, list[float]]


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds of processor time a request, by process; and milliseconds of latency."""
    cpu: dict[str, Found] = defaultdict(lambda: defaultdict(list))
    latency: Found = defaultdict(list)
    for _ in range(rounds):
        for config in CONFIGS:
            with SERVERS[config].start() as running:
                for images, connections in LOADS:
                    lane = f"{config} {images} x {connections}"
                    for name, us in _processor_us(config, running, images, connections, seconds):
                        cpu[lane][name].append(us)
                latency[f"{config}, through the proxy"].append(_p50_ms(config, running.port, seconds))
                latency[f"{config}, without"].append(_p50_ms(config, _replica_port(), seconds))
        for images, _ in LOADS[1:]:
            us = _engine_us(images, seconds)
            for lane in (lane for lane in cpu if f" {images} x" in lane):
                cpu[lane][ENGINE].append(us)
        latency[ENGINE].append(_engine_us(1, seconds) / 1e3)
    by_lane = {lane: {name: median(each) for name, each in found.items()} for lane, found in cpu.items()}
    at_one = {name: median(each) for name, each in latency.items()}
    _show(by_lane, at_one)
    return {"processor_us_per_request": by_lane, "p50_ms": at_one}


def _processor_us(
    config: str, running: Running, images: int, connections: int, seconds: float
) -> Iterator[tuple[str, float]]:
    request = SERVERS[config].request(_digits(images))
    load(request, Plan(running.port, connections, seconds / 4, images))
    before = _processor_s()
    plan = Plan(running.port, connections, seconds, images, warm_up_s=0.0)
    told = load(request, plan)
    after = _processor_s()
    spent: dict[str, float] = defaultdict(float)
    for pid, (name, so_far_s) in after.items():
        spent[name] += so_far_s - before.get(pid, (name, 0.0))[1]
    for name, spent_s in spent.items():
        yield name, 1e6 * spent_s / told["answers"]
    yield GENERATOR, 1e6 * told["generator_cpu_share"] * seconds / told["answers"]


def _processor_s() -> dict[int, tuple[str, float]]:
    """The role of each descendant, and the seconds of processor time it has had."""
    found = {}
    for pid in descendants():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        role = next((role for role in ROLES if f":{role}" in command or f"/{role}" in command), OTHERS)
        found[pid] = role, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _p50_ms(config: str, port: int, seconds: float) -> float:
    return load(SERVERS[config].request(_digits(1)), Plan(port, 1, seconds))["p50_ms"]


def _replica_port() -> int:
    """Of the replica that speaks HTTP. RuntimeError if there is none: the service runs without HAProxy."""
    for port in REPLICA_PORTS:
        try:
            if ask(port, http_request("/v2", method="GET"))[0] == 200:
                return port
        except OSError:
            continue
    raise RuntimeError(f"expected a replica on one of the ports {REPLICA_PORTS[0]} to {REPLICA_PORTS[-1]}, found none")


def _engine_us(images: int, seconds: float) -> float:
    """Microseconds of one thread for a batch."""
    batch, run = _digits(images), _classifier()
    times, started_s = [], perf_counter()
    while perf_counter() - started_s < seconds / 2:
        before_s = perf_counter()
        run(batch)
        times.append(perf_counter() - before_s)
    return 1e6 * median(times)


@cache
def _classifier() -> Callable[[Images], Any]:
    engine = Engine.load("digits", threads=1)
    engine.warm_up()
    return lambda images: engine.classify(engine.rectify(images)[0])


@cache
def _digits(count: int) -> Images:
    images: Images = np.ascontiguousarray(sample_digits().images[::70][:count])
    return images


def _show(by_lane: dict[str, dict[str, float]], at_one: dict[str, float]) -> None:
    names = [*ROLES, OTHERS, GENERATOR, ENGINE]
    table = Table("us of processor time a request", *by_lane, title="Where the time goes", box=box.SIMPLE)
    for name in names:
        table.add_row(name, *(f"{lane[name]:,.0f}" if name in lane else "" for lane in by_lane.values()))
    latency = Table("one connection, one image", "p50, ms", box=box.SIMPLE)
    for name, ms in at_one.items():
        latency.add_row(name, f"{ms:.2f}")
    for one in (table, latency):
        Console().print(one)
