"""kill -9 of each part of the service under a steady load: the SDK loses nothing, and the service heals by itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from drills.known import Known, known_digits
from drills.outcome import Outcome, unless
from drills.service import Service, service
from drills.traffic import Plan, Record, between, counts, latency_ms, longest_gap_s, traffic

TIMES = 10
_REST_S, _PATIENCE_S, _POLL_S = 1.0, 60.0, 0.02
_SURE = 5  # looks in a row that find the service whole
_RATE, _CONNECTIONS, _IMAGES = 40.0, 4, 8
PROMISE = "killed under load, SDK clients lose nothing and get no wrong answer, and it heals by itself"

PARTS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "classifier": ("A classifier replica", lambda command: "ServeReplica:stn:Classifier" in command),
    "rectifier": ("A rectifier replica, which speaks HTTP", lambda command: "ServeReplica:stn:Rectifier" in command),
    "haproxy": ("The HTTP front (HAProxy)", lambda command: command.endswith(".cfg") or "haproxy.cfg" in command),
    "manager": ("Ray's actor for the front", lambda command: command.startswith(("ray::Front", "ray::HAProxyManager"))),
    "proxy": ("Ray's own proxy, the fallback", lambda command: command.startswith("ray::ProxyActor")),
}
"""Each part's name for people, and how the command of its process is known."""


def drill() -> Iterator[Outcome]:
    known = known_digits()
    with service("local") as one:
        for name in PARTS:
            yield _killed_again_and_again(one, name, known)


def _killed_again_and_again(one: Service, name: str, known: Known) -> Outcome:
    title, is_it = PARTS[name]
    whole_s: list[float] = []
    begun_s: list[float] = []
    with traffic(Plan(one.port, connections=_CONNECTIONS, images=_IMAGES, rate=_RATE), known) as load:
        time.sleep(_REST_S)
        for _ in range(TIMES):
            begun_s.append(time.time())
            whole_s.append(_kill_and_wait(one, is_it))
            time.sleep(_REST_S)
    return outcome(title, load.records, begun_s, whole_s)


def _kill_and_wait(one: Service, is_it: Callable[[str], bool]) -> float:
    """The seconds until there were as many such processes as before, all of them new, and the service was ready."""
    doomed = {pid for pid, command in one.commands().items() if is_it(command)}
    if not doomed:
        raise RuntimeError("expected a process to kill, found none")
    started_s = time.monotonic()
    for pid in doomed:
        one.kill(pid)
    in_a_row, whole_s = 0, 0.0
    while in_a_row < _SURE:
        if time.monotonic() - started_s > _PATIENCE_S:
            return float("inf")
        there = {pid for pid, command in one.commands().items() if is_it(command)}
        if len(there) >= len(doomed) and not there & doomed and one.is_ready():
            whole_s = whole_s if in_a_row else time.monotonic() - started_s
            in_a_row += 1
        else:
            in_a_row = 0
        time.sleep(_POLL_S)
    return whole_s


def outcome(title: str, records: list[Record], begun_s: list[float], whole_s: list[float]) -> Outcome:
    """What came of a part that was killed at ``begun_s`` and whole again ``whole_s`` later."""
    found = counts(records)
    gaps_s = [
        longest_gap_s(between(records, start, start + min(whole, _PATIENCE_S) + _REST_S))
        for start, whole in zip(begun_s, whole_s, strict=True)
    ]
    figures: dict[str, Any] = {
        "kills": len(whole_s),
        "rate_per_s": _RATE,
        "images_a_request": _IMAGES,
        "whole_again_median_s": statistics.median(whole_s),
        "whole_again_worst_s": max(whole_s),
        "no_answer_median_s": statistics.median(gaps_s),
        "no_answer_worst_s": max(gaps_s),
        "latency_p50_ms": latency_ms(records, 50),
        "latency_worst_ms": latency_ms(records, 100),
        "whole_again_s": [round(value, 2) for value in whole_s],
        "errors": sorted({f"{record.status} {record.said}" for record in records if record.verdict != "right"})[:20],
    }
    return Outcome(
        f"Death: {title}",
        PROMISE,
        found,
        figures,
        unless(
            (found.right == found.sent, f"{found.sent - found.right} of {found.sent} calls were not answered right"),
            (max(whole_s) < _PATIENCE_S, f"it was not whole again within {_PATIENCE_S:g} s"),
        ),
        f"killed {len(whole_s)} times; whole again after {_told(whole_s)}, meanwhile no answer for {_told(gaps_s)}",
    )


def _told(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s (worst {max(seconds):.1f} s)"
