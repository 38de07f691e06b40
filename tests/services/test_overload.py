"""A full service over real HTTP: what it refuses, and when; bodies that trickle, and clients that leave."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, gateway_of, make_links, make_settings, on_a_socket
from http_calls import binary, outputs, problem
from stn_client import Client

from services.batching import Columns
from services.links import LocalLink
from services.room import Arrival, Room, Weight
from services.settings import Settings
from services.stages import ClassifyStage
from stn_core.errors import Overloaded

INFER = "/v2/models/classify/infer"
LOTS = 40


class Held:
    """The classifier's link, which waits for ``go`` and notes how many images it was given."""

    def __init__(self, engine: Any, settings: Settings) -> None:
        self._link = LocalLink(ClassifyStage(engine), settings.classifier)
        self.go = threading.Event()
        self.images = 0

    async def call(self, operation: Any, columns: Columns) -> Columns:
        self.images += len(columns["images"])
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return await self._link.call(operation, columns)

    async def ready(self) -> bool:
        return True


def narrow(**limits: Any) -> Settings:
    """A queue of 50 images, and one batch at a time."""
    settings = make_settings(**limits)
    one = {"max_queued_images": 50, "max_in_flight_batches": 1, "max_batch_images": LOTS}
    return settings.model_copy(update={"classifier": settings.classifier.model_copy(update=one)})


@contextlib.contextmanager
def serving(engine: Any, **limits: Any) -> Iterator[tuple[str, Held]]:
    settings = narrow(**limits)
    held = Held(engine, settings)
    gateway = gateway_of(make_links(engine, settings) | {"classifier": held, "predictor": held}, settings)
    with on_a_socket(gateway) as address:
        try:
            yield address, held
        finally:
            held.go.set()


def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def lots(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return digits[0][:LOTS]


async def test_a_full_queue_refuses_with_503_and_says_when_to_come_again(engine: Any, lots: np.ndarray) -> None:
    with serving(engine) as (address, held):
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http:
            asked = [asyncio.create_task(http.post(INFER, **binary({"images": lots}))) for _ in range(6)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            refused = done.pop().result()
            assert "images wait already" in problem(refused, 503, "overloaded")
            assert 1 <= int(refused.headers["retry-after"]) <= 10
            held.go.set()
            answers = await asyncio.gather(*asked)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        right = engine.classify(lots)[0]
        for answer in answers:
            if answer.status_code == 200:
                np.testing.assert_array_equal(outputs(answer).outputs["label"], right)


def test_the_sdk_has_every_image_answered_all_the_same(engine: Any, lots: np.ndarray) -> None:
    with serving(engine) as (address, held):
        threading.Timer(0.5, held.go.set).start()
        with Client(f"http://{address}", in_flight=8) as client:
            found = client.classify(np.concatenate([lots] * 8), batch_images=LOTS)
    np.testing.assert_array_equal(found.label, np.tile(engine.classify(lots)[0], 8))


async def test_what_finds_no_room_is_refused_before_its_body_is_read(engine: Any, lots: np.ndarray) -> None:
    settings = narrow()
    held = Held(engine, settings)
    async with client_of(make_links(engine, settings) | {"classifier": held}, settings) as http:
        running = [asyncio.create_task(http.post(INFER, **binary({"images": lots})))]
        await asyncio.sleep(0.1)  # it runs; the next one waits
        running.append(asyncio.create_task(http.post(INFER, **binary({"images": lots}))))
        await asyncio.sleep(0.1)

        async def body() -> Any:
            raise AssertionError("the body was read")
            yield b""

        problem(await http.post(INFER, content=body()), 503, "overloaded")
        held.go.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]


def test_a_body_that_trickles_is_ended_and_its_connection_closed(engine: Any) -> None:
    with serving(engine, body_timeout_s=0.5) as (address, held):
        held.go.set()
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n".encode())
            got = b""
            connection.settimeout(0.05)
            deadline_s = time.monotonic() + 30
            while b"slow-body" not in got and time.monotonic() < deadline_s:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(b"x")
                    got += connection.recv(65536)
            assert got.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in got.lower()
            connection.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""


async def test_who_announces_much_and_sends_nothing_keeps_nobody_out(engine: Any, images: np.ndarray) -> None:
    with serving(engine, max_bytes_in_flight=100_000) as (address, held), contextlib.ExitStack() as slow:
        held.go.set()
        host, port = address.split(":")
        for _ in range(5):
            connection = slow.enter_context(socket.create_connection((host, int(port)), timeout=30))
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\nx".encode())
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http:
            assert len(outputs(await http.post(INFER, **binary({"images": images}))).outputs["label"]) == 3


def test_images_of_a_client_that_left_are_not_begun(engine: Any, lots: np.ndarray) -> None:
    with serving(engine) as (address, held):
        host, port = address.split(":")
        message = binary({"images": lots})
        lines = {"host": "x", "content-length": str(len(message["content"])), **message["headers"]}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = f"POST {INFER} HTTP/1.1\r\n{head}\r\n".encode() + message["content"]
        first = socket.create_connection((host, int(port)), timeout=30)
        first.sendall(request)
        until(lambda: held.images == LOTS)
        with socket.create_connection((host, int(port)), timeout=30) as leaver:
            leaver.sendall(request)
            time.sleep(0.2)
        time.sleep(0.2)
        held.go.set()
        with first:
            assert first.recv(12) == b"HTTP/1.1 200"
        answer = httpx.post(f"http://{address}{INFER}", **binary({"images": lots[:3]}), timeout=60)
        assert len(outputs(answer).outputs["label"]) == 3
        assert held.images == LOTS + 3


def test_arrivals_count_as_the_usual_request_until_they_wait() -> None:
    room = Room(max_images=100, max_bytes=1000)
    for _ in range(200):
        Arrival(room).begin()  # what is usual is not known yet
    assert room.arriving == 200
    room.arriving = 0
    room.open_to(Weight(40, 40))
    first, second = Arrival(room).begin(), Arrival(room).begin()
    with pytest.raises(Overloaded, match="2 requests are on their way"):
        Arrival(room).begin()
    first.end()
    first.end()
    assert room.arriving == 1
    with Arrival(room):
        assert room.arriving == 2
    second.end()
    assert room.arriving == 0


def test_a_queue_holds_no_more_than_is_answered_in_time() -> None:
    room = Room(max_images=1000, max_bytes=10_000, max_wait_s=5.0)
    room.open_to(Weight(1, 1, 60.0))  # where nothing waits there is room for anything
    room.change(Weight(10, 10, 4.0))
    room.open_to(Weight(1, 1, 1.0))
    with pytest.raises(Overloaded, match="5 s of work") as caught:
        room.open_to(Weight(1, 1, 1.5))
    assert caught.value.retry_after_s >= 4
    room.change(Weight(10, 10, 4.0), -1)
    assert room.waiting == Weight()
    room.open_to(Weight(1, 1, 60.0))
