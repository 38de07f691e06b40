"""The routes around inference: the index, load and unload, and what is not served."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from gateway_in_process import client_of, make_links, make_settings
from http_calls import problem

INDEX = "/v2/repository/index"


class Unready:
    """A stage link that is not warm."""

    async def call(self, operation: Any, columns: Any) -> Any:
        raise AssertionError

    async def ready(self) -> bool:
        return False


@pytest.fixture
async def half_ready(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway whose classifier is not warm."""
    settings = make_settings(request_timeout_s=0.3)
    async with client_of(make_links(engine, settings) | {"classifier": Unready()}, settings) as client:
        yield client


async def test_the_index_names_what_is_missing(half_ready: httpx.AsyncClient) -> None:
    everything = (await half_ready.post(INDEX)).json()
    assert everything[0] == {
        "name": "predict",
        "version": "1",
        "state": "UNAVAILABLE",
        "reason": "not ready: the classifier",
    }
    assert {entry["name"]: entry["state"] for entry in everything} == {
        "predict": "UNAVAILABLE",
        "straighten": "UNAVAILABLE",
        "rectify": "READY",
        "classify": "UNAVAILABLE",
        "warp": "READY",
        "augment": "READY",
        "map": "READY",
    }
    assert (await half_ready.post(INDEX, json={"ready": False})).json() == everything
    ready = (await half_ready.post(INDEX, json={"ready": True})).json()
    assert ready == [entry for entry in everything if entry["state"] == "READY"]
    assert all(entry["reason"] == "" for entry in ready)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "does not parse"),
        (b"[]", "expected a JSON object or nothing, got list"),
        (b'{"ready": 1}', "ready: expected true or false, got 1"),
    ],
)
async def test_a_bad_body(http: httpx.AsyncClient, body: bytes, expected: str) -> None:
    assert expected in problem(await http.post(INDEX, content=body), 400, "bad-body")


async def test_a_body_is_bounded_in_bytes_and_in_time(half_ready: httpx.AsyncClient) -> None:
    large = json.dumps({"parameters": {"file:1/model": "x" * 70_000}})
    problem(await half_ready.post("/v2/repository/models/predict/load", content=large), 413, "too-large")

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    assert "within 0.3 s" in problem(await half_ready.post(INDEX, content=trickle()), 408, "slow-body")


async def test_load_says_whether_the_model_is_there(half_ready: httpx.AsyncClient) -> None:
    assert (await half_ready.post("/v2/repository/models/rectify/load")).json() == {}
    waiting = await half_ready.post("/v2/repository/models/predict/load")
    assert "model predict: the classifier is not ready yet" in problem(waiting, 503, "unavailable")
    assert waiting.headers["retry-after"] == "1"
    for odd in (None, [], False, 0, ""):
        refused = await half_ready.post("/v2/repository/models/rectify/load", json={"parameters": odd})
        assert "expected a JSON object" in problem(refused, 400, "bad-body")
    foreign = await half_ready.post("/v2/repository/models/rectify/load", json={"parameters": {"config": "{}"}})
    assert "deploy the service with another bundle" in problem(foreign, 501, "unsupported")
    problem(await half_ready.post("/v2/repository/models/nobody/load"), 404, "unknown-model")


async def test_unload_says_what_to_do_instead(http: httpx.AsyncClient) -> None:
    body = {"parameters": {"unload_dependents": False}}
    answer = await http.post("/v2/repository/models/rectify/unload", json=body)
    assert "stop the service, or deploy it again with another bundle" in problem(answer, 501, "unsupported")
    problem(await http.post("/v2/repository/models/nobody/unload"), 404, "unknown-model")


async def test_methods_of_these_routes(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", INDEX), ("POST", "/v2/models/stats"), ("PUT", "/v2/logging")):
        problem(await http.request(method, path), 405, "wrong-method")
