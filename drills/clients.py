"""Clients that are slow, or leave: a steady neighbour goes on unharmed, and nothing of theirs is kept.

    make drills PARTS=clients               10,000 that leave; LEAVERS=2000 for others

Beside a neighbour at a steady rate: connections by the hundred that say nothing, bodies that come byte by byte,
requests whose client leaves in the middle of its body, or before the answer. The service is given a budget that holds
the bytes of one large request alone: at the end such a one is answered, so that all of theirs was given back; the
number of descriptors and the memory are what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from stn_client import Client

from drills.known import known_digits
from drills.outcome import Counts, Outcome, Verdict, unless
from drills.service import HOST, Config, Service, service
from drills.traffic import Plan, Record, between, counts, latency_ms, traffic
from drills.traffic_process import request_of
from drills.watch import Sample, sample, settled
from stn_core.errors import StnError

LEAVERS = int(os.environ.get("LEAVERS", "10000"))
LEAVE_PER_S, IDLE, TRICKLERS = 150.0, 500, 200
BODY_TIMEOUT_S, ANSWER_S = 5.0, 3.0
NEIGHBOUR = {"connections": 4, "images": 16, "rate": 40.0}
ALONE_S, WARM_UP_LEAVERS = 10.0, 500
MOST_TIMES, MOST_ADDED_MB, MOST_ADDED_DESCRIPTORS = 2.0, 30.0, 10
BUDGET_BYTES = 32 * 1024 * 1024
LARGE = (40, 900, 900, 1)
"""An image batch of nearly as many bytes."""
_SETTLE_S = 60.0
_PARTING_S = 0.02
_METRICS_S = 20.0


@dataclass(frozen=True)
class _Seen:
    """What was seen of the service and of its impolite clients."""

    before: Sample
    held: Sample
    after: Sample
    ended_s: list[float]
    """How long each trickled body was taken, with the status 408 at its end."""
    bytes_in_flight: float
    queued_images: float
    """What the service's metrics say when nobody asks any more."""
    large: str
    """What was said against the large request; empty where it was answered."""
    alone: list[Record]
    beside: list[Record]
    then: list[Record]


def drill() -> Iterator[Outcome]:
    with service("local", _small_budget) as running:
        yield _outcome(*_put_to_the_test(running))


def _small_budget(config: Config) -> None:
    """A budget of one large request, so that one that is not given back is missed."""
    limits = config["applications"][0]["args"]["limits"]
    limits |= {"max_request_bytes": BUDGET_BYTES, "max_bytes_in_flight": BUDGET_BYTES, "body_timeout_s": BODY_TIMEOUT_S}


def _put_to_the_test(running: Service) -> tuple[_Seen, Counts]:
    known = known_digits()
    asyncio.run(_leave(running.port, WARM_UP_LEAVERS, request_of(known.images[:16])))
    with traffic(Plan(running.port, "http", **NEIGHBOUR), known) as load:  # type: ignore[arg-type]
        time.sleep(2.0)
        before, begin_s = sample(running), time.time()
        time.sleep(ALONE_S)
        beside_s = time.time()
        ended_s, held = asyncio.run(_be_impolite(running, request_of(known.images[:16])))
        then_s = time.time()
        time.sleep(ALONE_S)
        settled(running.descriptors, _SETTLE_S, before.descriptors)
        end_s = time.time()
        records = load.stop()
    in_flight, queued = (
        settled(partial(running.gauge, name), _METRICS_S, 0) for name in ("bytes_in_flight", "queued_images")
    )
    after, large = sample(running), _large(running)
    alone, beside, then = (
        between(records, *times) for times in ((begin_s, beside_s), (beside_s, then_s), (then_s, end_s))
    )
    return _Seen(before, held, after, ended_s, in_flight, queued, large, alone, beside, then), counts(records)


