"""Forms micro-batches of images out of concurrent requests, with bounded waiting.

Requests are sets of arrays with one leading dimension, the images. Only requests with the same key (same operation,
same shapes of image and theta, same datatypes) share a batch. A batch is put together when there is room to run it, not
before, so under load batches grow by themselves. A request that is larger than a batch is run in slices and rejoined.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from services.origin import Origin, origins, told_ids
from services.room import Arrival, Room, Weight
from services.settings import StageSettings
from services.tracing import trace_wait
from stn_core.errors import Overloaded, StnError, Unavailable

logger = logging.getLogger("ray.serve")

Array = np.ndarray[Any, np.dtype[Any]]

Columns = Mapping[str, Array]
"""Arrays by name, which share their leading dimension."""

RunBatch = Callable[[Any, Columns], Awaitable[Columns]]
"""Runs one operation on a batch; every returned array has the batch's leading dimension."""


class BatchReport(NamedTuple):
    """A batch that ran: what it was made of, and what its steps took."""

    images: int
    pieces: int
    """Whole requests, and slices of larger ones."""
    requests: int
    """Those that began with this batch; they had waited ``waited_s`` together."""
    waited_s: float
    input_s: float
    infer_s: float
    output_s: float


_PACE_MEMORY = 0.8
_MAX_PACES = 256


