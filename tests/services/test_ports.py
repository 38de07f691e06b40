"""What HAProxy opens: the script that starts it keeps near what Ray has it open to all."""

import os
import subprocess
from pathlib import Path

import pytest

from services.launcher import environment
from services.listening import listening
from services.ports import INNER_HOST, RAYS_NETWORK, behind_haproxy, is_loopback

CONFIG = """global
    stats socket /x/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout client 300s
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
backend one
    server x 127.0.0.1:30000 check
frontend grpc_frontend
    # that `proto h2` is on the bind line
    bind 127.0.0.1:8001 proto h2
listen stats
  bind *:8404
"""


@pytest.mark.parametrize(("host", "bound"), [("0.0.0.0", "0.0.0.0"), ("::", "[::]"), ("127.0.0.1", "127.0.0.1")])
def test_the_front_alone_listens_where_it_is_told(tmp_path: Path, host: str, bound: str) -> None:
    made = behind_haproxy(str(tmp_path), {}, host)
    script = Path(made["RAY_SERVE_HAPROXY_BINARY_PATH"])
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG)
    assert script.stat().st_mode & 0o777 == 0o700
    for _ in range(2):
        subprocess.run([script, "-v", "-f", config], check=True, stdout=subprocess.DEVNULL)  # which binds nothing
    once = config.read_text()
    assert [line.strip() for line in once.splitlines() if line.strip().startswith("bind")] == [
        "bind 127.0.0.1:9101",
        f"bind {bound}:8000",
        f"bind {bound}:8001 proto h2",
        "bind 127.0.0.1:8404",
    ]
    assert "mode 600 level admin" in once
    assert once.count("defaults\n    timeout http-request 10s\n    mode http\n    timeout client 300s\n") == 1
    assert once.count("http-request") == 1
    assert "server x 127.0.0.1:30000 check" in once


def test_other_machines_and_binaries_of_ones_own_leave_it_to_ray(tmp_path: Path) -> None:
    for own in ({RAYS_NETWORK: "1"}, {"RAY_SERVE_HAPROXY_BINARY_PATH": "/usr/sbin/haproxy"}):
        assert not environment(own, str(tmp_path), haproxy=True).keys() & {*own, INNER_HOST}
    assert environment({}, str(tmp_path), haproxy=False)[RAYS_NETWORK] == "0"


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_is_this_machine_alone(host: str, near: bool) -> None:
    assert is_loopback(host) is near


def test_open_ports_are_seen_with_who_reaches_them() -> None:
    import socket

    opened = {}
    for host in ("127.0.0.1", "0.0.0.0"):
        server = socket.create_server((host, 0))
        opened[server.getsockname()[1]] = server
    found = {one.port: one for one in listening([os.getpid()]) if one.port in opened}
    assert [found[port].is_loopback for port in opened] == [True, False]
    for server in opened.values():
        server.close()
    assert not [one for one in listening([os.getpid()]) if one.port in opened]
