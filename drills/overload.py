"""Ten times what the service can answer: it refuses the rest at once, keeps answering, and forgets it when it is over.

    make drills PARTS=overload              60 s of overload; OVERLOAD_S=20 for others

The most that it answers is measured first, in closed loops of few connections and of more, and its usual latency at a
third of that. Then requests fall due at ten times that rate whether or not it keeps up, and none is sent twice; beside
them a few callers use the SDK, which comes again when it is told to. At last the third again, to see how soon it is as
quick as before. The service has half of the cores and the load the other half: clients bring machines of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from drills.known import Known, known_digits
from drills.outcome import Outcome, Verdict, unless
from drills.service import Service, service
from drills.traffic import Plan, Record, between, counts, latency_ms, right_per_s, traffic
from drills.watch import Watch

OVERLOAD_S = float(os.environ.get("OVERLOAD_S", "60"))
TIMES, SHARE = 10.0, 1 / 3
IMAGES, CONNECTIONS, OPEN_CONNECTIONS, SDK_CALLERS = 64, 8, 256, 4
LEAST_TIMES, LEAST_SHARE = 0.8 * TIMES, 0.8
RECOVERED_S, RECOVERED_TIMES = 5.0, 2.0
MOST_ADDED_MB = 600.0
"""The queues hold 256 MiB of images at most, the bodies under way 256 MiB; and what it costs to hold them."""
_WARM_UP_S = 2.0


@dataclass(frozen=True)
class _Found:
    """The records of each phase."""

    best_per_s: float
    usual: list[Record]
    rush: list[Record]
    calls: list[Record]
    after: list[Record]
    begin_s: float
    end_s: float
    before_bytes: int
    peak_bytes: int


def drill() -> Iterator[Outcome]:
    known = known_digits()
    cores = sorted(os.sched_getaffinity(0))
    ours, theirs = cores[len(cores) // 2 :], cores[: len(cores) // 2] or cores
    try:
        os.sched_setaffinity(0, ours)  # and with this process all loads, which it starts
        with service("local", cores=theirs) as running:
            found = _find(running, known)
    finally:
        os.sched_setaffinity(0, cores)
    yield _of_the_service(found)
    yield _of_the_sdk(found)


def _find(running: Service, known: Known) -> _Found:
    closed = Plan(running.port, "http", CONNECTIONS, IMAGES)
    best_per_s = max(_rate(replace(closed, connections=count), known) for count in (CONNECTIONS, 4 * CONNECTIONS))
    share = replace(closed, connections=64, rate=SHARE * best_per_s)
    usual = _run(replace(share, seconds=8.0), known)
    before_bytes = running.memory_bytes()
    rush = replace(closed, connections=OPEN_CONNECTIONS, rate=TIMES * best_per_s)
    with traffic(Plan(running.port, "sdk", SDK_CALLERS, IMAGES), known) as calls:
        with Watch(running) as watch, traffic(rush, known) as load:
            begin_s = time.time() + _WARM_UP_S
            time.sleep(_WARM_UP_S + OVERLOAD_S)
            end_s = time.time()
            calls.end()
            load.stop()
        after = _run(replace(share, seconds=2 * RECOVERED_S), known)
        calls.stop()
    peak_bytes = watch.peak_bytes
    return _Found(best_per_s, usual, load.records, calls.records, after, begin_s, end_s, before_bytes, peak_bytes)


def _of_the_service(found: _Found) -> Outcome:
    steady = between(found.rush, found.begin_s, found.end_s)
    seconds = found.end_s - found.begin_s
    refused_ms = [1e3 * record.latency_s for record in steady if record.verdict == Verdict.REFUSED]
    usual_ms, added_mb = latency_ms(found.usual, 99), (found.peak_bytes - found.before_bytes) / 1e6
    seen = counts(found.rush)
    offered, answered = len(steady) / seconds / found.best_per_s, right_share(found)
    recovered_s = _recovered_s(found.after, found.end_s, RECOVERED_TIMES * usual_ms)
    figures = {
        "overload_s": seconds,
        "best_images_per_s": IMAGES * found.best_per_s,
        "offered_times_best": offered,
        "answered_share_of_best": answered,
        "answered_p50_ms": latency_ms(steady, 50),
        "answered_p99_ms": latency_ms(steady, 99),
        "refused_p50_ms": float(np.median(refused_ms)) if refused_ms else None,
        "usual_p50_ms": latency_ms(found.usual, 50),
        "usual_p99_ms": usual_ms,
        "after_p99_ms": latency_ms(between(found.after, found.end_s + RECOVERED_S, np.inf), 99),
        "recovered_s": recovered_s,
        "memory_before_mb": found.before_bytes / 1e6,
        "memory_peak_mb": found.peak_bytes / 1e6,
    }
    refused = figures["refused_p50_ms"] or 0
    return Outcome(
        "Overload",
        f"at {TIMES:g} times its capacity for {OVERLOAD_S:g} s the service refuses with 503 and `Retry-After`, answers "
        f"at least {LEAST_SHARE:.0%} of its best rate, holds at most {MOST_ADDED_MB:.0f} MB more, and is as quick as "
        f"before within {RECOVERED_S:g} s",
        seen,
        figures,
        unless(
            (offered >= LEAST_TIMES, f"the load offered {offered:.1f} times the best rate only"),
            (seen.wrong == seen.lost == 0, f"{seen.wrong} wrong, {seen.lost} lost: {_said(found.rush)}"),
            (answered >= LEAST_SHARE, f"answered {answered:.0%} of the best rate"),
            (added_mb <= MOST_ADDED_MB, f"held {added_mb:.0f} MB more"),
            (recovered_s <= RECOVERED_S, f"slow until {recovered_s:.1f} s after"),
        ),
        f"{IMAGES * found.best_per_s:,.0f} images/s at best; at {offered:.1f} times that {answered:.0%} of them, "
        f"refusals in {refused:.0f} ms, {added_mb:.0f} MB more; quick again after {recovered_s:.1f} s",
    )


def _of_the_sdk(found: _Found) -> Outcome:
    seen = counts(found.calls)
    slowest_s = max((record.latency_s for record in found.calls), default=0.0)
    return Outcome(
        "Overload, by the SDK",
        "in the same overload each image that is sent by the SDK is answered in the end",
        seen,
        {"slowest_call_s": slowest_s, "calls_p50_ms": latency_ms(found.calls, 50)},
        unless((seen.right == seen.sent > 0, f"{seen.sent - seen.right} of {seen.sent} calls: {_said(found.calls)}")),
        f"the slowest call took {slowest_s:.1f} s",
    )


def right_share(found: _Found) -> float:
    """Of the best rate, all callers together."""
    return sum(right_per_s(one, found.begin_s, found.end_s) for one in (found.rush, found.calls)) / found.best_per_s


def _run(plan: Plan, known: Known) -> list[Record]:
    with traffic(plan, known) as load:
        return load.wait()


def _rate(plan: Plan, known: Known) -> float:
    """Requests a second of a closed loop."""
    with traffic(plan, known) as load:
        time.sleep(_WARM_UP_S + 8)
        now_s = time.time()
    return right_per_s(load.records, now_s - 8, now_s)


def _recovered_s(records: list[Record], end_s: float, most_ms: float) -> float:
    """How long after ``end_s`` it was until 99 of 100 requests, of any second, were answered within ``most_ms``."""
    last_s = max((record.at_s for record in records), default=end_s)
    for second in np.arange(0.0, last_s - end_s - 1, 0.25)[::-1]:
        of_it = between(records, end_s + second, end_s + second + 1)
        slow = sum(record.verdict != Verdict.RIGHT or 1e3 * record.latency_s > most_ms for record in of_it)
        if slow > 0.05 * len(of_it):
            return float(second + 1)
    return 0.0


def _said(records: list[Record]) -> str:
    """What was said of the first request that was neither answered right nor refused."""
    return next((f"{r.status} {r.said}" for r in records if r.verdict not in (Verdict.RIGHT, Verdict.REFUSED)), "")
