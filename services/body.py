"""Reads a request's body: never more of it than the limits allow, compressed or not."""

import asyncio
import zlib
from collections.abc import AsyncIterable, Callable, Mapping
from functools import partial

from starlette.types import Receive

from services.settings import Limits
from stn_core.errors import BadBody, Overloaded, SlowBody, TooLarge, brief

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_IDENTITY = ("", "identity")
_MAX_DIGITS = 18


class ByteBudget:
    """The bytes that all requests being served may hold together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def lease(self) -> "ByteLease":
        """A share of the budget for one request: nothing yet."""
        return ByteLease(self)

    def check(self, count: int) -> None:
        """Overloaded if there is no room for so many more."""
        if self._used_bytes + count > self._limit_bytes:
            raise Overloaded(
                f"the requests being served hold {self._used_bytes} of {self._limit_bytes} bytes, and this one brings "
                f"{count}; try again later"
            )

    def take(self, count: int) -> None:
        self.check(count)
        self._used_bytes += count

    def give_back(self, count: int) -> None:
        self._used_bytes -= count


class ByteLease:
    """What one request holds of a ByteBudget; given back at the end of the ``with`` block."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held_bytes = 0

    def __enter__(self) -> "ByteLease":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._held_bytes)

    def check(self, count: int) -> None:
        """Overloaded if so many bytes would not fit now; holds none of them."""
        self._budget.check(count)

    def hold(self, count: int) -> None:
        """Raises what the request holds to at least ``count`` bytes."""
        if count > self._held_bytes:
            self._budget.take(count - self._held_bytes)
            self._held_bytes = count


async def read_body(
    headers: Mapping[str, str], stream: AsyncIterable[bytes], limits: Limits, lease: ByteLease
) -> bytes:
    """The decompressed body; TooLarge as soon as it is known to be larger than allowed, SlowBody if it trickles."""
    announced = whole_number(headers, "content-length")
    if announced is not None:
        check_size(announced, limits.max_request_bytes)
        lease.check(announced)  # and held when they are here: who announces much and sends little keeps nobody out
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in _IDENTITY and encoding not in _WINDOW_BITS:
        raise BadBody(f"content-encoding: expected gzip, deflate or none, got {brief(encoding)}")
    chunks: list[bytes] = []
    size, patience_s = 0, min(limits.body_timeout_s, limits.request_timeout_s)
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in stream:
                if not chunk:
                    continue
                size += len(chunk)
                check_size(size, limits.max_request_bytes)
                lease.hold(size)
                chunks.append(chunk)
    except TimeoutError:
        raise SlowBody(
            f"expected the whole body within {patience_s:g} s, got {size} bytes of it; send fewer images at once"
        ) from None
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if encoding in _IDENTITY:
        return body
    plain = await asyncio.to_thread(decompress, body, encoding, limits.max_request_bytes)
    lease.hold(size + len(plain))
    return plain


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """``body`` without its gzip or deflate (zlib) coding; stops at ``max_bytes``, whatever the body would expand to."""
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadBody(f"content-encoding: the body is not valid {encoding} ({error})") from None
    if len(plain) > max_bytes:
        raise TooLarge(f"the body expands to more than the {max_bytes} bytes allowed; send fewer images at once")
    if not decompressor.eof:
        raise BadBody(f"content-encoding: the {encoding} body ends too early")
    if decompressor.unused_data:
        raise BadBody(f"content-encoding: {len(decompressor.unused_data)} bytes follow the end of the {encoding} body")
    return plain


def client_gone(receive: Receive) -> Callable[[], bool] | None:
    """Tells whether the client has left, which uvicorn knows at any time; None where another server calls us."""
    cycle = getattr(receive, "__self__", None)
    return partial(getattr, cycle, "disconnected") if hasattr(cycle, "disconnected") else None


def whole_number(headers: Mapping[str, str], name: str) -> int | None:
    """The number in the header ``name``, None without that header; BadBody if it is none."""
    text = headers.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:  # int() refuses thousands of digits
        raise BadBody(f"{name}: expected a whole number of at most {_MAX_DIGITS} digits, got {brief(text)}")
    return int(text)


def check_size(size: int, most: int) -> None:
    """TooLarge for a body of more bytes than ``most``."""
    if size > most:
        raise TooLarge(f"expected a body of at most {most} bytes, got {size} or more; send fewer images")
