"""Half an hour of mixed traffic: nothing grows, neither memory nor file descriptors nor latency.

    make drills PARTS=soak                  30 minutes; SOAK_S=120 for others

Every kind of request comes at a steady rate: the models, binary and JSON, PNG files, gRPC, and bad ones. Memory
and descriptors of all processes are looked at every 10 s; of the latency, the median of each such time. The first
fifth is left out: caches fill and allocators learn. A line is fitted to the rest, and its slope held against its
standard error, in which samples that are like their neighbours count for less.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from statistics import median
from time import sleep
from typing import Any

from drills.known import known_digits
from drills.outcome import Outcome, Verdict, unless
from drills.service import service
from drills.traffic import Record, between, counts, latency_ms, process_load
from drills.watch import Sample, Slope, Watch
from services.processes import free_ports

SOAK_S = float(os.environ.get("SOAK_S", "1800"))
RATE, EVERY_S, WARM_UP_SHARE = 30.0, 10.0, 0.2
ERRORS, MOST_AN_HOUR = 2.0, 0.02
"""Growth is noise if it is less than so many standard errors, or less than this share of the level an hour."""


def drill() -> Iterator[Outcome]:
    known = known_digits()
    (grpc_port,) = free_ports(1)
    with service("local", options=(f"--grpc-port={grpc_port}",)) as running:
        told = {"port": running.port, "grpc_port": grpc_port, "rate": RATE}
        with process_load("drills.mixed", told, known) as load, Watch(running, EVERY_S) as watch:
            sleep(SOAK_S)
            load_average = os.getloadavg()[2]
            records = load.stop()
    yield _outcome(records, watch.samples, load_average)


def _outcome(records: list[Record], samples: list[Sample], load_average: float) -> Outcome:
    kept = samples[int(WARM_UP_SHARE * len(samples)) :]
    latency = _latency(records, [sample.at_s for sample in kept])
    series: dict[str, tuple[list[float], list[float]]] = {
        "memory_mb": ([s.at_s for s in kept], [s.memory_bytes / 1e6 for s in kept]),
        "descriptors": ([s.at_s for s in kept], [float(s.descriptors) for s in kept]),
        "latency_p50_ms": (list(latency), list(latency.values())),
    }
    slopes = {name: Slope.of(*one) for name, one in series.items()}
    levels = {name: median(values) for name, (_, values) in series.items()}
    seen = counts(records)
    kinds = Counter(record.said.partition(":")[0] for record in records)
    figures: dict[str, Any] = {
        "soak_s": records[-1].at_s - samples[0].at_s,
        "load_average_15_min": load_average,
        "latency_p99_ms": latency_ms(records, 99),
        **{f"{name}_level": level for name, level in levels.items()},
        **{f"{name}_slope_an_hour": slope.an_hour for name, slope in slopes.items()},
        **{f"{name}_slope_error": slope.error for name, slope in slopes.items()},
        "kinds": dict(kinds),
        "series": {
            name: {"at_s": [round(t - samples[0].at_s, 1) for t in at], "values": [round(v, 2) for v in values]}
            for name, (at, values) in series.items()
        },
    }
    bad = [record.said for record in records if record.verdict in (Verdict.WRONG, Verdict.LOST)]
    return Outcome(
        "Soak",
        f"in {SOAK_S / 60:g} min of mixed traffic neither memory nor file descriptors nor latency grow beyond noise",
        seen,
        figures,
        unless(
            (seen.right == seen.sent, f"{seen.sent - seen.right} requests not answered right: {bad[:2]}"),
            *(
                (_is_noise(slope, levels[name]), f"{name} grows by {slope}, from {levels[name]:.0f}")
                for name, slope in slopes.items()
            ),
        ),
        ", ".join(f"{name} {levels[name]:.0f}, {slope}" for name, slope in slopes.items())
        + f"; load average {load_average:.1f}",
    )


def _is_noise(slope: Slope, level: float) -> bool:
    return slope.an_hour <= max(ERRORS * slope.error, MOST_AN_HOUR * level)


def _latency(records: list[Record], at_s: list[float]) -> dict[float, float]:
    """The median of the time before each of ``at_s``, of those in which there was an answer."""
    found = {}
    for end_s in at_s:
        of_it = [r for r in between(records, end_s - EVERY_S, end_s) if r.verdict == Verdict.RIGHT]
        if of_it:
            found[end_s] = latency_ms(of_it, 50)
    return found
