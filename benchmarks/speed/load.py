"""Loads an HTTP server of this machine from a process of its own; tells rates and latencies.

    python load.py '{"port": 8000, "connections": 32, "seconds": 5}' < request

What stdin holds is sent as it is, again and again, over kept connections with one request outstanding on each. Closed
loop: an answer calls forth the next request. Open loop (``rate``, requests a second): a request falls due whether or
not the server keeps up; where no connection is free it waits, and its wait is part of its latency. An answer counts if
its status is 200 and it is as long as the first one.

The generator shares the cores with the server, so it does next to nothing: raw protocols, no parsing beyond the length.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Mapping
from http.client import HTTPMessage, HTTPResponse
from socket import create_connection
from typing import Any, NamedTuple

HOST = "127.0.0.1"
_HEAD_END = b"\r\n\r\n"
_GOOD = re.compile(rb"HTTP/1\.1 200 ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_MAX_REOPENED = 3  # times each connection
_TICK_S = 1e-3  # uvloop's clock knows no less


class Plan(NamedTuple):
    """A load: how many connections for how long, with how many images in a request."""

    port: int
    connections: int
    seconds: float
    images: int = 1
    warm_up_s: float = 1.0
    rate: float | None = None
    """Requests a second, open loop; None is the closed loop."""


def load(request: bytes, plan: Plan) -> dict[str, float]:
    """What a load by ``plan`` finds, made by a process of its own."""
    command = [sys.executable, __file__, json.dumps(plan._asdict())]
    done = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def ask(port: int, request: bytes, timeout_s: float = 60) -> tuple[int, HTTPMessage, bytes]:
    """Status, headers and body of the answer to one request."""
    with create_connection((HOST, port), timeout=timeout_s) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def http_request(path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, method: str = "POST") -> bytes:
    """An HTTP/1.1 request as it travels."""
    lines = {"host": HOST, "content-length": str(len(body)), **(headers or {})}
    return f"{method} {path} HTTP/1.1\r\n".encode() + _block(lines) + body


def _block(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"


class _Connection(asyncio.Protocol):
    """One request outstanding; tells the load when its answer is whole."""

    due_s = 0.0

    def __init__(self, owner: _Load) -> None:
        self._owner = owner
        self._head = b""
        self._left = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.lost(self)

    def send(self, due_s: float) -> None:
        self.due_s = due_s
        self._head, self._left = b"", 0
        self._transport.write(self._owner.request)

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        elif not self._begin(data):
            return
        if self._left == 0:
            self._owner.answered(self, self._good)

    def _begin(self, data: bytes) -> bool:
        """Whether the answer's head is whole, and with it known what is to come."""
        self._head += data
        end = self._head.find(_HEAD_END)
        if end < 0:
            return False
        length = _LENGTH.search(self._head, 0, end + 2)
        if length is None:
            self._owner.fail(ConnectionError(f"an answer of unknown length: {self._head[:end]!r}"))
            return False
        self._left = end + len(_HEAD_END) + int(length[1]) - len(self._head)
        self._good = bool(_GOOD.match(self._head)) and self._owner.is_usual(int(length[1]))
        return True


class _Load:
    """One load: sends, counts and times."""

    def __init__(self, plan: Plan, request: bytes) -> None:
        self.request = request
        self._plan = plan
        self._usual_length: int | None = None
        self._latencies_s = array("d")
        self._errors = self._reopened = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: deque[_Connection] = deque()
        self._waiting_s: deque[float] = deque()

    async def run(self) -> dict[str, float]:
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        for _ in range(self._plan.connections):
            self._idle.append(await self._open())
        self._begins_s = time.perf_counter() + self._plan.warm_up_s
        self._next_s = time.perf_counter()
        self._loop.call_later(self._plan.warm_up_s + self._plan.seconds, self._end)
        if self._plan.rate is not None:
            self._tick()
        else:
            while self._idle:
                self._idle.popleft().send(time.perf_counter())
        await self._over
        return self._figures()

    async def _open(self) -> _Connection:
        _, connection = await self._loop.create_connection(lambda: _Connection(self), HOST, self._plan.port)
        return connection

    def is_usual(self, length: int) -> bool:
        self._usual_length = self._usual_length or length
        return length == self._usual_length

    def answered(self, connection: _Connection, good: bool) -> None:
        now_s = time.perf_counter()
        if now_s >= self._begins_s:
            if good:
                self._latencies_s.append(now_s - connection.due_s)
            else:
                self._errors += 1
        if self._plan.rate is None:
            connection.send(now_s)
        elif self._waiting_s:
            connection.send(self._waiting_s.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Opens another in its place; a proxy that reads its configuration anew closes those that it has."""
        if self._over.done():
            return
        self._reopened += 1
        if self._reopened > _MAX_REOPENED * self._plan.connections:
            self.fail(ConnectionError("the server closes its connections"))
        was_idle = connection in self._idle
        if was_idle:
            self._idle.remove(connection)
        task = self._loop.create_task(self._reopen(None if was_idle else connection.due_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reopen(self, due_s: float | None) -> None:
        """Opens a connection and sends what was lost with another one."""
        try:
            connection = await self._open()
        except OSError as error:
            self.fail(error)
            return
        if due_s is None:
            self._idle.append(connection)
        else:
            connection.send(due_s)

    def fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _tick(self) -> None:
        """Sends what fell due since the last tick; that this clock is coarse is not counted against the server."""
        now_s = time.perf_counter()
        while self._next_s <= now_s:
            self._next_s += 1 / (self._plan.rate or 1)
            if self._idle:
                self._idle.popleft().send(now_s)
            else:
                self._waiting_s.append(now_s)
        if not self._over.done():
            self._loop.call_later(_TICK_S, self._tick)

    def _end(self) -> None:
        self._elapsed_s = time.perf_counter() - self._begins_s
        if not self._over.done():
            self._over.set_result(None)

    def _figures(self) -> dict[str, float]:
        if not self._latencies_s:
            raise RuntimeError(f"no good answer in {self._elapsed_s:.1f} s, and {self._errors} others")
        latencies_s = sorted(self._latencies_s)
        requests_s = len(self._latencies_s) / self._elapsed_s
        percentiles = {f"p{p}_ms": 1e3 * latencies_s[(len(latencies_s) - 1) * p // 100] for p in (50, 90, 99)}
        return {"requests_s": requests_s, "images_s": requests_s * self._plan.images, **percentiles} | {
            "answers": len(self._latencies_s),
            "errors": self._errors,
            "reopened": self._reopened,
            "generator_cpu_share": time.process_time() / (self._elapsed_s + self._plan.warm_up_s),
        }


def main() -> None:
    plan, request = Plan(**json.loads(sys.argv[1])), sys.stdin.buffer.read()
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.disable()
    print(json.dumps(asyncio.run(_Load(plan, request).run())))


if __name__ == "__main__":
    main()
