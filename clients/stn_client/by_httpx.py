"""The way to the service by httpx: for asyncio, through proxies, and over transports of the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from stn_client.flow import Failure, Repeat, Request, Response
from stn_client.transport import KEEP_ALIVE_S, MOST_IDLE, Settings, Timeouts, Trouble, body_headers

SLICE_BYTES = 2**20

# From the special to the general: the first that fits counts.
_TROUBLES: dict[type[Exception], Trouble] = {
    httpx.ConnectTimeout: Trouble.NO_CONNECTION_IN_TIME,
    httpx.TimeoutException: Trouble.NO_ANSWER_IN_TIME,
    httpx.ConnectError: Trouble.NO_CONNECTION,
    httpx.NetworkError: Trouble.BROKEN,
    httpx.RemoteProtocolError: Trouble.ENDED,
    httpx.ProxyError: Trouble.PROXY,
    httpx.RequestError: Trouble.UNREADABLE,
    OSError: Trouble.BROKEN,  # an alert of TLS, which httpx lets pass under asyncio
}


class HttpxLink:
    """A ``Link`` by httpx."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.Client(**_options(settings))

    def send(self, request: Request) -> Response | Failure:
        content = _slices(request) if request.parts else None
        try:
            return _response(self._http.request(content=content, **_arguments(self._settings, request)))
        except (httpx.RequestError, OSError) as error:
            return _failure(self._settings, request, error)

    def close(self) -> None:
        self._http.close()


class AsyncHttpxLink:
    """An ``AsyncLink`` by httpx."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.AsyncClient(**_options(settings))

    async def send(self, request: Request) -> Response | Failure:
        content = _async_slices(request) if request.parts else None
        deadline = request.deadline
        try:
            async with asyncio.timeout(None if deadline is None else deadline.left_s()):
                return _response(await self._http.request(content=content, **_arguments(self._settings, request)))
        except TimeoutError:
            if deadline is None:
                raise
            return Failure(deadline.passed(), Repeat.NEVER)
        except (httpx.RequestError, OSError) as error:
            return _failure(self._settings, request, error)

    async def close(self) -> None:
        await self._http.aclose()


def _options(settings: Settings) -> dict[str, Any]:
    """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``."""
    url = settings.address.url
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=MOST_IDLE, keepalive_expiry=KEEP_ALIVE_S)
    return {
        "base_url": url,
        "headers": settings.address.headers,
        "verify": settings.verify if url.scheme == "https" else False,  # certificates take long to load
        "transport": settings.transport,
        "limits": limits,
    }


def _arguments(settings: Settings, request: Request) -> dict[str, Any]:
    """Arguments for httpx's ``request``, the body aside."""
    return {
        "method": request.method,
        "url": request.path,
        "headers": body_headers(request),
        "extensions": {"timeout": Timeouts(settings, request)},  # which httpx asks before each step of a request
    }


def _slices(request: Request) -> Iterator[bytes]:
    """The body, without joining its parts: measured to halve the time that 8 MB take, and to cost 10 kB nothing.

    Slices, because httpx copies what is left of a chunk after each write to the socket.
    """
    for part in request.parts:
        view = memoryview(part)
        for start in range(0, len(view), SLICE_BYTES):
            yield view[start : start + SLICE_BYTES]  # type: ignore[misc]  # httpx only ever writes and measures it


async def _async_slices(request: Request) -> AsyncIterator[bytes]:
    for piece in _slices(request):
        yield piece


def _response(answer: httpx.Response) -> Response:
    return Response(answer.status_code, answer.headers, answer.content)


def _failure(settings: Settings, request: Request, error: Exception) -> Failure:
    trouble = next(trouble for kind, trouble in _TROUBLES.items() if isinstance(error, kind))
    return trouble.failure(settings, request.deadline, error)
