"""Who works on what: the requests that the code at hand works for, so that logs and traces can tell.

A request has one origin; a batch has those of all its requests, and takes them along to another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.tracing import RequestSpan

MAX_ID_CHARACTERS = 128
_TOLD, _TRAVEL = 16, 64
"""Requests of one batch that a log tells, and that go along with it to another process."""


class Origin:
    """A request as those who work on it know it."""

    __slots__ = ("began_s", "images", "model", "protocol", "request_id", "span", "trace")

    def __init__(self, request_id: str, trace: str = "", protocol: str = "http") -> None:
        self.request_id = request_id
        self.trace = trace
        """The W3C ``traceparent`` of its span; empty if it is not traced."""
        self.protocol = protocol
        self.model = ""
        """The model it turned out to be for."""
        self.images = 0
        """Those that were answered."""
        self.span: RequestSpan | None = None
        """The span itself, in the process that the request came to."""
        self.began_s = perf_counter()


origins: ContextVar[tuple[Origin, ...]] = ContextVar("origins", default=())
"""Of the request, or the batch, that the code at hand works for."""


def current() -> Origin | None:
    """The request at hand; None outside of one."""
    found = origins.get()
    return found[0] if found else None


def told_ids() -> str:
    """The ids of the requests at hand, for a log."""
    found = [origin.request_id for origin in origins.get()]
    more = len(found) - _TOLD
    return ", ".join(found[:_TOLD]) + (f" and {more} more" if more > 0 else "") or "unknown"


def _maker() -> Callable[[], str]:
    numbers, process = count(), token_hex(8)
    return lambda: f"{process}-{next(numbers):x}"


new_request_id = _maker()
"""An id that no other request has: of this process, by chance, and a number."""


def valid_request_id(asked: str) -> bool:
    """Whether a client's id can go into logs and headers as it is: visible ASCII, and not too long."""
    return 0 < len(asked) <= MAX_ID_CHARACTERS and asked.isascii() and asked.isprintable() and " " not in asked


def for_travel() -> list[list[str]]:
    """The requests at hand as they go along with a batch: the id and the trace of each, of as many as are told."""
    return [[origin.request_id, origin.trace] for origin in origins.get()[:_TRAVEL]]


def from_travel(travelled: Sequence[Sequence[str]]) -> tuple[Origin, ...]:
    return tuple(Origin(request_id, trace) for request_id, trace in travelled)
