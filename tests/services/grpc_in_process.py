"""A gRPC server of this process over a gateway of this process, and what the Triton client asks it with."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.admission import Admission
from services.grpc_methods import GrpcMethods, add_to_server
from services.links import StageLink
from services.pipelines import Pipelines
from services.settings import Settings
from stn_core.bundle import read_manifest
from stn_core.tensors import datatype_of


def inputs_of(tensors: dict[str, np.ndarray]) -> list[InferInput]:
    """``tensors`` as the client's own inputs."""
    inputs = []
    for name, array in tensors.items():
        tensor = InferInput(name, list(array.shape), datatype_of(array))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def methods_over(links: dict[str, StageLink], settings: Settings) -> GrpcMethods:
    methods = GrpcMethods()
    pipelines = Pipelines(settings, links, read_manifest("digits"))
    methods.offer_grpc(pipelines, settings, Admission(settings.access))
    return methods


@contextlib.asynccontextmanager
async def served(methods: Any) -> AsyncIterator[str]:
    """The address of a server of ``methods``."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    add_to_server(methods, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def why_not(client: InferenceServerClient, inputs: Any, **options: Any) -> str:
    """What a request to ``classify`` is refused with."""
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("classify", inputs, **options)
    return str(caught.value.message())


async def asked(requests: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """The requests of a stream."""
    for request in requests:
        yield request
