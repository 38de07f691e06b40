"""The straight way to the service, by sockets: it takes a fifth of the processor time that httpx takes for a request.

Requests are written as they travel; answers are read by ``http.client``.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from select import POLLIN, poll
from time import monotonic
from urllib.request import getproxies, proxy_bypass

import httpx

from stn_client.flow import Failure, Request, Response
from stn_client.transport import KEEP_ALIVE_S, MOST_IDLE, Settings, Timeouts, Trouble, body_headers

PLAIN_CODINGS = ("", "identity")
PORTS = {"http": 80, "https": 443}

# From the special to the general: the first that fits counts.
_TROUBLES: dict[type[Exception], Trouble] = {
    TimeoutError: Trouble.NO_ANSWER_IN_TIME,
    RemoteDisconnected: Trouble.ENDED,
    IncompleteRead: Trouble.ENDED,
    HTTPException: Trouble.UNREADABLE,
    OSError: Trouble.BROKEN,
}


def is_straight(settings: Settings) -> bool:
    """Whether the service is reached without a proxy, and without a transport of the caller's own."""
    url, proxies = settings.address.url, getproxies()
    by_proxy = (url.scheme in proxies or "all" in proxies) and not proxy_bypass(url.host)
    return settings.transport is None and not by_proxy


class SocketLink:
    """A ``Link`` by sockets. One request is under way on a connection; those that are idle are kept for the next."""

    def __init__(self, settings: Settings) -> None:
        url = settings.address.url
        self._settings = settings
        self._host, self._port = url.host, url.port or PORTS[url.scheme]
        self._context = httpx.create_ssl_context(settings.verify) if url.scheme == "https" else None
        self._base = url.raw_path.decode().rstrip("/")
        self._head = _lines({"host": url.netloc.decode(), **settings.address.headers})
        self._idle: deque[tuple[socket.socket, float]] = deque()
        self._is_closed = False

    def send(self, request: Request) -> Response | Failure:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        timeouts = Timeouts(self._settings, request)
        try:
            connection = self._kept() or self._opened(timeouts)
        except TimeoutError as error:
            return Trouble.NO_CONNECTION_IN_TIME.failure(self._settings, request.deadline, error)
        except OSError as error:
            return Trouble.NO_CONNECTION.failure(self._settings, request.deadline, error)
        try:
            return self._exchange(connection, request, timeouts)
        except BaseException as error:
            connection.close()
            for kind, trouble in _TROUBLES.items():
                if isinstance(error, kind):
                    return trouble.failure(self._settings, request.deadline, error)
            raise

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self._idle.pop()[0].close()

    def _exchange(self, connection: socket.socket, request: Request, timeouts: Timeouts) -> Response:
        head = (
            f"{request.method} {self._base}{request.path} HTTP/1.1\r\n{self._head}{_lines(body_headers(request))}\r\n"
        )
        first, *rest = request.parts or (b"",)
        is_sent = True
        connection.settimeout(timeouts.get("write"))
        try:
            connection.sendall(b"".join((head.encode("ascii"), first)))
            for part in rest:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):  # a server may refuse a request before it has read it all
            is_sent = False
        connection.settimeout(timeouts.get("read"))
        with HTTPResponse(connection, method=request.method) as answer:
            answer.begin()
            response = Response(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in PLAIN_CODINGS:
            raise HTTPException(f"it is packed by {coding}, which was not asked for")
        if is_sent and not answer.will_close and not self._is_closed and len(self._idle) < MOST_IDLE:
            self._idle.append((connection, monotonic()))
        else:
            connection.close()
        return response

    def _kept(self) -> socket.socket | None:
        """A connection that was kept, if the server did not close it; the youngest, so that the others may age."""
        while True:
            try:
                connection, since_s = self._idle.pop()
            except IndexError:
                return None
            if monotonic() - since_s < KEEP_ALIVE_S and not _is_readable(connection):
                return connection
            connection.close()

    def _opened(self, timeouts: Timeouts) -> socket.socket:
        connection = socket.create_connection((self._host, self._port), timeouts.get("connect"))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return connection
            connection.settimeout(timeouts.get("connect"))
            return self._context.wrap_socket(connection, server_hostname=self._host)
        except BaseException:
            connection.close()
            raise


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _is_readable(connection: socket.socket) -> bool:
    """Whether something came, which on an idle connection is its end."""
    waiting = poll()
    waiting.register(connection, POLLIN)
    return bool(waiting.poll(0))
