"""The HTTP side in process: every route, every error, with the real stages over the shipped bundle."""

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import IDENTITY, RECIPE, client_of, infer, make_links, make_settings
from http_calls import binary, outputs, problem

from stn_core.errors import Overloaded, StnError


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_server_metadata_names_the_limits(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.json()["limits"]["max_images"] == 50


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/augment/versions/1/ready"])
async def test_health(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_model_routes_with_and_without_version(http: httpx.AsyncClient, images: np.ndarray, version: str) -> None:
    metadata = (await http.get(f"/v2/models/predict{version}")).json()
    assert metadata["versions"] == ["1"]
    names = ["label", "probabilities", "theta", "rectified"]
    assert [tensor["name"] for tensor in metadata["outputs"]] == [*names, *metadata["parameters"]["optional_outputs"]]
    assert (await http.get(f"/v2/models/predict{version}/ready")).json() == {"name": "predict", "ready": True}
    answer = await http.post(f"/v2/models/predict{version}/infer", **binary({"images": images}))
    assert list(outputs(answer).outputs) == names


async def test_every_model_answers_what_its_metadata_says(http: httpx.AsyncClient, images: np.ndarray) -> None:
    given = {
        "predict": ({"images": images}, {"max_scale": 3.0}),
        "rectify": ({"images": images}, {"min_confidence": 0.5}),
        "straighten": ({"images": images}, {"min_confidence": 0.5}),
        "classify": ({"images": images}, {}),
        "warp": ({"images": images, "theta": IDENTITY}, {}),
        "augment": ({"images": images}, RECIPE),
    }
    for model, (inputs, parameters) in given.items():
        answer = outputs(await infer(http, model, inputs, parameters=parameters))
        for tensor in (await http.get(f"/v2/models/{model}")).json()["outputs"]:
            array = answer.outputs[tensor["name"]]
            assert array.ndim == len(tensor["shape"])
            pairs = zip(array.shape, tensor["shape"], strict=True)
            assert all(said in (-1, side) for side, said in pairs), (model, tensor)


async def test_only_what_was_asked_comes_back(http: httpx.AsyncClient, images: np.ndarray) -> None:
    for model, names in {"predict": ["label"], "rectify": ["theta"], "augment": ["exact", "images"]}.items():
        answer = await infer(http, model, {"images": images}, outputs=names, parameters=RECIPE)
        assert list(outputs(answer).outputs) == names


async def test_theta_alone_equals_theta_beside_the_images(http: httpx.AsyncClient, images: np.ndarray) -> None:
    both = outputs(await infer(http, "rectify", {"images": images})).outputs["theta"]
    alone = outputs(await infer(http, "rectify", {"images": images}, outputs=["theta"])).outputs["theta"]
    np.testing.assert_array_equal(alone, both)


async def test_the_body_limit_holds_with_and_without_a_length(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 10_000
            yield b"0" * 10_000

    announced = await http.post("/v2/models/predict/infer", content=b"0" * 100_001)
    assert "at most 100000 bytes" in problem(announced, 413, "too-large")
    problem(await http.post("/v2/models/predict/infer", content=endless()), 413, "too-large")
    assert sent <= 200_000  # the rest was not asked for


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies(http: httpx.AsyncClient, images: np.ndarray, encoding: str, pack: Any) -> None:
    message = binary({"images": images})
    headers = {**message["headers"], "content-encoding": encoding}

    async def post(body: bytes) -> httpx.Response:
        return await http.post("/v2/models/predict/infer", content=body, headers=headers)

    packed = pack(message["content"])
    assert outputs(await post(packed)).outputs["label"].shape == (3,)
    assert "expands to more" in problem(await post(pack(b"0" * 5_000_000)), 413, "too-large")
    assert "ends too early" in problem(await post(packed[:-9]), 400, "bad-body")
    assert "follow the end" in problem(await post(packed + b"xx"), 400, "bad-body")
    assert "not valid" in problem(await post(b"plain"), 400, "bad-body")


async def test_an_unknown_encoding(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v2/models/predict/infer", content=b"{}", headers={"content-encoding": "br"})
    assert "expected gzip, deflate or none, got 'br'" in problem(answer, 400, "bad-body")


@pytest.mark.parametrize("name", ["inference-header-content-length", "content-length"])
@pytest.mark.parametrize("length", ["-1", "x", "1e3", "²", "9" * 5000])
async def test_a_length_that_is_none(http: httpx.AsyncClient, name: str, length: str) -> None:
    answer = await http.post("/v2/models/predict/infer", content=b"{}", headers={name: length.encode()})
    detail = problem(answer, 400, "bad-body")
    assert detail.startswith(f"{name}: expected a whole number")
    assert len(detail) < 300


async def test_a_header_length_past_the_body(http: httpx.AsyncClient) -> None:
    headers = {"inference-header-content-length": "9999"}
    problem(await http.post("/v2/models/predict/infer", content=b"{}", headers=headers), 400, "bad-body")


async def test_an_unknown_output_is_refused(http: httpx.AsyncClient, images: np.ndarray) -> None:
    answer = await infer(http, "predict", {"images": images}, outputs=["logits"])
    assert "label, probabilities, theta, rectified" in problem(answer, 400, "bad-tensor")


async def test_unknown_routes_models_versions_and_methods(http: httpx.AsyncClient) -> None:
    problem(await http.get("/elsewhere"), 404, "unknown-route")
    problem(await http.get("/v2/health/ready/"), 404, "unknown-route")
    problem(await http.get("/v2/models/nobody"), 404, "unknown-model")
    problem(await http.get("/v2/models/predict/versions/2/ready"), 404, "unknown-model")
    assert len(problem(await http.get(f"/v2/models/{'x' * 3000}"), 404, "unknown-model")) < 300
    wrong = await http.get("/v2/models/predict/infer")
    problem(wrong, 405, "wrong-method")
    assert "POST" in wrong.headers["allow"]


async def test_a_request_may_ask_for_a_shorter_timeout(http: httpx.AsyncClient, images: np.ndarray) -> None:
    answer = await infer(http, "predict", {"images": images}, parameters={"timeout": 1})
    assert "within 1e-06 s" in problem(answer, 504, "timed-out")
    answer = await infer(http, "predict", {"images": images}, parameters={"timeout": "soon"})
    assert "microseconds" in problem(answer, 400, "bad-body")
    outputs(await infer(http, "predict", {"images": images}, parameters={"timeout": 20_000_000}))


class Odd:
    """A stage link that fails in a way of choice."""

    def __init__(self, error: Exception | None = None, ready: bool = True, seconds: float = 0.0) -> None:
        self.error, self.is_ready, self.seconds = error, ready, seconds

    async def call(self, operation: Any, columns: Any) -> Any:
        await asyncio.sleep(self.seconds)
        raise self.error or AssertionError

    async def ready(self) -> bool:
        return self.is_ready


async def test_a_failing_stage_fails_its_models_alone_and_tells_no_secrets(
    engine: Any, images: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"classifier": Odd(RuntimeError("secret"))}
    logging.getLogger("ray.serve").propagate = True
    async with client_of(links, settings) as http:
        message = binary({"images": images})
        message["headers"]["x-request-id"] = "r-17"
        answer = await http.post("/v2/models/predict/infer", **message)
        assert "r-17" in problem(answer, 500, "internal")
        assert "secret" not in answer.text
        outputs(await infer(http, "rectify", {"images": images}))
    assert any("r-17" in record.getMessage() for record in caplog.records)
    assert "secret" in caplog.text


async def test_errors_of_stages_keep_their_kind(engine: Any, images: np.ndarray) -> None:
    settings = make_settings()
    for error, status, code in [(Overloaded("full", 2.5), 503, "overloaded"), (StnError("odd"), 500, "internal")]:
        links = make_links(engine, settings) | {"rectifier": Odd(error)}
        async with client_of(links, settings) as http:
            answer = await infer(http, "rectify", {"images": images})
            problem(answer, status, code)
            assert answer.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_an_unready_stage_makes_its_models_unready(engine: Any) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"classifier": Odd(ready=False)}
    async with client_of(links, settings) as http:
        assert "classifier" in problem(await http.get("/v2/health/ready"), 503, "unavailable")
        problem(await http.get("/v2/models/predict/ready"), 503, "unavailable")
        assert (await http.get("/v2/models/rectify/ready")).status_code == 200
        assert (await http.get("/v2/health/live")).status_code == 200


async def test_a_slow_stage_times_out(engine: Any, images: np.ndarray) -> None:
    settings = make_settings(request_timeout_s=0.05)
    links = make_links(engine, settings) | {"classifier": Odd(seconds=5)}
    async with client_of(links, settings) as http:
        problem(await infer(http, "classify", {"images": images}), 504, "timed-out")


async def test_bodies_in_flight_are_bounded_together(engine: Any) -> None:
    settings = make_settings(max_bytes_in_flight=100_000, request_timeout_s=0.3)
    links = make_links(engine, settings) | {"classifier": Odd(seconds=5)}
    images = np.zeros((40, 28, 28, 1), np.uint8)
    async with client_of(links, settings) as http:
        answers = await asyncio.gather(*(infer(http, "classify", {"images": images}) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [503, 503, 504, 504, 504]
        problem(await infer(http, "classify", {"images": images}), 504, "timed-out")  # the room was given back
