"""gRPC is switched on by a port or by the config, listens where it is told, and without either nothing is loaded."""

import asyncio
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import yaml
from service_process import REPOSITORY

from services.grpc_methods import ADD_TO_SERVER, HOST_VARIABLE, bind_grpc
from services.grpc_options import SIZE_VARIABLE, grpc_answers, prepare_grpc
from services.processes import free_ports
from stn_core.errors import InvalidInput

# Ray's own models.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sets the variables anew, and leaves them as they were."""
    for name in (HOST_VARIABLE, SIZE_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def config_with(limits: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())
    config["applications"][0]["args"]["limits"] = limits or {}
    return {**config, "grpc_options": options} if options else config


def test_without_a_port_or_options_there_is_no_grpc() -> None:
    for config in (config_with(), config_with(port=9000)):
        before = dict(config)
        assert prepare_grpc(config, "127.0.0.1", None) is None
        assert config == before
        assert grpc_answers(config, "127.0.0.1")
    assert HOST_VARIABLE not in os.environ
    assert SIZE_VARIABLE not in os.environ


def test_a_port_switches_it_on() -> None:
    config = config_with({"max_request_bytes": 5 * MIB, "max_decoded_bytes": 7 * MIB})
    assert prepare_grpc(config, "10.0.0.1", 9100) == 9100
    expected = {"port": 9100, "grpc_servicer_functions": [ADD_TO_SERVER], "enable_reflection": False}
    assert config["grpc_options"] == expected
    assert os.environ[HOST_VARIABLE] == "10.0.0.1"
    assert os.environ[SIZE_VARIABLE] == str(14 * MIB)


def test_a_config_switches_it_on_and_a_port_goes_before_its_own() -> None:
    functions = ["other.module.add", ADD_TO_SERVER]
    config = config_with(grpc_servicer_functions=functions)
    assert prepare_grpc(config, "127.0.0.1", None) == 9000
    config = config_with(port=9001, grpc_servicer_functions=functions, request_timeout_s=5)
    assert prepare_grpc(config, "127.0.0.1", 9002) == 9002
    assert config["grpc_options"]["grpc_servicer_functions"] == functions
    assert config["grpc_options"]["request_timeout_s"] == 5


def test_the_users_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOST_VARIABLE, "0.0.0.0")
    monkeypatch.setenv(SIZE_VARIABLE, "1000")
    prepare_grpc(config_with(), "127.0.0.1", 9000)
    assert (os.environ[HOST_VARIABLE], os.environ[SIZE_VARIABLE]) == ("0.0.0.0", "1000")


def test_http_and_grpc_have_a_port_each() -> None:
    with pytest.raises(InvalidInput, match="a port each for HTTP and gRPC, got 8000 for both"):
        prepare_grpc(config_with(), "127.0.0.1", 8000)


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


async def test_rays_grpc_servers_listen_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve._private import default_impl
    from ray.serve._private.grpc_util import start_grpc_server
    from ray.serve.config import gRPCOptions

    monkeypatch.setattr(default_impl, "add_grpc_address", default_impl.add_grpc_address)
    for host, elsewhere in ((None, True), ("127.0.0.1", False)):
        if host is not None:
            monkeypatch.setenv(HOST_VARIABLE, host)
        bind_grpc()
        (port,) = free_ports(1)
        options = gRPCOptions(port=port, grpc_servicer_functions=[ADD_TO_SERVER], enable_reflection=False)
        loop = asyncio.get_running_loop()
        task, server = await start_grpc_server(lambda **_: None, options, event_loop=loop)
        try:
            assert listens("127.0.0.1", port)
            assert listens("127.0.0.2", port) == elsewhere  # this machine too, by another address
        finally:
            await server.stop(None)
            await task


def test_an_application_that_is_not_there_does_not_answer() -> None:
    (port,) = free_ports(1)
    config = config_with()
    prepare_grpc(config, "127.0.0.1", port)
    assert not grpc_answers(config, "127.0.0.1")


def test_the_gateway_loads_nothing_of_it_before_it_is_asked() -> None:
    code = (
        "import sys, services.app, services.gateway; print([m for m in sys.modules if m.startswith('services.grpc')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['services.grpc_methods']"
