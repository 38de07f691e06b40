"""The process behind ``drills.traffic``: sends, checks and notes until it has sent enough or its stdin is closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stn_client import Client, ConnectionFailed

from drills.known import Array, Known
from drills.outcome import Verdict
from drills.traffic import Plan, Record
from stn_core.errors import Overloaded, StnError, Unavailable
from stn_core.wire import HEADER_LENGTH, decode_response, encode_request

HOST = "127.0.0.1"
OUTPUTS = ("label", "probabilities", "theta")
COME_AGAIN = (429, 503)
_SAID_CHARACTERS = 200
_REOPEN_PAUSE_S = 0.05
_REQUESTS = 256

Note = Callable[[Record], None]


class Course:
    """When requests fall due, and when there are no more."""

    def __init__(self, plan: Plan) -> None:
        self._interval_s = None if plan.rate is None else 1 / plan.rate
        self._next_s = time.perf_counter()
        self._end_s = float("inf") if plan.seconds is None else self._next_s + plan.seconds
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def due_s(self) -> float | None:
        """When the next request is to be sent, by ``perf_counter``; None if there is none any more."""
        now_s = time.perf_counter()
        with self._lock:
            due_s = now_s if self._interval_s is None else self._next_s
            if self.stopped.is_set() or max(now_s, due_s) >= self._end_s:
                return None
            self._next_s += self._interval_s or 0.0
            return due_s


class Questions:
    """Draws the images of requests, and judges answers."""

    def __init__(self, known: Known, images: int) -> None:
        self._known, self._images = known, images
        self._requests: list[tuple[Array, bytes]] = []

    def rows(self) -> Array:
        return np.arange(self._images) + random.randrange(len(self._known.images) - self._images + 1)

    def next_request(self) -> tuple[Array, bytes]:
        """The rows and the request of one of ``_REQUESTS``, so that a load costs as little as can be."""
        if not self._requests:
            drawn = [self.rows() for _ in range(_REQUESTS)]
            self._requests = [(rows, request_of(self.pixels(rows))) for rows in drawn]
        return random.choice(self._requests)

    def pixels(self, rows: Array) -> Array:
        return self._known.images[rows[0] : rows[-1] + 1]

    def judged(self, rows: Array, answer: dict[str, Array], said_version: str | None = None) -> tuple[Verdict, str]:
        """The verdict, and the version of the bundle that gives this answer, which must be the one that it names."""
        version = self._known.version_of(rows, answer)
        right = version is not None and said_version in (None, version)
        return (Verdict.RIGHT, version or "") if right else (Verdict.WRONG, "")


def by_sdk(plan: Plan, questions: Questions, course: Course, note: Note) -> None:
    """As many threads as connections, each with one call under way."""
    options: dict[str, Any] = {} if plan.retries is None else {"retries": plan.retries}
    with Client(f"http://{HOST}:{plan.port}", read_timeout_s=plan.timeout_s, **options) as client:

        def work() -> None:
            while (due_s := course.due_s()) is not None:
                course.stopped.wait(max(0.0, due_s - time.perf_counter()))
                rows = questions.rows()
                note(_called(client, questions, rows, due_s))

        threads = [threading.Thread(target=work) for _ in range(plan.connections)]
        for thread in threads:
            thread.start()
        _begun()
        for thread in threads:
            thread.join()


def _called(client: Client, questions: Questions, rows: Array, due_s: float) -> Record:
    version, status, said = "", 0, ""
    try:
        found = client.predict(questions.pixels(rows))
        answer: dict[str, Array] = {
            "label": found.label,
            "probabilities": found.probabilities,
            "theta": np.asarray(found.theta),
        }
        verdict, version = questions.judged(rows, answer)
        status = 200
    except ConnectionFailed as error:
        verdict, said = Verdict.LOST, str(error)
    except StnError as error:
        refused = isinstance(error, Overloaded | Unavailable)
        verdict, status, said = (Verdict.REFUSED if refused else Verdict.LOST), error.status, str(error)
    return Record(time.time(), time.perf_counter() - due_s, verdict, status, version, said[:_SAID_CHARACTERS])


async def by_http(plan: Plan, questions: Questions, course: Course, note: Note) -> None:
    """As many connections, kept open, each with one request under way; nothing is sent twice."""
    begun = asyncio.Barrier(plan.connections + 1)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(plan.connections):
            tasks.create_task(_connection(plan, questions, course, note, begun))
        await begun.wait()
        _begun()


async def _connection(plan: Plan, questions: Questions, course: Course, note: Note, begun: asyncio.Barrier) -> None:
    with contextlib.suppress(OSError):
        opened = await asyncio.open_connection(HOST, plan.port)
    await begun.wait()
    reader, writer = opened
    while (due_s := course.due_s()) is not None:
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        rows, request = questions.next_request()
        version, status, said = "", 0, ""
        try:
            if writer.is_closing():
                reader, writer = await asyncio.open_connection(HOST, plan.port)
            async with asyncio.timeout(plan.timeout_s):
                status, headers, body = await _exchange(reader, writer, request)
            verdict, version = _judged(questions, rows, status, headers, body)
            said = "" if status == 200 else body.decode(errors="replace")
            if headers.get("connection") == "close":
                writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            verdict, said = Verdict.LOST, repr(error)
            writer.close()
            await asyncio.sleep(_REOPEN_PAUSE_S)
        note(Record(time.time(), time.perf_counter() - due_s, verdict, status, version, said[:_SAID_CHARACTERS]))
    writer.close()


def request_of(pixels: Array) -> bytes:
    """The request to ``predict`` for these images, as it travels."""
    message = encode_request({"images": pixels}, OUTPUTS)
    lines = {"host": HOST, "content-length": str(len(message.body)), **message.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v2/models/predict/infer HTTP/1.1\r\n{head}\r\n".encode() + message.body


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, dict[str, str], bytes]:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def _judged(
    questions: Questions, rows: Array, status: int, headers: dict[str, str], body: bytes
) -> tuple[Verdict, str]:
    if status == 200:
        response = decode_response(body, int(headers[HEADER_LENGTH.lower()]))
        return questions.judged(rows, response.outputs, response.model_version)
    if status in COME_AGAIN and "retry-after" in headers:
        return Verdict.REFUSED, ""
    return (Verdict.LOST if status >= 500 else Verdict.WRONG), ""


def _begun() -> None:
    print("begun", flush=True)


def main() -> None:
    folder, plan = Path(sys.argv[1]), Plan(**json.loads(sys.argv[2]))
    questions, course = Questions(Known.load(folder / "known.npz"), plan.images), Course(plan)

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):  # not by the stream: its lock would outlast the process
            pass
        course.stopped.set()

    threading.Thread(target=watch, daemon=True).start()
    records: list[Record] = []
    if plan.way == "sdk":
        by_sdk(plan, questions, course, records.append)
    else:
        with contextlib.suppress(ImportError):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(by_http(plan, questions, course, records.append))
    (folder / "records").write_text("".join(f"{json.dumps(record)}\n" for record in records))


if __name__ == "__main__":
    main()
