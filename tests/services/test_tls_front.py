"""The shipped configuration for TLS: valid, and it does what it says, before a server that tells what came."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from service_process import REPOSITORY
from tls_front import CONFIGS, environment, get_haproxy_binary, make_certificate, tls_front

LIMIT = 32 * 1024 * 1024


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers and the number of bytes that came."""

    def do_POST(self) -> None:  # the standard library's name
        left = size = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        content = json.dumps({"headers": {name.lower(): value for name, value in self.headers.items()}, "size": size})
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ssl.SSLContext]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        certificate = make_certificate(tmp_path_factory.mktemp("tls"))
        with tls_front(certificate, f"127.0.0.1:{server.server_port}") as (url, _, trusting):
            yield url, trusting
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_configuration_is_valid_without_a_warning(tmp_path: Path) -> None:
    variables, _, _ = environment(make_certificate(tmp_path), "127.0.0.1:1")
    for configs in (CONFIGS[:1], CONFIGS):
        command = [get_haproxy_binary(), "-c", "-dW", *(part for config in configs for part in ("-f", config))]
        checked = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_a_request_passes_without_what_others_may_not_say(front: tuple[str, ssl.SSLContext]) -> None:
    url, trusting = front
    sent = {
        "x-request-timeout-seconds": "-1",
        "x-request-disconnect-disabled": "?1",
        "x-session-id": "1",
        "serve_multiplexed_model_id": "m",
        "x-forwarded-for": "10.9.8.7",
        "authorization": "Bearer key",
        "x-request-id": "mine",
    }
    answer = httpx.post(url, content=b"123", headers=sent, verify=trusting)
    came = answer.json()["headers"]
    assert answer.headers["strict-transport-security"]
    assert (came["authorization"], came["x-request-id"]) == ("Bearer key", "mine")
    assert (came["x-forwarded-for"], came["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert not came.keys() & (sent.keys() - {"authorization", "x-request-id", "x-forwarded-for"})


def test_a_body_over_the_limit_is_refused_unsent(front: tuple[str, ssl.SSLContext]) -> None:
    url, trusting = front
    host, port = url.removeprefix("https://").split(":")
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        with trusting.wrap_socket(socket.create_connection((host, int(port)), 60), server_hostname=host) as connection:
            connection.sendall(f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode())
            if status == 200:
                connection.sendall(bytes(size))
            assert f" {status} " in connection.recv(4096).decode().splitlines()[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(front: tuple[str, ssl.SSLContext], version: ssl.TLSVersion) -> None:
    host, port = front[0].removeprefix("https://").split(":")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with socket.create_connection((host, int(port)), 30) as connection, pytest.raises(ssl.SSLError):
        old.wrap_socket(connection)


def test_plain_http_is_not_answered(front: tuple[str, ssl.SSLContext]) -> None:
    with contextlib.suppress(httpx.TransportError):
        assert httpx.get(front[0].replace("https", "http")).status_code == 400


def test_who_trickles_a_head_is_let_go_and_harms_nobody(front: tuple[str, ssl.SSLContext]) -> None:
    url, trusting = front
    host, port = url.removeprefix("https://").split(":")
    with trusting.wrap_socket(socket.create_connection((host, int(port)), 60), server_hostname=host) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\n")
        began_s = time.monotonic()
        assert httpx.post(url, content=b"1", verify=trusting).status_code == 200
        assert b" 408 " in slow.recv(4096)
        assert 5 < time.monotonic() - began_s < 50
