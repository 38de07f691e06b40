"""Who is let in over HTTP and gRPC, by the real gateway in this process: keys, rates, and what stays open."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import gateway_of, infer, make_links, make_settings
from grpc_in_process import inputs_of, methods_over, served, why_not
from http_calls import encoded, outputs, problem
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.admission import OPEN_PATHS, Admission, admitted
from services.keys import KeyFile, new_key, write_keys
from services.settings import Access, Settings

INFER = "/v2/models/predict/infer"


def keys_in(folder: Path, **fields: Any) -> tuple[str, str]:
    """The path of a file with a key, and the key."""
    keys, secret = new_key(KeyFile(), "lab", **fields)
    write_keys(folder / "keys.json", keys)
    return str(folder / "keys.json"), secret


def client(engine: Any, access: Access, **headers: str) -> httpx.AsyncClient:
    settings = make_settings()
    app = admitted(gateway_of(make_links(engine, settings), settings).asgi_app(), Admission(access))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers)


def test_switched_off_it_is_not_there() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert admitted(app, Admission(Access())) is app


async def test_without_a_key_nothing_is_served_but_what_is_open(
    engine: Any, tmp_path: Path, images: np.ndarray
) -> None:
    path, secret = keys_in(tmp_path)
    async with client(engine, Access(keys_file=path)) as http:
        for method, route in (
            ("POST", INFER),
            ("POST", "/v2/models/predict/versions/1/infer"),
            ("POST", "/v1/predict"),
            ("GET", "/v2"),
            ("GET", "/v2/models/predict"),
            ("GET", "/v2/models/stats"),
            ("GET", "/v1/recipes"),
            ("GET", "/v1/shadow"),
            ("GET", "/metrics"),
            ("GET", "/nowhere"),
            ("POST", "/docs"),
            ("GET", "/docs/"),
            ("GET", "/playground"),
        ):
            answer = await http.request(method, route, content=b"0" * 100_001 if method == "POST" else None)
            assert problem(answer, 401, "not-allowed").startswith("expected an API key"), route
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert "lab" not in answer.text
        for route in ("/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
            assert (await http.get(route)).status_code == 200
        for route in OPEN_PATHS | {"/playground/app.js"}:  # open, whether this gateway has it or not
            assert (await http.get(route)).status_code in (200, 404)
        for route in ("/playground/..%2fv2", "/playground%2f..%2fv2/models/predict"):  # no path is made of another
            assert (await http.get(route)).status_code == 404
        answer = await http.get("/v2", headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer KEY"}, 200),
        ({"authorization": "bearer KEY"}, 200),
        ({"x-api-key": "KEY"}, 200),
        ({"authorization": "Basic dTpw", "x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer other", "x-api-key": "KEY"}, 401),
        ({"authorization": "KEY"}, 401),
        ({"authorization": "Basic KEY"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "stn_wrong"}, 401),
        ({"x-api-key": "\u00e9"}, 401),
        ({"cookie": "x-api-key=KEY"}, 401),
    ],
)
async def test_how_a_key_is_presented(engine: Any, tmp_path: Path, headers: dict[str, str], status: int) -> None:
    path, secret = keys_in(tmp_path)
    sent = {name: value.replace("KEY", secret).encode() for name, value in headers.items()}
    async with client(engine, Access(keys_file=path)) as http:
        assert (await http.get("/v2", headers=sent)).status_code == status  # type: ignore[arg-type]
        assert (await http.get("/v2", params={"api_key": secret})).status_code == 401, "an address is no secret"


async def test_all_refused_keys_get_one_answer(engine: Any, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    path, expired = keys_in(tmp_path, expires=datetime(2020, 1, 1, tzinfo=UTC))
    async with client(engine, Access(keys_file=path)) as http:
        answers = [
            await http.get("/v2", headers=headers) for headers in ({}, {"x-api-key": expired}, {"x-api-key": "x"})
        ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


async def test_metrics_are_open_where_the_settings_say_so(engine: Any, tmp_path: Path) -> None:
    path, _ = keys_in(tmp_path)
    async with client(engine, Access(keys_file=path, metrics_without_key=True)) as http:
        assert (await http.get("/metrics")).status_code != 401


async def test_images_are_counted_and_not_requests(engine: Any, tmp_path: Path, images: np.ndarray) -> None:
    path, secret = keys_in(tmp_path, images_per_s=0.001)
    async with client(engine, Access(keys_file=path), authorization=f"Bearer {secret}") as http:
        outputs(await infer(http, "predict", {"images": images}))  # three of the one that there is
        answer = await infer(http, "predict", {"images": images})
        assert "at most 0.001 images a second" in problem(answer, 429, "rate-limited")
        assert 2990 < int(answer.headers["retry-after"]) <= 3000
        problem(await http.post("/v1/predict", content=encoded(images[0])), 429, "rate-limited")
        assert (await http.get("/v2/health/ready")).status_code == 200


async def test_the_images_of_files_count_too(engine: Any, images: np.ndarray) -> None:
    access = Access(images_per_s=2)
    async with client(engine, access) as http:
        form = [("image", (f"{index}.png", encoded(image))) for index, image in enumerate(images)]
        assert (
            await http.post("/v1/augment", files=form, data={"recipe": "rotation", "copies": "7"})
        ).status_code == 200
        answer = await http.post("/v1/predict", content=encoded(images[0]), headers={"content-type": "image/png"})
        problem(answer, 429, "rate-limited")
        assert 8 <= int(answer.headers["retry-after"]) <= 10  # 21 images at two a second


async def test_each_key_has_rates_of_its_own_or_the_services(engine: Any, tmp_path: Path) -> None:
    keys, slow = new_key(KeyFile(), "slow")
    keys, fast = new_key(keys, "fast", requests_per_s=1000)
    write_keys(tmp_path / "keys.json", keys)
    async with client(engine, Access(keys_file=str(tmp_path / "keys.json"), requests_per_s=0.001)) as http:
        for secret, statuses in ((slow, [200, 429, 429]), (fast, [200, 200, 200])):
            answers = [await http.get("/v2", headers={"x-api-key": secret}) for _ in range(3)]
            assert [answer.status_code for answer in answers] == statuses


async def test_without_keys_all_share_one_rate(engine: Any) -> None:
    async with client(engine, Access(requests_per_s=0.001)) as http:
        assert (await http.get("/v2")).status_code == 200
        answer = await http.get("/v2")
        assert "requests a second" in problem(answer, 429, "rate-limited")
        assert int(answer.headers["retry-after"]) > 100


@pytest.fixture
async def grpc_with(engine: Any, tmp_path: Path) -> AsyncIterator[tuple[InferenceServerClient, str]]:
    path, secret = keys_in(tmp_path, images_per_s=0.001)
    settings = Settings.model_validate({**make_settings().model_dump(), "access": {"keys_file": path}})
    async with (
        served(methods_over(make_links(engine, settings), settings)) as address,
        InferenceServerClient(address) as asked,
    ):
        yield asked, secret


async def test_grpc_asks_for_a_key_in_its_metadata(
    grpc_with: tuple[InferenceServerClient, str], images: np.ndarray
) -> None:
    asked, secret = grpc_with
    assert await asked.is_server_live()
    assert await asked.is_server_ready()
    inputs = inputs_of({"images": images})
    for headers in (None, {"x-api-key": "wrong"}, {"authorization": "Bearer "}):
        with pytest.raises(InferenceServerException) as caught:
            await asked.infer("classify", inputs, headers=headers)
        assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        assert "expected an API key" in str(caught.value.message())
    with pytest.raises(InferenceServerException):
        await asked.get_server_metadata()
    await asked.infer("classify", inputs, headers={"authorization": f"Bearer {secret}"})
    assert "images a second" in await why_not(asked, inputs, headers={"x-api-key": secret})


async def test_a_stream_of_grpc_needs_a_key_and_is_counted(
    grpc_with: tuple[InferenceServerClient, str], images: np.ndarray
) -> None:
    asked, secret = grpc_with

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(2):
            yield {"model_name": "classify", "inputs": inputs_of({"images": images})}

    for headers, wanted in (({}, "expected an API key"), ({"x-api-key": secret}, None)):
        errors = [error async for _, error in asked.stream_infer(requests(), headers=headers)]
        assert len(errors) == 2
        assert errors[0] is None if wanted is None else all(wanted in str(error) for error in errors)
    errors = [error async for _, error in asked.stream_infer(requests(), headers={"x-api-key": secret})]
    assert all("images a second" in str(error) for error in errors)
