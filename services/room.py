"""What waits for a stage, and whether there is room for more: in images, in bytes, and in seconds of work.

A request is counted twice over: from when its head is read, as much as the usual one, so that what finds no room is
refused before its body is read and decoded; and from when it waits for a batch, as what it is.
"""

import math
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from stn_core.errors import Overloaded

_MEMORY = 0.9
_MIN_RETRY_AFTER_S = 0.1
_MAX_RETRY_AFTER_S = 10.0


class Weight(NamedTuple):
    """What a request, or several, take of a queue."""

    images: float = 0
    bytes: float = 0
    seconds: float = 0.0
    """Of work, as far as the pace is known."""

    def plus(self, other: "Weight", times: float = 1) -> "Weight":
        return Weight(
            self.images + times * other.images, self.bytes + times * other.bytes, self.seconds + times * other.seconds
        )

    def fits(self, limit: "Weight") -> bool:
        return self.images <= limit.images and self.bytes <= limit.bytes and self.seconds <= limit.seconds


def _never() -> bool:
    return False


class Arrival:
    """A request on its way to the queue, counted until it is there or the ``with`` block ends.

    ``gone`` tells whether its client has left: what nobody waits for is not begun.
    """

    def __init__(self, room: "Room", gone: Callable[[], bool] = _never) -> None:
        self.gone = gone
        self._room = room
        self._is_counted = False

    def begin(self) -> "Arrival":
        """Counts it; Overloaded where a request like the usual one finds no room."""
        self._room.open_to_usual()
        self._room.arriving += 1
        self._is_counted = True
        return self

    def end(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._room.arriving -= 1

    __enter__ = begin

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class Room:
    """The limits of one queue, and what is in it; belongs to one event loop."""

    def __init__(self, max_images: int, max_bytes: int, max_wait_s: float = math.inf) -> None:
        self._limit = Weight(max_images, max_bytes, max_wait_s)
        self._usual = Weight()
        self.waiting = Weight()
        self.arriving = 0

    def open_to_usual(self) -> None:
        """Overloaded if a request like the usual one would find no room; where nothing waits it always does."""
        expected = self.waiting.plus(self._usual, self.arriving)
        if expected.images >= 1 and not expected.plus(self._usual).fits(self._limit):
            raise self._full(f"{self.arriving} requests are on their way to the queue", self.waiting.seconds)

    def open_to(self, asked: Weight) -> None:
        """Overloaded if this request would find no room; where nothing waits it always does."""
        self._usual = asked if self._usual == Weight() else Weight().plus(self._usual, _MEMORY).plus(asked, 1 - _MEMORY)
        if self.waiting.images and not self.waiting.plus(asked).fits(self._limit):
            raise self._full(f"with {asked.images} more the queue would pass its limit")

    def change(self, weight: Weight, times: float = 1) -> None:
        """Notes that so much more waits; less, of negative ``times``."""
        more = self.waiting.plus(weight, times)
        self.waiting = more if more.images else Weight()  # without what rounding left of the seconds

    def _full(self, why: str, waiting_s: float = 0.0) -> Overloaded:
        """``waiting_s``: the work in the queue, if there is no room for any request."""
        images, size, seconds = self._limit
        within = "" if seconds == math.inf else f" or {seconds:g} s of work"
        wait_s = self.waiting.plus(self._usual, self.arriving).seconds
        return Overloaded(
            f"{self.waiting.images} images wait already, and {why}, of {images} images or {size} bytes{within}; try "
            "again later, or send fewer images at once",
            retry_after_s=min(max(wait_s or 1.0, _MIN_RETRY_AFTER_S), _MAX_RETRY_AFTER_S),
            waiting_s=waiting_s,
        )
