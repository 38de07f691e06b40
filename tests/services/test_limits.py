"""Each limit on what one request may ask for holds on every way in: the protocol over HTTP, files, and gRPC."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import IDENTITY, LIMITS, client_of, infer, make_links, make_settings
from grpc_in_process import inputs_of, methods_over, served
from http_calls import encoded, problem
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

# One image more, one byte more, one pixel more than the limits of ``make_settings``, by the limit.
TOO_MUCH = {
    "max_request_bytes": np.zeros((1, 1, LIMITS["max_request_bytes"] + 1, 1), np.uint8),
    "max_images": np.zeros((LIMITS["max_images"] + 1, 2, 2, 1), np.uint8),
    "max_pixels_per_image": np.zeros((1, 100, 101, 1), np.uint8),
    "max_side_px": np.zeros((1, 1, 9001, 1), np.uint8),
    "max_decoded_bytes": np.zeros((21, 40, 100, 1), np.uint8),
}
EXPECTED = {
    "max_request_bytes": "at most 100000 bytes",
    "max_images": "at most 50",
    "max_pixels_per_image": "at most 10000 pixels",
    "max_side_px": "at most 9000 px",
    "max_decoded_bytes": "at most 80000 bytes",
}
SMALL = {"max_side_px": 9000, "max_decoded_bytes": 80_000}
RECIPE = {"recipe": "rotation", "seed": 0}


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(**SMALL)
    async with client_of(make_links(engine, settings), settings) as client:
        yield client


def as_files(images: np.ndarray) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{index}.png", encoded(image))) for index, image in enumerate(images)]


@pytest.mark.parametrize("limit", TOO_MUCH)
async def test_over_http(http: httpx.AsyncClient, limit: str) -> None:
    images = TOO_MUCH[limit]
    theta = np.repeat(IDENTITY[:1], len(images), axis=0)
    answer = await infer(http, "warp", {"images": images, "theta": theta})
    assert EXPECTED[limit] in problem(answer, 413, "too-large")


@pytest.mark.parametrize("limit", TOO_MUCH)
async def test_with_files(http: httpx.AsyncClient, limit: str) -> None:
    if limit == "max_request_bytes":
        files = [("image", ("x.png", bytes(LIMITS[limit] + 1)))]
    else:
        files = as_files(TOO_MUCH[limit])
    answer = await http.post("/v1/augment", files=files, data={"recipe": "rotation"})
    if answer.status_code == 200:  # of several files, those within the limits are answered
        assert answer.json()["results"][-1]["error"]["status"] == 413
        assert EXPECTED[limit] in answer.text
    else:
        assert EXPECTED[limit] in problem(answer, 413, "too-large")


@pytest.mark.parametrize("limit", TOO_MUCH)
async def test_over_grpc(engine: Any, limit: str) -> None:
    settings = make_settings(**SMALL)
    methods = methods_over(make_links(engine, settings), settings)
    async with served(methods) as address, InferenceServerClient(address) as client:
        inputs = inputs_of({"images": TOO_MUCH[limit]})
        with pytest.raises(InferenceServerException) as caught:
            await client.infer("augment", inputs, parameters=RECIPE)
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert EXPECTED[limit] in str(caught.value.message())


@pytest.mark.parametrize("route", ["/v2/models/predict/infer", "/v1/predict"])
async def test_a_gzip_bomb_stops_at_the_limit(http: httpx.AsyncClient, route: str) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < LIMITS["max_request_bytes"]
    answer = await http.post(route, content=bomb, headers={"content-encoding": "gzip", "content-type": "image/png"})
    assert "expands to more than the 100000 bytes" in problem(answer, 413, "too-large")
