"""Every way to the service makes the same of what servers and proxies answer."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from protocol_server import Server
from stn_client import BadAnswer, Client, ConnectionFailed
from stn_client.address import Address
from stn_client.by_httpx import AsyncHttpxLink, HttpxLink
from stn_client.by_sockets import SocketLink, is_straight
from stn_client.flow import Failure, Repeat, Request, Response
from stn_client.transport import Settings

BODY = (b"head", memoryview(b"and the rest"))


class Scripted:
    """A server that gives each connection the same bytes, whatever is asked, and then ends it."""

    def __init__(self, answer: bytes, reads: bool = True) -> None:
        self.answer, self.reads = answer, reads
        self.received: list[bytes] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection:
                if self.reads:
                    self.received.append(connection.recv(2**16))
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(2**20):  # or what was not read would end the connection before the answer
                    pass


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(*arguments: Any, **options: Any) -> Scripted:
        servers.append(Scripted(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.listening.close()


def settings(url: str, **headers: str) -> Settings:
    return Settings(Address.of(url, None, headers), True, None, 5.0, 5.0)


def by_sockets(chosen: Settings, request: Request) -> Response | Failure:
    link = SocketLink(chosen)
    try:
        return link.send(request)
    finally:
        link.close()


def by_httpx(chosen: Settings, request: Request) -> Response | Failure:
    link = HttpxLink(chosen)
    try:
        return link.send(request)
    finally:
        link.close()


def by_asyncio(chosen: Settings, request: Request) -> Response | Failure:
    async def run() -> Response | Failure:
        link = AsyncHttpxLink(chosen)
        try:
            return await link.send(request)
        finally:
            await link.close()

    return asyncio.run(run())


Send = Callable[[Settings, Request], Response | Failure]


@pytest.fixture(params=[by_sockets, by_httpx, by_asyncio], ids=["sockets", "httpx", "asyncio"])
def send(request: pytest.FixtureRequest) -> Send:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Said: it\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nx-said: it\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nx-said: it\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-said: it\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-said: it\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_answers_come_in_many_forms(scripted: Callable[..., Scripted], send: Send, answer: bytes) -> None:
    response = send(settings(scripted(answer).url), Request("GET", "/v2"))
    assert isinstance(response, Response)
    assert (response.status, response.body, response.headers["x-said"]) == (200, b"hello", "it")


def test_a_request_is_written_as_http_says(scripted: Callable[..., Scripted], send: Send) -> None:
    server = scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    chosen = settings(f"{server.url}/below/", **{"X-Team": "digits"})
    send(chosen, Request("POST", "/v2/models/predict/infer", BODY, {"content-type": "application/octet-stream"}))
    head, _, _ = server.received[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert first == "POST /below/v2/models/predict/infer HTTP/1.1"
    assert headers["host"] == server.url.removeprefix("http://")
    assert headers["content-length"] == "16"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-team"] == "digits"
    assert len(headers) == len(lines)


@pytest.mark.parametrize(
    ("answer", "error", "repeat"),
    [
        (b"", ConnectionFailed, Repeat.AT_ONCE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", ConnectionFailed, Repeat.AT_ONCE),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", BadAnswer, Repeat.NEVER),
    ],
)
def test_half_an_answer_is_none(
    scripted: Callable[..., Scripted], send: Send, answer: bytes, error: type[Exception], repeat: Repeat
) -> None:
    failure = send(settings(scripted(answer).url), Request("GET", "/v2"))
    assert isinstance(failure, Failure)
    assert type(failure.error) is error
    assert failure.repeat is repeat


def test_what_is_no_http_is_an_error(scripted: Callable[..., Scripted], send: Send) -> None:
    failure = send(settings(scripted(b"SSH-2.0-OpenSSH_9.6\r\n").url), Request("GET", "/v2"))
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, BadAnswer | ConnectionFailed)


def test_a_refusal_counts_even_if_the_request_was_not_read(scripted: Callable[..., Scripted], send: Send) -> None:
    answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge"
    server = scripted(answer, reads=False)
    response = send(settings(server.url), Request("POST", "/v2", (b"x" * 2**20,) * 8))
    assert isinstance(response, Response)
    assert (response.status, response.body) == (413, b"large")


# --- which way is taken ----------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    with Client("http://stn.example") as client:
        client.server_ready()
    assert server.seen[0].path == "http://stn.example/v2/health/ready"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Client(server.url) as client:
        assert client.server_ready()
    assert server.seen[1].path == "/v2/health/ready"


def test_the_straight_way_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    assert is_straight(settings("http://stn.example"))
    assert not is_straight(settings("http://stn.example")._replace(transport=object()))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert is_straight(settings("http://stn.example"))
    assert not is_straight(settings("https://stn.example"))
    monkeypatch.setenv("no_proxy", "stn.example")
    assert is_straight(settings("https://stn.example"))


def test_a_closed_client_says_so(server: Server) -> None:
    client = Client(server.url)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.metadata()


def test_connections_that_were_idle_for_long_are_not_used_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.url) as client:
        client.metadata()
        client.metadata()
        monkeypatch.setattr("stn_client.by_sockets.KEEP_ALIVE_S", 0.0)
        client.metadata()
    connections = [seen.connection for seen in server.seen]
    assert connections[0] == connections[1] != connections[2]
