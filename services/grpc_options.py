"""How gRPC is switched on: its part of a deploy config, where it listens, and whether it answers."""

from __future__ import annotations

import os
from typing import Any

from services.deploy_config import settings_by_application
from services.grpc_methods import ADD_TO_SERVER, HOST_VARIABLE, SERVICE, grpc_address
from stn_core.errors import InvalidInput

SIZE_VARIABLE = "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE"
_RAYS_PORT = 9000
_ANSWER_TIMEOUT_S = 5.0
_READY = b"\x08\x01"  # the message ServerReadyResponse(ready=True)


def prepare_grpc(config: dict[str, Any], host: str, port: int | None) -> int | None:
    """Has ``config`` serve gRPC at ``port``, where it says itself if None; the port, or None without gRPC.

    Sets what Ray's processes must find in their environment to listen at ``host`` alone and to bound a message.
    """
    options = config.get("grpc_options") or {}
    if port is not None:
        others = [name for name in options.get("grpc_servicer_functions", ()) if name != ADD_TO_SERVER]
        # Ray's reflection knows the messages of generated code alone.
        options = {"enable_reflection": False, **options, "port": port}
        config["grpc_options"] = {**options, "grpc_servicer_functions": [*others, ADD_TO_SERVER]}
    elif not options.get("grpc_servicer_functions"):
        return None
    http_port, grpc_port = config["http_options"]["port"], int(config["grpc_options"].get("port", _RAYS_PORT))
    if http_port == grpc_port:
        raise InvalidInput(f"expected a port each for HTTP and gRPC, got {grpc_port} for both; choose another for gRPC")
    os.environ.setdefault(HOST_VARIABLE, host)
    limits = [settings.limits for settings in settings_by_application(config).values()]
    # A request's images or an answer's, whichever may be more, and as much again for what comes beside them.
    most_bytes = [2 * max(limit.max_request_bytes, limit.max_decoded_bytes) for limit in limits]
    if most_bytes:
        os.environ.setdefault(SIZE_VARIABLE, str(max(most_bytes)))
    return grpc_port


def grpc_answers(config: dict[str, Any], host: str) -> bool:
    """Whether every application of ours that ``config`` has served over gRPC says that it is ready."""
    options = config.get("grpc_options") or {}
    if ADD_TO_SERVER not in options.get("grpc_servicer_functions", ()):
        return True
    import grpc

    with grpc.insecure_channel(grpc_address(host, options.get("port", _RAYS_PORT))) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ServerReady")
        try:
            return all(
                ask(b"", timeout=_ANSWER_TIMEOUT_S, metadata=(("application", name),)) == _READY
                for name in settings_by_application(config)
            )
        except grpc.RpcError:
            return False
