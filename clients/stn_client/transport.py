"""What all ways to the service have in common: its settings, a request's timeouts, and failures as typed errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from ssl import SSLContext
from typing import Any, NamedTuple, Protocol

from stn_client.address import Address
from stn_client.errors import BadAnswer, ConnectionFailed
from stn_client.flow import Deadline, Failure, Repeat, Request, Response
from stn_core.errors import StnError, TimedOut

# The service closes a connection after 5 idle seconds (uvicorn's default): closing it earlier ourselves leaves the
# race, in which it closes just as we send, to the rare case that `Repeat.AT_ONCE` is for.
KEEP_ALIVE_S = 4.0
MOST_IDLE = 20
LEAST_TIMEOUT_S = 1e-3  # a timeout of 0 would be none


class Settings(NamedTuple):
    """How to get to the service. ``transport`` is one of httpx, or None for the usual one."""

    address: Address
    verify: bool | SSLContext
    transport: Any
    connect_timeout_s: float
    read_timeout_s: float


class Link(Protocol):
    """A way to the service, for use by any number of threads."""

    def send(self, request: Request) -> Response | Failure:
        """What comes of ``request``; the answer is read to its end."""

    def close(self) -> None:
        """Closes all connections."""


class AsyncLink(Protocol):
    """A way to the service, for use by any number of tasks of one loop."""

    async def send(self, request: Request) -> Response | Failure:
        """What comes of ``request``; the answer is read to its end."""

    async def close(self) -> None:
        """Closes all connections."""


class Timeouts(dict[str, float | None]):
    """A request's timeouts as httpx names them, none of which goes past its deadline, whenever it is asked for."""

    def __init__(self, settings: Settings, request: Request) -> None:
        read_s = settings.read_timeout_s if request.read_timeout_s is None else request.read_timeout_s
        connect_s = settings.connect_timeout_s if request.read_timeout_s is None else read_s
        # A request waits for a free connection as long as it takes: each one in use has its own timeouts.
        super().__init__(connect=connect_s, read=read_s, write=read_s, pool=None)
        self._deadline = request.deadline

    def get(self, name: str, default: Any = None) -> float | None:
        own_s: float | None = super().get(name, default)
        if self._deadline is None:
            return own_s
        left_s = max(self._deadline.left_s(), LEAST_TIMEOUT_S)
        return left_s if own_s is None else min(own_s, left_s)


class Trouble(Enum):
    """What may go wrong on the way: the error it is, what happened, and whether to try again."""

    NO_CONNECTION_IN_TIME = (TimedOut, "no connection within connect_timeout_s", Repeat.NEVER)
    NO_ANSWER_IN_TIME = (TimedOut, "no answer within read_timeout_s", Repeat.NEVER)
    NO_CONNECTION = (ConnectionFailed, "cannot connect; is the service running there?", Repeat.LATER)
    BROKEN = (ConnectionFailed, "the connection broke", Repeat.AT_ONCE)
    ENDED = (ConnectionFailed, "the connection ended before the answer", Repeat.AT_ONCE)
    PROXY = (ConnectionFailed, "the proxy refused the connection", Repeat.NEVER)
    UNREADABLE = (BadAnswer, "the answer cannot be read", Repeat.NEVER)

    def failure(self, settings: Settings, deadline: Deadline | None, said: object) -> Failure:
        """The typed error, with what was ``said`` about it; that of the deadline if it has passed."""
        make: type[StnError]
        make, what, repeat = self.value
        if make is TimedOut and deadline is not None and deadline.left_s() <= 0:
            return Failure(deadline.passed(), Repeat.NEVER)
        return Failure(make(f"{settings.address.url}: {what}{f' ({said})' if str(said) else ''}"), repeat)


def body_headers(request: Request) -> Mapping[str, str]:
    """The headers of ``request``, with the length of its body if it has one."""
    if not request.parts:
        return request.headers
    return {**request.headers, "content-length": str(sum(len(part) for part in request.parts))}