@dataclass(frozen=True)
class BatchKey:
    """What two requests must agree on to share a batch."""

    operation: Hashable
    columns: tuple[tuple[str, str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, operation: Hashable, columns: Columns) -> "BatchKey":
        return cls(operation, tuple((name, array.dtype.str, array.shape[1:]) for name, array in columns.items()))


class _Pace(NamedTuple):
    """The seconds that so many images took, of batches of one kind; older ones count less."""

    seconds: float = 0.0
    images: float = 0.0

    @property
    def s_per_image(self) -> float:
        return self.seconds / self.images


@dataclass(eq=False)
class _Group:
    """Requests with one key, in order of arrival."""

    key: BatchKey
    limit_images: int
    s_per_image: float
    requests: "deque[_Request]" = field(default_factory=deque)
    waiting: int = 0


@dataclass(eq=False)
class _Request:
    group: _Group
    columns: Columns
    images: int
    bytes_per_image: int
    arrived_s: float
    done: asyncio.Future[Columns]
    origins: tuple[Origin, ...]
    gone: Callable[[], bool] = lambda: False
    taken: int = 0
    slices: dict[int, Columns] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slice:
    request: _Request
    start: int
    stop: int

    @property
    def images(self) -> int:
        return self.stop - self.start

    def columns(self) -> Columns:
        if self.images == self.request.images:
            return self.request.columns
        return {name: array[self.start : self.stop] for name, array in self.request.columns.items()}


class MicroBatcher:
    """Runs concurrent requests in batches of at most ``max_batch_images``; belongs to one event loop."""

    def __init__(
        self,
        run: RunBatch,
        settings: StageSettings,
        max_in_flight: int | None = None,
        report: Callable[[BatchReport], None] | None = None,
        max_wait_s: float = math.inf,
    ) -> None:
        self._run = run
        self._report = report
        self._settings = settings
        self._max_in_flight = max_in_flight or settings.max_in_flight_batches
        self._groups: dict[BatchKey, _Group] = {}
        self._room = Room(settings.max_queued_images, settings.max_queued_bytes, max_wait_s)
        self._in_flight = 0
        self._paces: dict[BatchKey, _Pace] = {}
        self._wake_up: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop alone would not keep them alive

    @property
    def queued_images(self) -> int:
        """Images that wait for a batch."""
        return round(self._room.waiting.images)

    def arrival(self, gone: Callable[[], bool] | None = None) -> Arrival:
        """Of a request that will be submitted when it is read; see ``services.room``."""
        return Arrival(self._room) if gone is None else Arrival(self._room, gone)

    async def submit(
        self, operation: Hashable, columns: Columns, result_bytes: int = 0, arrival: Arrival | None = None
    ) -> Columns:
        """The result for ``columns``, whose arrays all have the same leading dimension of at least 1.

        An image counts with the bytes that go in, or with the ``result_bytes`` that come out where those are more.
        Raises Overloaded when the queue is full, and what the run function raised for one of the batches.
        """
        loop = asyncio.get_running_loop()
        sides = {len(array) for array in columns.values()}
        if len(sides) != 1 or 0 in sides:
            raise ValueError(f"expected arrays that share a leading dimension of at least 1, got {sorted(sides)}")
        images = sides.pop()
        bytes_per_image = max(sum(array.nbytes for array in columns.values()) // images, result_bytes)
        if arrival is not None:
            arrival.end()
        key = BatchKey.of(operation, columns)
        self._room.open_to(Weight(images, images * bytes_per_image, images * self._s_per_image(key)))
        group = self._group(key, bytes_per_image)
        request = _Request(group, columns, images, bytes_per_image, loop.time(), loop.create_future(), origins.get())
        if arrival is not None:
            request.gone = arrival.gone
        group.requests.append(request)
        self._count(request, images)
        self._schedule()
        try:
            return await request.done
        finally:
            self._drop(request)

    def _group(self, key: BatchKey, bytes_per_image: int) -> _Group:
        group = self._groups.get(key)
        if group is None:
            by_bytes = self._settings.max_batch_bytes // max(bytes_per_image, 1)
            limit_images = max(1, min(self._settings.max_batch_images, by_bytes))
            group = _Group(key, limit_images, self._s_per_image(key))
            self._groups[key] = group
        return group

    def _count(self, request: _Request, images: int) -> None:
        group = request.group
        group.waiting += images
        self._room.change(Weight(images, images * request.bytes_per_image, images * group.s_per_image))
        if group.waiting == 0:
            del self._groups[group.key]

    def _drop(self, request: _Request) -> None:
        """Frees the room of what still waits of a request that is over; its images in running batches go on unheard."""
        left = request.images - request.taken
        if left:
            request.taken = request.images
            request.group.requests.remove(request)
            self._count(request, -left)

    def _schedule(self, delay_s: float = 0.0) -> None:
        """Forms batches at the end of this turn of the event loop, so that requests of one turn share one."""
        if self._wake_up is not None:
            if delay_s or not isinstance(self._wake_up, asyncio.TimerHandle):
                return
            self._wake_up.cancel()
        loop = asyncio.get_running_loop()
        self._wake_up = loop.call_later(delay_s, self._form_batches) if delay_s else loop.call_soon(self._form_batches)

    def _form_batches(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        loop = asyncio.get_running_loop()
        while self._groups and self._in_flight < self._max_in_flight:
            now = loop.time()
            group, due_s = self._next_group()
            if due_s > now and self._in_flight:  # while nothing runs, to wait for more would only lose time
                self._schedule(due_s - now)
                return
            slices = self._take(group)
            if not slices:
                continue
            self._in_flight += 1
            task = loop.create_task(self._execute(group.key, slices))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next_group(self) -> tuple[_Group, float]:
        """The group to run next and the time from which on it may run: full ones at once, others after the wait."""

        def due_s(group: _Group) -> float:
            arrived_s = group.requests[0].arrived_s
            return arrived_s if group.waiting >= group.limit_images else arrived_s + self._settings.batch_wait_ms / 1e3

        group = min(self._groups.values(), key=due_s)
        return group, due_s(group)

    def _take(self, group: _Group) -> list[_Slice]:
        """The next batch: whole requests in order, or a slice of one larger than a batch, which then goes last."""
        slices: list[_Slice] = []
        room = group.limit_images
        while group.requests:
            request = group.requests[0]
            if request.gone() and not request.done.done():
                request.done.set_exception(Unavailable("the client went away before its images had their turn"))
            if request.done.done():  # given up in this very turn of the event loop, or just now
                self._drop(request)
                continue
            images = min(request.images - request.taken, group.limit_images)
            if images > room:
                break
            slices.append(_Slice(request, request.taken, request.taken + images))
            request.taken += images
            room -= images
            if request.taken == request.images:
                group.requests.popleft()
            else:
                group.requests.rotate(-1)  # a large request takes turns with those behind it
            self._count(request, -images)
        return slices

    async def _execute(self, key: BatchKey, slices: list[_Slice]) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            # Between forming the batch and this first step a waiter may have gone.
            slices = [part for part in slices if not part.request.done.done()]
            if slices:
                _begin(slices, started_s)
                columns = _concatenate([part.columns() for part in slices])
                joined_s = loop.time()
                result = await self._run(key.operation, columns)
                ran_s = loop.time()
                _distribute(slices, result)
                if self._report is not None:
                    self._report(_report_of(slices, started_s, joined_s, ran_s, loop.time()))
        except BaseException as error:
            self._fail(slices, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._in_flight -= 1
            self._learn_pace(key, sum(part.images for part in slices), loop.time() - started_s)
            self._schedule()

    def _fail(self, slices: list[_Slice], error: BaseException) -> None:
        """Gives ``error`` to the waiters of this batch, and to nobody else."""
        if not isinstance(error, StnError):
            logger.error("a batch of %d requests failed: %s", len(slices), told_ids(), exc_info=error)
        reason = error if isinstance(error, Exception) else StnError("the service stopped while it ran the batch")
        for part in slices:
            if not part.request.done.done():
                part.request.done.set_exception(_copy(reason))
            self._drop(part.request)

    def _learn_pace(self, key: BatchKey, images: int, seconds: float) -> None:
        """Notes what an image of this kind takes, and with it how long those take that wait."""
        if not images:
            return
        old = self._paces.pop(key, _Pace())
        pace = _Pace(_PACE_MEMORY * old.seconds + seconds / self._max_in_flight, _PACE_MEMORY * old.images + images)
        self._paces[key] = pace
        if len(self._paces) > _MAX_PACES:
            del self._paces[next(iter(self._paces))]  # the one that was needed longest ago
        group = self._groups.get(key)
        if group is not None:
            self._room.change(Weight(seconds=group.waiting * (pace.s_per_image - group.s_per_image)))
            group.s_per_image = pace.s_per_image

    def _s_per_image(self, key: BatchKey) -> float:
        """Seconds that an image of this kind takes; 0 where none was seen lately."""
        pace = self._paces.get(key)
        return 0.0 if pace is None else pace.s_per_image


def _begin(slices: list[_Slice], started_s: float) -> None:
    """Has what follows in this task work for the requests of the batch."""
    origins.set(tuple(origin for part in slices for origin in part.request.origins))
    for part in slices:
        if part.start == 0:
            for origin in part.request.origins:
                trace_wait(origin, started_s - part.request.arrived_s)


def _report_of(slices: list[_Slice], started_s: float, joined_s: float, ran_s: float, split_s: float) -> BatchReport:
    images, requests, waited_s = 0, 0, 0.0
    for part in slices:
        images += part.stop - part.start
        if part.start == 0:
            requests += 1
            waited_s += started_s - part.request.arrived_s
    times_s = (joined_s - started_s, ran_s - joined_s, split_s - ran_s)
    return BatchReport(images, len(slices), requests, waited_s, *times_s)


def _concatenate(parts: list[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _distribute(slices: list[_Slice], result: Columns) -> None:
    images = sum(part.images for part in slices)
    wrong = [f"{name} {list(array.shape)}" for name, array in result.items() if len(array) != images]
    if wrong:
        raise StnError(f"a batch of {images} images gave {', '.join(wrong)}")
    offset = 0
    for part in slices:
        piece = {name: array[offset : offset + part.images] for name, array in result.items()}
        offset += part.images
        request = part.request
        if request.done.done():
            continue
        if part.images == request.images:
            request.done.set_result(piece)
            continue
        request.slices[part.start] = piece
        if sum(len(next(iter(columns.values()))) for columns in request.slices.values()) == request.images:
            ordered = [request.slices[start] for start in sorted(request.slices)]
            request.done.set_result(dict(_concatenate(ordered)))


def _copy(error: Exception) -> Exception:
    """An equal error: one exception object raised in several tasks would gather all their tracebacks."""
    return type(error)(*error.args) if isinstance(error, StnError) else error


def retry_after_header(error: Overloaded) -> str:
    """The value of the Retry-After header: whole seconds, at least one."""
    return str(max(1, math.ceil(error.retry_after_s)))
