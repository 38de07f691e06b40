"""The real service as others see it: which ports are open to them, who is let in, what their headers and bodies do."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from http_calls import binary, encoded, problem
from service_process import STOP_S, launched, processes_marked, wait_for_url
from stn_client import Client, NotAllowed
from tls_front import make_certificate, tls_front

from services.keys import KeyFile, new_key, read_keys, without_key, write_keys
from services.listening import Listening, listening
from services.processes import free_ports

pytestmark = pytest.mark.service

INFER = "/v2/models/predict/infer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
METADATA = "/inference.GRPCInferenceService/ServerMetadata"
PATIENCE_S = 60.0


class Service(NamedTuple):
    url: str
    port: int
    grpc_port: int
    mark: str
    keys: Path
    key: str
    certificate: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    @property
    def ports(self) -> list[Listening]:
        return listening(processes_marked(self.mark))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two services that are open to all interfaces, with a key, over HTTP and gRPC."""
    folder = tmp_path_factory.mktemp("security")
    path, output = folder / "keys.json", folder / "service.log"
    keys, key = new_key(KeyFile(), "tests")
    write_keys(path, keys)
    (grpc_port,) = free_ports(1)
    options = ("--host=0.0.0.0", f"--keys={path}", f"--grpc-port={grpc_port}")
    with launched("deploy/local.yaml", output, *options) as (process, port, mark):
        wait_for_url(process, output)
        assert "no API keys" not in output.read_text()
        certificate = make_certificate(folder)
        yield Service(f"http://127.0.0.1:{port}", port, grpc_port, mark, path, key, certificate)
        process.terminate()
        assert process.wait(STOP_S) == 0, output.read_text()
        assert not processes_marked(mark)


def test_nothing_but_the_service_itself_is_open_to_others(service: Service) -> None:
    found = service.ports
    assert {one.process for one in found} >= {"haproxy", "gcs_server", "raylet"}, "the look saw the processes"
    others = {(one.process, one.port) for one in found if not one.is_loopback}
    assert others == {("haproxy", service.port), ("haproxy", service.grpc_port)}
    assert len({one.port for one in found if one.process == "haproxy"}) == 4, "with its statistics and metrics"


def test_haproxys_admin_socket_is_its_users_alone(service: Service) -> None:
    (pid, *_) = [one.pid for one in service.ports if one.process == "haproxy"]
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    config = Path(os.fsdecode(command[command.index(b"-f") + 1]))
    (admin,) = re.findall(r"stats socket (\S+) mode 600 level admin", config.read_text())
    (folder,) = [folder for folder in Path(admin).parents if folder.name.startswith("stn-")]
    assert folder.stat().st_mode & 0o077 == 0


def test_rays_own_calls_are_refused_without_the_token(service: Service) -> None:
    """The port of every replica unpickles what it is sent: after it has seen the token."""
    refused = 0
    for one in service.ports:
        if not one.process.startswith("ray::ServeRepl"):
            continue
        with grpc.insecure_channel(f"127.0.0.1:{one.port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=30)
            refused += caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused >= 2, "one port of each replica"


@pytest.mark.parametrize(
    ("process", "calls"),
    [
        (
            "gcs_server",
            ["InternalKVGcsService/InternalKVPut", "JobInfoGcsService/AddJob", "NodeInfoGcsService/GetAllNodeInfo"],
        ),
        ("raylet", ["NodeManagerService/GetNodeStats", "NodeManagerService/CancelLocalTask"]),
    ],
)
def test_rays_store_and_scheduler_refuse_without_the_token(service: Service, process: str, calls: list[str]) -> None:
    """Who adds a job or reads the store of the cluster could run code in it."""
    for call in calls:
        refused = 0
        for one in service.ports:
            if one.process != process:
                continue
            with grpc.insecure_channel(f"127.0.0.1:{one.port}") as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=30)
                refused += caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert refused == 1, f"{call}: the process has one port for such calls"


