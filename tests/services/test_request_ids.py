"""A request's id, from its client to the logs: accepted, made, answered, told, and carried along with its batch."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, infer, make_links, make_settings
from grpc_in_process import inputs_of, methods_over, served
from http_calls import binary, problem
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.batching import Columns
from services.channel import Channel, Listener
from services.origin import Origin, new_request_id, origins, told_ids, valid_request_id
from services.request_log import RequestLog, logger, write_to
from services.settings import Settings
from services.stages import CLASSIFY, Operation
from stn_core.errors import Overloaded, Unavailable

MADE = re.compile("[0-9a-f]{16}-[0-9a-f]+")
IMAGES = {"images": np.zeros((2, 28, 28, 1), np.uint8)}


class Broken:
    """A stage that fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        raise self.error

    async def ready(self) -> bool:
        return True


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Any]:
    """What the log of requests holds."""
    before = list(logger.handlers)
    write_to(tmp_path, "test")
    file = tmp_path / "stn-requests-test.jsonl"
    yield lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)
        handler.close()


def settings_with(**observability: Any) -> Settings:
    return make_settings().model_copy(
        update={"observability": make_settings().observability.model_copy(update=observability)}
    )


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd", "order:17/4", "x" * 128])
async def test_an_answer_has_the_id_that_its_client_gave(engine: Any, given: str) -> None:
    async with client_of(make_links(engine, make_settings()), make_settings()) as http:
        for path in ("/v2", "/healthz", "/metrics", "/nowhere"):
            assert (await http.get(path, headers={"x-request-id": given})).headers["x-request-id"] == given
        message = binary(IMAGES)
        message["headers"]["x-request-id"] = given
        assert (await http.post("/v2/models/classify/infer", **message)).headers["x-request-id"] == given
        refused = await http.post("/v2/models/no-such/infer", **message)
    problem(refused, 404, "unknown-model")
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == given
    assert int(refused.headers["content-length"]) == len(refused.content)


@pytest.mark.parametrize("given", [None, "", "x" * 129, "two words", b"caf\xe9", b"\x01", b"\t"])
async def test_in_place_of_a_bad_id_or_none_one_is_made(engine: Any, given: Any) -> None:
    async with client_of(make_links(engine, make_settings()), make_settings()) as http:
        answers = [await http.get("/v2", headers={} if given is None else {"x-request-id": given}) for _ in range(2)]
    made = [answer.headers["x-request-id"] for answer in answers]
    assert all(MADE.fullmatch(one) for one in made)
    assert made[0] != made[1]


def test_ids_that_are_made_are_good_and_all_different() -> None:
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(map(valid_request_id, made))


async def test_a_fault_has_a_line_with_its_id_and_nothing_of_the_request(engine: Any, lines: Any) -> None:
    links: Any = {**make_links(engine, make_settings()), "classifier": Broken(Unavailable("the classifier is away"))}
    async with client_of(links, make_settings()) as http:
        message = binary(IMAGES)
        message["headers"] |= {"x-request-id": "mine", "authorization": "Bearer sesame"}
        failed = await http.post("/v2/models/classify/infer?key=sesame", **message)
        await infer(http, "rectify", IMAGES)
        await infer(http, "no-such", IMAGES)
    assert problem(failed, 503, "unavailable") == "the classifier is away"
    (line,) = lines()
    assert line.pop("seconds") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "ERROR",
        "request_id": "mine",
        "protocol": "http",
        "model": "classify",
        "status": 503,
        "reason": "unavailable",
        "images": 0,
        "method": "POST",
        "path": "/v2/models/classify/infer",
        "bytes_out": len(failed.content),
    }


async def test_every_request_has_a_line_where_that_is_asked_for(engine: Any, lines: Any) -> None:
    async with client_of(make_links(engine, make_settings()), settings_with(log_requests=True)) as http:
        await infer(http, "rectify", IMAGES)
        await infer(http, "no-such", IMAGES)
        await http.get("/v2")
        await http.get("/readyz")
    told = [(line["level"], line["model"], line["status"], line["reason"], line["images"]) for line in lines()]
    assert told == [
        ("INFO", "rectify", 200, None, 2),
        ("INFO", "unknown", 404, "unknown-model", 0),
        ("INFO", None, 200, None, 0),
    ]


def test_a_flood_of_refusals_is_a_line_a_second(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("services.request_log.monotonic", lambda: now_s[0])
    log = RequestLog(every=False)
    for _ in range(1000):
        log.note(Origin("x"), 503, "overloaded", 0.0, {})
    now_s[0] += 1
    log.note(Origin("y"), 503, "overloaded", 0.0, {})
    assert [(line["request_id"], line.get("overloaded_since_the_last_line")) for line in lines()] == [
        ("x", None),
        ("y", 1000),
    ]


async def test_a_failed_batch_names_the_requests_that_it_was_made_of(
    engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    links: Any = {**make_links(engine, make_settings()), "classifier": Broken(RuntimeError("bug"))}
    async with client_of(links, make_settings()) as http:

        async def ask(name: str) -> httpx.Response:
            message = binary(IMAGES)
            message["headers"]["x-request-id"] = name
            return await http.post("/v2/models/classify/infer", **message)

        with caplog.at_level(logging.ERROR, "ray.serve"):
            answers = await asyncio.gather(ask("one"), ask("two"))
    for answer, name in zip(answers, ("one", "two"), strict=True):
        assert problem(answer, 500, "internal") == f"the service failed on request {name}; its log has the reason"
    assert "a batch of 2 requests failed: one, two" in caplog.messages


async def test_ids_travel_with_a_batch_to_the_process_of_its_stage() -> None:
    told: list[str] = []

    async def note(operation: Operation, columns: Columns) -> Columns:
        told.append(told_ids())
        return columns

    channel = await Channel.open(await Listener(note).listen("127.0.0.1"))
    await channel.call(CLASSIFY, IMAGES)
    for count in (2, 20):
        origins.set(tuple(Origin(f"r{number}") for number in range(count)))
        await channel.call(CLASSIFY, IMAGES)
    assert told[:2] == ["unknown", "r0, r1"]
    assert told[2].endswith("r14, r15 and 4 more")


async def test_ids_over_grpc(engine: Any, lines: Any) -> None:
    import grpc

    links: Any = {**make_links(engine, make_settings()), "classifier": Broken(Overloaded("full", 0.2))}
    async with served(methods_over(links, make_settings())) as address:
        async with InferenceServerClient(address) as client:
            await client.infer("rectify", inputs_of(IMAGES), headers={"x-request-id": "good"})
            with pytest.raises(InferenceServerException, match="full"):
                await client.infer("classify", inputs_of(IMAGES), headers={"x-request-id": "over-grpc"})
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(
                b"", metadata=(("x-request-id", "mine"),)
            )
            await call
            trailing = dict(await call.trailing_metadata())
    assert trailing["x-request-id"] == "mine"
    (line,) = lines()
    told = {name: line[name] for name in ("request_id", "protocol", "model", "status", "reason", "method")}
    assert told == {
        "request_id": "over-grpc",
        "protocol": "grpc",
        "model": "classify",
        "status": 503,
        "reason": "overloaded",
        "method": "ModelInfer",
    }
