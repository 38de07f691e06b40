"""The methods of the v2 protocol over gRPC, as Ray Serve's gRPC ingress finds them; light, for every gateway has them.

A deploy config that names ``services.grpc_methods.add_to_server`` in ``grpc_options.grpc_servicer_functions`` serves
them. Messages travel as bytes, unread by Ray: the gateway alone knows what they mean.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from services.admission import Admission
    from services.grpc_gateway import GrpcGateway
    from services.pipelines import Pipelines
    from services.settings import Settings

SERVICE = "inference.GRPCInferenceService"
ADD_TO_SERVER = "services.grpc_methods.add_to_server"
HOST_VARIABLE = "STN_GRPC_HOST"
"""The environment variable that tells Ray's processes where their gRPC servers listen: Ray has no option for it."""

UNARY = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelInfer",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
STREAM = "ModelStreamInfer"
_INFER = f"/{SERVICE}/ModelInfer"


class GrpcMethods:
    """The protocol's methods, for the deployment that also speaks HTTP; Ray calls each by its name."""

    here: ClassVar[GrpcMethods | None] = None
    """Where inference goes by a short cut past Ray, as over HTTP (``services/middleware.py``), if it does."""

    def offer_grpc(self, pipelines: Pipelines, settings: Settings, admission: Admission) -> None:
        """Has the methods answer with ``pipelines`` those whom ``admission`` lets in, from now on.

        Calls and streams under way end as they began.
        """
        self._offered = pipelines, settings, admission
        self.__dict__.pop("grpc_gateway", None)

    @cached_property
    def grpc_gateway(self) -> GrpcGateway:
        from services.grpc_gateway import GrpcGateway  # its messages are made when the first one comes

        return GrpcGateway(*self._offered)


def _unary(name: str) -> Any:
    async def method(self: GrpcMethods, message: bytes, grpc_context: Any) -> Any:
        return await self.grpc_gateway.answer(name, message, grpc_context)

    method.__name__ = name
    return method


async def _stream(self: GrpcMethods, messages: AsyncIterator[bytes], grpc_context: Any) -> AsyncIterator[Any]:
    async with aclosing(self.grpc_gateway.stream(messages, grpc_context.invocation_metadata() or ())) as answers:
        async for answer in answers:
            yield answer


for _name in UNARY:
    setattr(GrpcMethods, _name, _unary(_name))
_stream.__name__ = STREAM
setattr(GrpcMethods, STREAM, _stream)


def add_to_server(servicer: Any, server: Any) -> None:
    """Registers the methods with a gRPC server, as generated ``add_..._to_server`` functions do."""
    import grpc

    # What comes stays bytes, which pass from process to process as they are.
    encode = {"response_serializer": lambda answer: answer.SerializeToString()}
    unary = {name: getattr(servicer, name) for name in UNARY}
    methods = {name: grpc.unary_unary_rpc_method_handler(method, **encode) for name, method in unary.items()}
    methods[STREAM] = grpc.stream_stream_rpc_method_handler(getattr(servicer, STREAM), **encode)
    server.add_generic_rpc_handlers((_Methods(methods, grpc.unary_unary_rpc_method_handler(_infer_here, **encode)),))


class _Methods:
    """The service as a gRPC server looks it up; Ray Serve puts handlers of its own into ``_method_handlers``."""

    def __init__(self, methods: dict[str, Any], short_cut: Any) -> None:
        self._method_handlers = {f"/{SERVICE}/{name}": handler for name, handler in methods.items()}
        self._short_cut = short_cut

    def service_name(self) -> str:
        return SERVICE

    def service(self, call: Any) -> Any:
        """The handler of ``call``; None if the method is none of ours."""
        if call.method == _INFER and GrpcMethods.here is not None:
            return self._short_cut
        return self._method_handlers.get(call.method)


async def _infer_here(message: bytes, context: Any) -> Any:
    assert GrpcMethods.here is not None
    return await GrpcMethods.here.grpc_gateway.answer("ModelInfer", message, context)


def bind_grpc() -> None:
    """Has Ray's gRPC servers of this process listen at the address in the environment, if there is one."""
    host = os.environ.get(HOST_VARIABLE)
    if host is None:
        return
    from ray.serve._private import default_impl

    def add_grpc_address(server: Any, all_interfaces: str) -> None:
        server.add_insecure_port(grpc_address(host, all_interfaces.rpartition(":")[2]))

    default_impl.add_grpc_address = add_grpc_address


def grpc_address(host: str, port: int | str) -> str:
    """``host`` and ``port`` as gRPC wants them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
