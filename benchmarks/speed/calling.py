"""Calls the service by the Python client, in a process of its own; tells its rate, its processor time and its memory.

    python calling.py '{"port": 8000, "way": "array", "images": 100000}' < digits.npy

What stdin holds, uint8 ``[N, 28, 28, 1]``, is given again and again until there are so many images. Memory is the
kernel's high-water mark of this process alone: that of ``getrusage`` remembers the process it was started by.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stn_client import AsyncClient, Client

Images = NDArray[np.uint8]

WARM_UP_IMAGES = 4096


class Plan(NamedTuple):
    """So many images, given in a way of ``WAYS``, in requests of so many, so many of them in flight."""

    port: int
    way: str
    images: int
    batch_images: int = 512
    in_flight: int = 4


def call(digits: Images, plan: Plan) -> dict[str, float]:
    """What a process finds that calls the service by ``plan``."""
    buffer = io.BytesIO()
    np.save(buffer, digits)
    command = [sys.executable, __file__, json.dumps(plan._asdict())]
    done = subprocess.run(command, input=buffer.getvalue(), stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def _array(digits: Images, plan: Plan) -> Callable[[], int]:
    """One call with an array, and a result with an array of each output."""
    images = np.resize(digits, (plan.images, *digits.shape[1:]))

    def run() -> int:
        with _client(plan) as client:
            return len(client.predict(images, batch_images=plan.batch_images))

    return run


def _iterator(digits: Images, plan: Plan) -> Callable[[], int]:
    """A stream of images that come one by one, whose results are let go."""

    def run() -> int:
        with _client(plan) as client:
            parts = client.stream.predict(_one_by_one(digits, plan.images), batch_images=plan.batch_images)
            return sum(map(len, parts))

    return run


def _asynchronous_array(digits: Images, plan: Plan) -> Callable[[], int]:
    images = np.resize(digits, (plan.images, *digits.shape[1:]))

    async def run() -> int:
        async with AsyncClient(_url(plan), in_flight=plan.in_flight) as client:
            return len(await client.predict(images, batch_images=plan.batch_images))

    return lambda: asyncio.run(run())


def _asynchronous_iterator(digits: Images, plan: Plan) -> Callable[[], int]:
    async def run() -> int:
        async with AsyncClient(_url(plan), in_flight=plan.in_flight) as client:
            parts = client.stream.predict(_one_by_one(digits, plan.images), batch_images=plan.batch_images)
            return sum([len(part) async for part in parts])

    return lambda: asyncio.run(run())


WAYS = {
    "array": _array,
    "iterator": _iterator,
    "array, asyncio": _asynchronous_array,
    "iterator, asyncio": _asynchronous_iterator,
}


def _client(plan: Plan) -> Client:
    return Client(_url(plan), in_flight=plan.in_flight)


def _url(plan: Plan) -> str:
    return f"http://127.0.0.1:{plan.port}"


def _one_by_one(digits: Images, count: int) -> Iterator[Images]:
    return islice(cycle(digits), count)


def _memory_mb(name: str) -> float:
    """``VmRSS``, what this process holds now, or ``VmHWM``, the most that it ever held."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    digits: Any = np.load(io.BytesIO(sys.stdin.buffer.read()))
    WAYS[plan.way](digits, plan._replace(images=WARM_UP_IMAGES))()
    without_mb = _memory_mb("VmRSS")
    run = WAYS[plan.way](digits, plan)
    before_mb, before_cpu_s, started_s = _memory_mb("VmRSS"), time.process_time(), time.perf_counter()
    done = run()
    elapsed_s = time.perf_counter() - started_s
    assert done == plan.images
    peak_mb = _memory_mb("VmHWM")
    told = {
        "images_s": plan.images / elapsed_s,
        "cpu_us_per_image": 1e6 * (time.process_time() - before_cpu_s) / plan.images,
        "images_mb": before_mb - without_mb,
        "added_mb": peak_mb - before_mb,
        "peak_mb": peak_mb,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