def _outcome(seen: _Seen, neighbour: Counts) -> Outcome:
    added_mb = (seen.after.memory_bytes - seen.before.memory_bytes) / 1e6
    added = seen.after.descriptors - seen.before.descriptors
    alone_ms, beside_ms, then_ms = (latency_ms(one, 50) for one in (seen.alone, seen.beside, seen.then))
    slowest_s = max(seen.ended_s, default=float("inf"))
    figures = {
        "leavers": LEAVERS,
        "idle_connections": IDLE,
        "trickled_bodies": TRICKLERS,
        "trickled_ended": len(seen.ended_s),
        "trickled_longest_s": slowest_s,
        **{
            f"neighbour_{name}_p{percentile}_ms": latency_ms(records, percentile)
            for name, records in (("alone", seen.alone), ("beside", seen.beside), ("then", seen.then))
            for percentile in (50, 99)
        },
        "descriptors_before": seen.before.descriptors,
        "descriptors_held": seen.held.descriptors,
        "descriptors_after": seen.after.descriptors,
        "bytes_in_flight_after": seen.bytes_in_flight,
        "queued_images_after": seen.queued_images,
        "memory_before_mb": seen.before.memory_bytes / 1e6,
        "memory_after_mb": seen.after.memory_bytes / 1e6,
    }
    return Outcome(
        "Slow and gone clients",
        f"beside {IDLE} idle connections, {TRICKLERS} bodies that trickle and {LEAVERS:,} clients that leave in the "
        "middle of a body or before the answer, a neighbour is answered as ever; nothing of theirs is kept",
        neighbour,
        figures,
        unless(
            (neighbour.right == neighbour.sent, f"{neighbour.sent - neighbour.right} of the neighbour's not answered"),
            (
                beside_ms <= MOST_TIMES * alone_ms,
                f"its median was {alone_ms:.1f} ms, and {beside_ms:.1f} ms beside them",
            ),
            (len(seen.ended_s) == TRICKLERS, f"{TRICKLERS - len(seen.ended_s)} trickled bodies did not end with 408"),
            (slowest_s <= BODY_TIMEOUT_S + ANSWER_S, f"a trickled body ended after {slowest_s:.1f} s"),
            (added <= MOST_ADDED_DESCRIPTORS, f"{added} more file descriptors"),
            (added_mb <= MOST_ADDED_MB, f"{added_mb:.0f} MB more"),
            (seen.bytes_in_flight == 0, f"{seen.bytes_in_flight:.0f} bytes still in flight"),
            (seen.queued_images == 0, f"{seen.queued_images:.0f} images still queued"),
            (not seen.large, f"the budget of bytes was not given back: {seen.large}"),
        ),
        f"neighbour's median {alone_ms:.1f} ms alone, {beside_ms:.1f} ms beside them, {then_ms:.1f} ms after; "
        f"{added:+d} file descriptors, {added_mb:+.0f} MB; trickled bodies ended within {slowest_s:.1f} s "
        f"(`body_timeout_s` was {BODY_TIMEOUT_S:g})",
    )


async def _be_impolite(running: Service, request: bytes) -> tuple[list[float], Sample]:
    """All at once; how long each trickled body took, and what the service held when most was under way."""
    idle = [await asyncio.open_connection(HOST, running.port) for _ in range(IDLE)]
    trickles = [asyncio.create_task(_trickle(running.port, request)) for _ in range(TRICKLERS)]
    await asyncio.sleep(BODY_TIMEOUT_S / 2)
    held = await asyncio.to_thread(sample, running)
    await _leave(running.port, LEAVERS, request)
    ended_s = [seconds for seconds in await asyncio.gather(*trickles) if seconds is not None]
    for _, writer in idle:
        writer.close()
    return ended_s, held


async def _trickle(port: int, request: bytes) -> float | None:
    """Sends the head, then the body byte by byte; the seconds until 408 came, None if anything else did."""
    reader, writer = await asyncio.open_connection(HOST, port)
    started_s = time.perf_counter()
    end = request.index(b"\r\n\r\n") + 4
    writer.write(request[:end])
    answer = asyncio.ensure_future(reader.read(16))
    for byte in request[end:]:
        if answer.done():
            break
        with contextlib.suppress(OSError):
            writer.write(bytes([byte]))
        await asyncio.wait([answer], timeout=0.5)
    seconds = time.perf_counter() - started_s
    is_right = answer.done() and answer.exception() is None and answer.result().startswith(b"HTTP/1.1 408")
    answer.cancel()
    writer.close()
    return seconds if is_right else None


async def _leave(port: int, count: int, request: bytes) -> None:
    """So many requests at a steady rate, one half left in the middle of the body, the other before the answer."""

    async def at_once(part: bytes) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(part)
            await asyncio.sleep(_PARTING_S if len(part) < len(request) else 0)
            writer.close()

    started_s, parts = time.perf_counter(), (request[: len(request) // 2], request)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(0.0, started_s + number / LEAVE_PER_S - time.perf_counter()))
            tasks.create_task(at_once(parts[number % 2]))


def _large(running: Service) -> str:
    """What is said against a request that takes the whole budget; empty where it is answered."""
    theta = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    images = np.random.default_rng(0).integers(0, 256, LARGE, np.uint8)
    try:
        with Client(running.url, retries=0) as client:
            same = np.array_equal(client.warp(images, theta, batch_images=len(images)), images)
            return "" if same else Verdict.WRONG
    except StnError as error:
        return str(error)
