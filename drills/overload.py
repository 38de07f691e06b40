"""Ten times what the service can answer: it refuses the rest at once, keeps answering, and forgets it when it is over.

    make drills PARTS=overload              60 s of overload, OVERLOAD_S=20 for others

The most that it answers is measured first (closed loop), and its usual latency at a third of that. Then requests fall
due at ten times that rate whether or not it keeps up, and none is sent twice; beside them a few callers use the SDK,
which comes again when it is told to. At last the third again, to see how soon it is as quick as before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from drills.known import Known, known_digits
from drills.outcome import Outcome, Verdict
from drills.service import Service, service
from drills.traffic import Plan, Record, between, counts, latency_ms, right_per_s, traffic

OVERLOAD_S = float(os.environ.get("OVERLOAD_S", "60"))
TIMES, SHARE = 10.0, 1 / 3
IMAGES, CONNECTIONS, OPEN_CONNECTIONS, SDK_CALLERS = 64, 16, 512, 4
LEAST_SHARE, RECOVERED_S, RECOVERED_TIMES = 0.8, 5.0, 2.0
MOST_ADDED_MB = 600.0
"""The queues' limit (256 MiB of images) and the limit of bodies in flight (256 MiB), and what holding them costs."""


def drill() -> Iterator[Outcome]:
    known = known_digits()
    with service("local") as running:
        yield from _overloaded(running, known)


def _overloaded(running: Service, known: Known) -> Iterator[Outcome]:
    closed = Plan(running.port, "http", CONNECTIONS, IMAGES)
    best_per_s = _rate(closed, known)
    share = replace(closed, connections=64, rate=SHARE * best_per_s)
    usual = _run(replace(share, seconds=6.0), known)[10:]
    usual_ms, before_bytes = latency_ms(usual, 99), running.memory_bytes()
    rush = replace(closed, connections=OPEN_CONNECTIONS, rate=TIMES * best_per_s)
    with traffic(Plan(running.port, "sdk", SDK_CALLERS, IMAGES), known) as calls:
        begin_s = time.time()
        with traffic(rush, known) as load, _Peak(running) as peak:
            time.sleep(OVERLOAD_S)
            end_s = time.time()
        after = _run(replace(share, seconds=2 * RECOVERED_S), known)
    records = load.records
    steady = between(records, begin_s + 2, end_s)
    answered_share = right_per_s(records, begin_s + 2, end_s) / best_per_s
    recovered_s = _recovered_s(after, end_s, RECOVERED_TIMES * usual_ms)
    figures = {
        "best_images_per_s": IMAGES * best_per_s,
        "offered_times_best": len(steady) / (end_s - begin_s - 2) / best_per_s,
        "answered_share_of_best": answered_share,
        "answered_p50_ms": latency_ms(steady, 50),
        "answered_p99_ms": latency_ms(steady, 99),
        "refused_p50_ms": 1e3 * sorted(r.latency_s for r in steady if r.verdict == Verdict.REFUSED)[len(steady) // 3]
        if sum(r.verdict == Verdict.REFUSED for r in steady) > len(steady) // 3
        else None,
        "usual_p50_ms": latency_ms(usual, 50),
        "usual_p99_ms": usual_ms,
        "recovered_s": recovered_s,
        "memory_before_mb": before_bytes / 1e6,
        "memory_Peak_mb": peak[0] / 1e6,
        "memory_after_mb": running.memory_bytes() / 1e6,
        "overload_s": end_s - begin_s,
    }
    for name, value in figures.items():
        print("  ", name, value)
    seen = counts(records)
    print(seen, {(r.status, r.said) for r in records if r.verdict == Verdict.LOST}, counts(calls.records))
    yield Outcome("Overload", "", seen, figures)


def _run(plan: Plan, known: Known) -> list[Record]:
    with traffic(plan, known) as load:
        return load.wait()


def _rate(plan: Plan, known: Known) -> float:
    """Requests a second of a closed loop."""
    with traffic(plan, known) as load:
        time.sleep(10)
        now_s = time.time()
    return right_per_s(load.records, now_s - 8, now_s)


def _recovered_s(records: list[Record], end_s: float, most_ms: float) -> float:
    """How long after ``end_s`` the last request ended that was slow or not answered."""
    slow = [r.at_s for r in records if r.verdict != Verdict.RIGHT or 1e3 * r.latency_s > most_ms]
    return max(slow, default=end_s) - end_s


class _Peak:
    """The most memory that the service held while the block ran."""

    def __init__(self, running: Service) -> None:
        self._running, self._over, self._found = running, threading.Event(), [0]

    def __enter__(self) -> list[int]:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self._found

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(1.0):
            self._found[0] = max(self._found[0], self._running.memory_bytes())
