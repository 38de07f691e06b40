"""The real service as others see it: which ports are open to them, and that Ray asks for its token."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from service_process import STOP_S, launched, processes_marked, wait_for_url
from tls_front import make_certificate

from services.keys import KeyFile, new_key, write_keys
from services.listening import Listening, listening
from services.processes import free_ports

pytestmark = pytest.mark.service


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
