"""Token buckets: how many requests and images a caller may send in a second."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic

from stn_core.errors import RateLimited


class TokenBucket:
    """Fills with ``per_s`` tokens a second, and holds a second's worth, or one token if that is more.

    It may be overdrawn: how many images a request has is known when it is read. It is then empty until that is made
    up for, so that the mean rate holds.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(per_s, 1.0)
        self._level, self._at_s = self._most, clock()

    def wait_s(self) -> float:
        """Seconds until there is a token; 0 if there is one."""
        now_s = self._clock()
        self._level = min(self._most, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max(0.0, 1.0 - self._level) / self._per_s

    def take(self, tokens: int) -> None:
        self._level -= tokens


class Allowance:
    """What one caller may send; None is no limit."""

    def __init__(
        self, requests_per_s: float | None, images_per_s: float | None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.rates = (requests_per_s, images_per_s)
        self._requests = None if requests_per_s is None else TokenBucket(requests_per_s, clock)
        self._images = None if images_per_s is None else TokenBucket(images_per_s, clock)

    def check(self) -> None:
        """RateLimited, with the time to wait, if no further request may come now."""
        for bucket, what, per_s in zip((self._requests, self._images), ("requests", "images"), self.rates, strict=True):
            wait_s = 0.0 if bucket is None else bucket.wait_s()
            if wait_s > 0:
                raise RateLimited(
                    f"expected at most {per_s:g} {what} a second, and more came; try again in {wait_s:.1f} s", wait_s
                )

    def take_request(self) -> None:
        """``check``, and one request less."""
        self.check()
        if self._requests is not None:
            self._requests.take(1)

    def take_images(self, count: int) -> None:
        if self._images is not None:
            self._images.take(count)


spending: ContextVar[Allowance | None] = ContextVar("spending", default=None)
"""Of whoever sent the request that is worked on; None if nothing is counted."""


def spend_images(count: int) -> None:
    """Counts the images of a request, as soon as they are known."""
    allowance = spending.get()
    if allowance is not None:
        allowance.take_images(count)
