"""Streams of requests over gRPC, in process: their order, their errors, and clients that leave."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from gateway_in_process import make_links, make_settings
from grpc_in_process import asked, inputs_of, methods_over, served, why_not
from test_gateway import Odd
from tritonclient.grpc import service_pb2
from tritonclient.grpc.aio import InferenceServerClient

from services.grpc_gateway import MAX_STREAMED


@pytest.fixture
async def client(engine: Any) -> AsyncIterator[InferenceServerClient]:
    settings = make_settings()
    async with (
        served(methods_over(make_links(engine, settings), settings)) as address,
        InferenceServerClient(address) as connected,
    ):
        yield connected


async def test_a_stream_answers_in_order_and_goes_on_after_errors(
    client: InferenceServerClient, images: np.ndarray
) -> None:
    inputs = inputs_of({"images": images})
    models = ["rectify", "nobody", "predict"] * 10
    requests = [
        {"model_name": model, "inputs": inputs, "request_id": str(number)} for number, model in enumerate(models)
    ]
    answers = [answer async for answer in client.stream_infer(asked(requests))]
    assert len(answers) == len(requests)
    for number, ((result, error), model) in enumerate(zip(answers, models, strict=True)):
        if model == "nobody":
            assert "expected one of the models" in str(error)
            continue
        assert error is None
        response = result.get_response()
        assert (response.id, response.model_name) == (str(number), model)
        assert response.parameters["triton_final_response"].bool_param
        assert result.as_numpy("theta").shape == (3, 2, 3)


async def test_an_error_in_a_stream_names_its_request(client: InferenceServerClient) -> None:
    requests = [service_pb2.ModelInferRequest(model_name="nobody", id="q-9")]
    answers = [answer async for answer in client._client_stub.ModelStreamInfer(iter(requests))]
    assert [(one.infer_response.id, one.infer_response.model_name) for one in answers] == [("q-9", "nobody")]


class Gate:
    """A stage link that lets nobody through before as many as are wanted have come."""

    def __init__(self, link: Any, wanted: int) -> None:
        self._link, self._barrier = link, asyncio.Barrier(wanted)
        self.ready = link.ready

    async def call(self, operation: Any, columns: Any) -> Any:
        await self._barrier.wait()
        return await self._link.call(operation, columns)


async def test_a_streams_requests_are_worked_on_side_by_side(engine: Any, images: np.ndarray) -> None:
    settings = make_settings()
    links = make_links(engine, settings)
    links |= {"rectifier": Gate(links["rectifier"], 2)}
    inputs = inputs_of({"images": images})
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        requests = [{"model_name": "rectify", "inputs": inputs}, {"model_name": "rectify", "inputs": inputs}]
        answers = [answer async for answer in client.stream_infer(asked(requests))]
        assert [error for _, error in answers] == [None, None]


class Stuck(Odd):
    """A stage link that never answers, and says when it was asked to."""

    def __init__(self) -> None:
        super().__init__(seconds=60)
        self.asked = asyncio.Event()

    async def call(self, operation: Any, columns: Any) -> Any:
        self.asked.set()
        return await super().call(operation, columns)


async def test_a_client_that_leaves_its_stream_takes_its_bytes_with_it(engine: Any) -> None:
    settings, stuck = make_settings(max_bytes_in_flight=100_000), Stuck()
    links = make_links(engine, settings) | {"classifier": stuck}
    large = inputs_of({"images": np.zeros((30, 28, 28, 1), np.float32)})  # one of them fits
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        stream = client.stream_infer(
            asked([{"model_name": "classify", "inputs": large} for _ in range(MAX_STREAMED + 1)])
        )
        first = asyncio.ensure_future(anext(aiter(stream)))
        async with asyncio.timeout(20):
            await stuck.asked.wait()
            assert "of 100000 bytes" in await why_not(client, large, timeout=20_000)
            stream.cancel()
            while "of 100000 bytes" in await why_not(client, large, timeout=20_000):
                await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await first
