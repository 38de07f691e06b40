"""What a call does, without doing it: generators that yield steps and are sent what came of them (sans-IO).

A *flow* yields ``Request`` (and is sent a ``Response`` or a ``Failure``) or ``Pause`` (and is sent None), and returns
its result. ``Client`` and ``AsyncClient`` each hold one small loop that carries out the steps, and one that keeps
several flows under way; everything there is to decide is decided here and in ``calls``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from enum import Enum
from time import monotonic, time
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import orjson

from stn_client.errors import NotAllowed
from stn_core.errors import InvalidInput, Overloaded, StnError, TimedOut, error_from_problem

T = TypeVar("T")

REPEATED_STATUSES = frozenset({429, 502, 503})
REFUSED_STATUSES = frozenset({401, 403})
MAX_QUOTED = 500
REQUEST_ID = "x-request-id"


class Deadline:
    """When a call must be over: ``seconds`` from now; InvalidInput if that makes no sense."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        if not isinstance(seconds, int | float) or not seconds > 0:
            raise InvalidInput(f"deadline_s: expected seconds above 0, got {seconds!r}")
        self._seconds, self._clock = seconds, clock
        self._ends_s = clock() + seconds

    def left_s(self) -> float:
        """Seconds until then; 0 or less when it has passed."""
        return self._ends_s - self._clock()

    def passed(self, last: StnError | None = None) -> TimedOut:
        """The error of a call that did not make it, with what it met before."""
        met = "" if last is None else f"; the last try met: {last}"
        return TimedOut(f"the call was not over within deadline_s, {self._seconds:g} s{met}")


@dataclass(frozen=True)
class Request:
    """``parts`` are sent one after another as the body; ``read_timeout_s`` is the client's own when None.

    No timeout goes past the ``deadline``.
    """

    method: str
    path: str
    parts: tuple[bytes | memoryview, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    read_timeout_s: float | None = None
    deadline: Deadline | None = None


@dataclass(frozen=True)
class Response:
    """``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Repeat(Enum):
    """Whether a request that got no answer is worth sending again. It is always safe: the service keeps no state."""

    NEVER = "never"
    LATER = "later"
    AT_ONCE = "at once"  # the connection was idle, and the server had closed it: a new one will do


@dataclass(frozen=True)
class Failure:
    """No answer came: ``error`` says why."""

    error: StnError
    repeat: Repeat


@dataclass(frozen=True)
class Pause:
    duration_s: float


Step: TypeAlias = Request | Pause
Flow: TypeAlias = Generator[Step, Any, T]


@dataclass(frozen=True)
class Retry:
    """How often a request is sent again, and when: exponential backoff with jitter, or after ``Retry-After``.

    A full service that says when to come again is asked again until the pauses come to ``patience_s``: it is alive, and
    ten who want its place are no reason to give up. A server that asks for more than ``max_pause_s`` is not waited for:
    the caller gets the error and its ``retry_after_s`` and can decide.
    """

    retries: int = 4
    patience_s: float = 120.0
    first_pause_s: float = 0.2
    max_pause_s: float = 10.0
    random: Callable[[], float] = random.random

    def pause_s(self, attempt: int, repeat: Repeat, retry_after_s: float | None, waited_s: float = 0.0) -> float | None:
        """Seconds to wait after failure number ``attempt`` (from 0); None to give up.

        ``waited_s``: the pauses before. Where the service says when to come again, the number does not count.
        """
        if repeat is Repeat.NEVER or self.retries == 0 or (retry_after_s or 0) > self.max_pause_s:
            return None
        scatter: float = 1.0 + 0.5 * self.random()
        if retry_after_s:
            pause_s: float = scatter * max(retry_after_s, self.first_pause_s)
            return pause_s if waited_s + pause_s <= self.patience_s else None
        if attempt >= self.retries:
            return None
        if repeat is Repeat.AT_ONCE and attempt == 0:
            return 0.0
        backoff_s: float = min(self.max_pause_s, self.first_pause_s * 2**attempt)
        return scatter * backoff_s


def exchange(request: Request, retry: Retry, read: Callable[[Response], T]) -> Flow[T]:
    """What ``read`` makes of the answer to ``request``, sent again as ``retry`` says; else the typed error.

    TimedOut where the request's deadline has passed, or would before the next try. All tries have one id, under which
    the service's log and its traces have them, and errors too (``error.request_id``).
    """
    request_id = uuid4().hex
    identified = replace(request, headers={**request.headers, REQUEST_ID: request_id})
    try:
        return (yield from _tried(identified, retry, read))
    except StnError as error:
        error.request_id = request_id
        raise


def _tried(request: Request, retry: Retry, read: Callable[[Response], T]) -> Flow[T]:
    attempt, waited_s, deadline = 0, 0.0, request.deadline
    error: StnError | None = None
    while True:
        if deadline is not None and deadline.left_s() <= 0:
            raise deadline.passed(error)
        answer = yield request
        retry_after_s = None
        if isinstance(answer, Failure):
            error, repeat = answer.error, answer.repeat
        elif answer.status == 200:
            return read(answer)
        else:
            retry_after_s = _retry_after_s(answer.headers.get("retry-after"))
            error = error_of(answer, retry_after_s)
            repeat = Repeat.LATER if answer.status in REPEATED_STATUSES or _is_a_proxys(answer) else Repeat.NEVER
        pause_s = retry.pause_s(attempt, repeat, retry_after_s, waited_s)
        if pause_s is None:
            raise error
        if deadline is not None and pause_s >= deadline.left_s():
            raise deadline.passed(error)
        if pause_s > 0:
            yield Pause(pause_s)
        waited_s += pause_s
        attempt += not retry_after_s


def error_of(response: Response, retry_after_s: float | None = None) -> StnError:
    """The typed error of an answer that is not 200, whoever gave it: the service, Ray's proxy, a load balancer."""
    try:
        document: object = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        text = response.body[: 4 * MAX_QUOTED].decode("utf-8", "replace").strip()
        document = f"HTTP status {response.status}: {text[:MAX_QUOTED]}" if text else None
    error = error_from_problem(document, response.status)
    if response.status in REFUSED_STATUSES and type(error) is InvalidInput:  # of no code that we know
        return NotAllowed(error.detail)
    if isinstance(error, Overloaded) and retry_after_s is not None:
        return type(error)(error.detail, retry_after_s)
    return error


def _is_a_proxys(answer: Response) -> bool:
    """Whether a 500 is no word of the service, which says in JSON what failed, but of a proxy that lost it midway.

    Ray's HAProxy answers so for a replica that died with the request, in place of 502, 503 and 504.
    """
    return answer.status == 500 and answer.headers.get("content-type", "").startswith("text/")


def _retry_after_s(value: str | None) -> float | None:
    """The header ``Retry-After``, in seconds from now: it holds seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
