"""What is counted of requests and batches, and that the counts belong together."""

import asyncio
import time
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import IDENTITY, RECIPE, client_of, infer, make_links, make_settings
from http_calls import binary, outputs, problem

from services.batching import BatchReport, MicroBatcher
from services.settings import StageSettings
from services.statistics import ModelStatistics

STEPS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


async def of(http: httpx.AsyncClient, model: str) -> dict[str, Any]:
    (document,) = (await http.get(f"/v2/models/{model}/stats")).json()["model_stats"]
    assert document["name"] == model
    return document


def counts(document: dict[str, Any]) -> dict[str, int]:
    return {step: document["inference_stats"][step]["count"] for step in STEPS}


async def test_before_the_first_request_all_is_zero(http: httpx.AsyncClient) -> None:
    document = await of(http, "predict")
    assert counts(document) == dict.fromkeys(STEPS, 0)
    assert (document["inference_count"], document["execution_count"], document["last_inference"]) == (0, 0, 0)
    assert document["batch_stats"] == []


async def test_images_requests_and_batches_are_counted_apart(http: httpx.AsyncClient, images: np.ndarray) -> None:
    before_ms = time.time_ns() // 1_000_000
    for count in (3, 1, 3):
        outputs(await infer(http, "rectify", {"images": images[:count]}))
    document = await of(http, "rectify")
    assert (document["inference_count"], document["execution_count"]) == (7, 3)
    assert counts(document) == {**dict.fromkeys(STEPS, 3), "fail": 0}
    assert before_ms <= document["last_inference"] <= time.time_ns() // 1_000_000
    by_size = {batch["batch_size"]: batch for batch in document["batch_stats"]}
    assert {size: batch["compute_infer"]["count"] for size, batch in by_size.items()} == {1: 1, 3: 2}
    stats = document["inference_stats"]
    assert stats["compute_infer"]["ns"] == sum(batch["compute_infer"]["ns"] for batch in by_size.values())
    parts = sum(stats[step]["ns"] for step in STEPS[2:])
    assert 0 < parts <= stats["success"]["ns"] + 1000  # of rounding to whole nanoseconds
    assert (await of(http, "classify"))["inference_count"] == 0  # a model's own stages are no other model's requests


async def test_all_models_in_one_answer(http: httpx.AsyncClient, images: np.ndarray) -> None:
    outputs(await infer(http, "warp", {"images": images, "theta": IDENTITY}))
    outputs(await infer(http, "augment", {"images": images}, parameters=RECIPE))
    models = (await http.get("/v2/models/stats")).json()["model_stats"]
    assert {model["name"]: model["inference_count"] for model in models} == {
        "predict": 0,
        "rectify": 0,
        "straighten": 0,
        "classify": 0,
        "warp": 3,
        "augment": 3,
        "map": 0,
    }
    problem(await http.get("/v2/models/nobody/stats"), 404, "unknown-model")
    problem(await http.get("/v2/models/warp/versions/3/stats"), 404, "unknown-model")


async def test_failures_are_counted_wherever_they_come_from(engine: Any, images: np.ndarray) -> None:
    class Broken:
        async def call(self, operation: Any, columns: Any) -> Any:
            raise RuntimeError

        async def ready(self) -> bool:
            return True

    settings = make_settings()
    async with client_of(make_links(engine, settings) | {"rectifier": Broken()}, settings) as http:
        problem(await http.post("/v2/models/rectify/infer", content=b"{}"), 400, "bad-body")
        problem(await infer(http, "rectify", {"images": images}), 500, "internal")
        problem(await infer(http, "nobody", {"images": images}), 404, "unknown-model")
        document = await of(http, "rectify")
    assert counts(document) == {**dict.fromkeys(STEPS, 0), "fail": 2}
    assert document["inference_stats"]["fail"]["ns"] > 0
    assert (document["inference_count"], document["execution_count"], document["last_inference"]) == (0, 0, 0)


async def test_requests_that_shared_a_batch_each_count_its_time() -> None:
    reports: list[BatchReport] = []

    async def run(operation: Any, columns: Any) -> Any:
        await asyncio.sleep(0.01)
        return {"y": columns["x"]}

    batcher = MicroBatcher(run, StageSettings(max_batch_images=8, max_in_flight_batches=1), report=reports.append)
    columns = [{"x": np.zeros((count, 1))} for count in (2, 3)]
    await asyncio.gather(*(batcher.submit("op", given) for given in columns))
    (report,) = reports
    assert (report.images, report.pieces, report.requests) == (5, 2, 2)
    assert report.infer_s >= 0.01
    assert report.waited_s >= 0
    statistics = ModelStatistics("m", "1")
    statistics.add_batch(report)
    document = statistics.document()
    assert document["inference_stats"]["compute_infer"] == {"count": 2, "ns": 2 * int(report.infer_s * 1e9)}
    assert document["batch_stats"][0]["compute_infer"] == {"count": 1, "ns": int(report.infer_s * 1e9)}


async def test_a_request_in_slices_waits_once_and_runs_often() -> None:
    reports: list[BatchReport] = []

    async def run(operation: Any, columns: Any) -> Any:
        return {"y": columns["x"]}

    batcher = MicroBatcher(run, StageSettings(max_batch_images=4, max_in_flight_batches=1), report=reports.append)
    await batcher.submit("op", {"x": np.zeros((10, 1))})
    assert [report.images for report in reports] == [4, 4, 2]
    assert [report.requests for report in reports] == [1, 0, 0]
    statistics = ModelStatistics("m", "1")
    for report in reports:
        statistics.add_batch(report)
    document = statistics.document()
    assert document["execution_count"] == 3
    assert document["inference_stats"]["queue"]["count"] == document["inference_stats"]["compute_infer"]["count"] == 1


async def test_a_batch_that_failed_is_not_reported() -> None:
    reports: list[BatchReport] = []

    async def run(operation: Any, columns: Any) -> Any:
        raise RuntimeError

    batcher = MicroBatcher(run, StageSettings(), report=reports.append)
    with pytest.raises(RuntimeError):
        await batcher.submit("op", {"x": np.zeros((1, 1))})
    assert reports == []


async def test_reading_and_encoding_are_told_apart_from_running(http: httpx.AsyncClient, images: np.ndarray) -> None:
    await http.post("/v2/models/rectify/infer", **binary({"images": images}))
    stats = (await of(http, "rectify"))["inference_stats"]
    assert all(stats[step]["ns"] > 0 for step in ("compute_input", "compute_infer", "compute_output"))