def test_a_key_opens_both_ways_into_the_service(service: Service, digits: tuple[np.ndarray, np.ndarray]) -> None:
    image = digits[0][:1]
    picture = {"content": encoded(image[0]), "headers": {"content-type": "image/png"}}
    for route, message in ((INFER, binary({"images": image})), ("/v1/predict", picture)):
        sent = {**message, "timeout": 60}
        problem(httpx.post(service.url + route, **sent), 401, "not-allowed")
        answer = httpx.post(service.url + route, **{**sent, "headers": {**message["headers"], **service.headers}})
        assert answer.status_code == 200, answer.text
    problem(httpx.get(f"{service.url}/v2"), 401, "not-allowed")
    assert httpx.get(f"{service.url}/v2/health/ready").status_code == 200
    with Client(service.url, api_key=service.key) as client:
        assert len(client.predict(image).label) == 1
    with Client(service.url) as client, pytest.raises(NotAllowed, match="expected an API key"):
        client.predict(image)


def test_a_key_opens_grpc(service: Service) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METADATA)(b"", timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert channel.unary_unary(METADATA)(b"", timeout=60, metadata=(("x-api-key", service.key),))


def test_keys_are_exchanged_while_the_service_runs(service: Service) -> None:
    keys, key = new_key(read_keys(service.keys), "second")

    def status() -> int:
        return httpx.get(f"{service.url}/v2", headers={"x-api-key": key}).status_code

    assert status() == 401
    write_keys(service.keys, keys)
    until(lambda: status() == 200)
    service.keys.write_text("{ broken")
    time.sleep(1.5)
    assert status() == 200, "the keys of before hold"
    write_keys(service.keys, without_key(keys, "second"))
    until(lambda: status() == 401)
    assert httpx.get(f"{service.url}/v2", headers=service.headers).status_code == 200


@pytest.mark.parametrize("route", ["/v1/predict", INFER])
def test_a_body_without_an_end_is_read_to_the_limit_and_no_further(service: Service, route: str) -> None:
    for headers, status, most_bytes in ((service.headers, 413, 80 << 20), ({}, 401, 16 << 20)):
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            lines += "content-type: image/png\r\ntransfer-encoding: chunked\r\n"
            connection.sendall(f"POST {route} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
            chunk, sent = b"100000\r\n" + bytes(1 << 20) + b"\r\n", 0
            with contextlib.suppress(OSError):  # it stops listening
                while sent < most_bytes and not _readable(connection):
                    connection.sendall(chunk)
                    sent += 1 << 20
            assert f" {status} " in connection.recv(4096).decode("latin-1").splitlines()[0]
    assert httpx.get(f"{service.url}/v2/health/ready").status_code == 200


def test_headers_that_ray_heeds_do_nothing(service: Service) -> None:
    for value in ("0.000001", "-1", "x"):
        sent = {**service.headers, "x-request-timeout-seconds": value, "serve_multiplexed_model_id": "other"}
        answer = httpx.get(f"{service.url}/v1/recipes", headers=sent)
        assert answer.status_code == 200, answer.text


def test_over_tls(service: Service, digits: tuple[np.ndarray, np.ndarray]) -> None:
    near = f"127.0.0.1:{service.port}", f"127.0.0.1:{service.grpc_port}"
    with tls_front(service.certificate, *near) as (url, grpc_address, trusting):
        answer = httpx.post(url + INFER, **binary({"images": digits[0][:1]}), verify=trusting, timeout=60)
        problem(answer, 401, "not-allowed")
        with Client(url, api_key=service.key, verify=trusting) as client:
            assert len(client.predict(digits[0][:3]).label) == 3
        credentials = grpc.ssl_channel_credentials(service.certificate.read_bytes())
        with grpc.secure_channel(grpc_address, credentials) as channel:
            assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def _readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(PATIENCE_S)
