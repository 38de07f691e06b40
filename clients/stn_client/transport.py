"""What ``Client`` and ``AsyncClient`` share on the way to httpx: settings, the body in slices, typed failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from stn_client.errors import BadAnswer, ConnectionFailed
from stn_client.flow import Failure, Repeat, Request, Response
from stn_core import __version__
from stn_core.errors import InvalidInput, StnError, TimedOut

SLICE_BYTES = 2**20
# The service closes a connection after 5 idle seconds (uvicorn's default): closing it earlier ourselves leaves the
# race, in which it closes just as we send, to the rare case that `Repeat.AT_ONCE` is for.
KEEP_ALIVE_S = 4.0


def httpx_options(url: str, connect_timeout_s: float, read_timeout_s: float) -> dict[str, Any]:
    """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``; InvalidInput if one of ours makes no sense."""
    try:
        base_url = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidInput(f"url: expected http://host:port, got {url!r}: {error}") from None
    if base_url.scheme not in ("http", "https") or not base_url.host:
        raise InvalidInput(f"url: expected http://host:port, got {url!r}")
    for name, value in (("connect_timeout_s", connect_timeout_s), ("read_timeout_s", read_timeout_s)):
        if not value > 0:
            raise InvalidInput(f"{name}: expected seconds above 0, got {value!r}")
    return {
        "base_url": base_url,
        # A request waits for a free connection as long as it takes: each one in use has its own timeouts.
        "timeout": httpx.Timeout(read_timeout_s, connect=connect_timeout_s, pool=None),
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEP_ALIVE_S),
        # Tensors are large and the network is mostly near: packing them costs more time than it saves.
        "headers": {"user-agent": f"stn-client/{__version__}", "accept-encoding": "identity"},
    }


def slices(request: Request) -> Iterator[bytes]:
    """The body, without joining its parts: measured to halve the time that 8 MB take, and to cost 10 kB nothing.

    Slices, because httpx copies what is left of a chunk after each write to the socket.
    """
    for part in request.parts:
        view = memoryview(part)
        for start in range(0, len(view), SLICE_BYTES):
            yield view[start : start + SLICE_BYTES]  # type: ignore[misc]  # httpx only ever writes and measures it


def httpx_arguments(request: Request) -> dict[str, Any]:
    """Arguments for httpx's ``request``, the body aside."""
    headers = dict(request.headers)
    if request.parts:
        headers["content-length"] = str(sum(len(part) for part in request.parts))
    arguments: dict[str, Any] = {"method": request.method, "url": request.path, "headers": headers}
    if request.read_timeout_s is not None:
        arguments["timeout"] = httpx.Timeout(request.read_timeout_s, pool=None)
    return arguments


def response_of(answer: httpx.Response) -> Response:
    """An httpx response, read to its end, as a flow takes it."""
    return Response(answer.status_code, answer.headers, answer.content)


def failure_of(error: httpx.RequestError, url: object) -> Failure:
    """An httpx error as a typed one, with whether to try again."""
    kind = next(kind for kind in _FAILURES if isinstance(error, kind))
    make, what, repeat = _FAILURES[kind]
    said = str(error)
    return Failure(make(f"{url}: {what}{f' ({said})' if said else ''}"), repeat)


# From the special to the general: the first that fits says which error, what happened, and whether to try again.
_FAILURES: dict[type[httpx.RequestError], tuple[type[StnError], str, Repeat]] = {
    httpx.ConnectTimeout: (TimedOut, "no connection within connect_timeout_s", Repeat.NEVER),
    httpx.TimeoutException: (TimedOut, "no answer within read_timeout_s", Repeat.NEVER),
    httpx.ConnectError: (ConnectionFailed, "cannot connect; is the service running there?", Repeat.LATER),
    httpx.NetworkError: (ConnectionFailed, "the connection broke", Repeat.AT_ONCE),
    httpx.RemoteProtocolError: (ConnectionFailed, "the connection ended before the answer", Repeat.AT_ONCE),
    httpx.ProxyError: (ConnectionFailed, "the proxy refused the connection", Repeat.NEVER),
    httpx.RequestError: (BadAnswer, "the answer cannot be read", Repeat.NEVER),
}
