"""Both clients over real sockets, against a server that misbehaves on purpose."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from protocol_server import Server, Turn
from stn_client import (
    AsyncClient,
    BadAnswer,
    BadTensor,
    Client,
    ConnectionFailed,
    InvalidInput,
    Overloaded,
    TimedOut,
    Unavailable,
)

Call = Callable[..., Any]

IMAGES = np.random.default_rng(1).integers(0, 256, (45, 28, 28), np.uint8)


def test_a_long_batch_comes_back_in_order(server: Server, call: Call) -> None:
    prediction = call(server.url, "predict", IMAGES)
    assert np.array_equal(prediction.label, IMAGES[:, 0, 0])
    assert np.array_equal(prediction.rectified, IMAGES)
    assert len(server.infers) == 5


def test_every_method_brings_its_result(server: Server, call: Call) -> None:
    colour = np.random.default_rng(2).random((3, 9, 7, 3))
    assert np.allclose(call(server.url, "rectify", colour).rectified, colour)
    assert call(server.url, "classify", IMAGES).probabilities.shape == (45, 10)
    assert np.array_equal(call(server.url, "warp", IMAGES, np.eye(2, 3)), IMAGES)
    augmentation = call(server.url, "augment", IMAGES, "distorted", 7)
    assert augmentation.exact.all()
    assert augmentation.theta.shape == augmentation.theta_rectifying.shape == (45, 2, 3)
    assert call(server.url, "metadata")["name"] == "test"
    assert call(server.url, "server_ready") is True


def test_the_body_arrives_whole_whatever_its_size(server: Server, carried: Call) -> None:
    server.metadata = {"limits": {"max_images": 10, "max_request_bytes": 2**26}}
    images = np.random.default_rng(3).integers(0, 256, (1, 1300, 2700, 3), np.uint8)
    assert np.array_equal(carried(server.url, "rectify", images).rectified, images)
    assert len(server.infers) == 1
    assert "transfer-encoding" not in server.infers[0].headers


def test_a_prefix_in_the_url_is_kept(server: Server, carried: Call) -> None:
    assert carried(server.url + "/stn/", "server_ready") is False
    assert server.seen[0].path == "/stn/v2/health/ready"


def test_the_connection_is_reused(server: Server) -> None:
    for transport in (None, httpx.HTTPTransport()):
        server.seen.clear()
        with Client(server.url, transport=transport) as client:
            for _ in range(5):
                client.classify(IMAGES[:10])
        assert len({seen.connection for seen in server.seen}) == 1


def test_several_requests_are_in_flight_but_no_more_than_told(server: Server, call: Call) -> None:
    # The first answers wait until three requests are there, and then a little for a fourth that must not come.
    server.turns = [Turn(delay_s=0.3, company=3)] * 3
    call(server.url, "classify", IMAGES, in_flight=3)
    assert server.most_at_once == 3
    server.turns, server.most_at_once = [Turn(delay_s=0.02)] * 5, 0
    call(server.url, "classify", IMAGES, in_flight=1)
    assert server.most_at_once == 1


def test_order_is_kept_when_answers_come_in_another(server: Server, call: Call) -> None:
    server.turns = [Turn(delay_s=0.2), Turn(delay_s=0.1), Turn(delay_s=0.0)]
    assert np.array_equal(call(server.url, "classify", IMAGES).label, IMAGES[:, 0, 0])


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_server_is_tried_again_after_the_time_it_asks_for(server: Server, carried: Call, status: int) -> None:
    server.turns = [Turn(status, b"full", (("retry-after", "0.4"),))]
    assert len(carried(server.url, "classify", IMAGES[:10]).label) == 10
    first, second = server.infers
    assert 0.4 <= second.at_s - first.at_s < 30
    assert first.body == second.body


def test_a_server_that_stays_full_is_an_error(server: Server, call: Call) -> None:
    server.turns = [Turn(503, orjson.dumps(Overloaded("the queue is full").problem()), (("retry-after", "0"),))] * 2
    with pytest.raises(Overloaded, match="the queue is full"):
        call(server.url, "classify", IMAGES[:10], retries=1)
    assert len(server.infers) == 2


def test_a_server_that_asks_for_minutes_is_not_waited_for(server: Server, call: Call) -> None:
    server.turns = [Turn(503, orjson.dumps(Overloaded("down").problem()), (("retry-after", "300"),))]
    with pytest.raises(Overloaded) as raised:
        call(server.url, "classify", IMAGES[:10])
    assert raised.value.retry_after_s == 300


def test_stale_connections_are_replaced_silently(server: Server) -> None:
    for transport in (None, httpx.HTTPTransport()):
        with Client(server.url, transport=transport) as client:
            for _ in range(4):
                server.turns = [Turn(hang_up_after=True)]
                assert len(client.classify(IMAGES[:10]).label) == 10
                time.sleep(0.02)

    async def run() -> None:
        async with AsyncClient(server.url) as client:
            for _ in range(4):
                server.turns = [Turn(hang_up_after=True)]
                assert len((await client.classify(IMAGES[:10])).label) == 10
                await asyncio.sleep(0.02)

    asyncio.run(run())


def test_a_connection_closed_instead_of_an_answer_is_repeated_at_once(server: Server, carried: Call) -> None:
    server.turns = [Turn(hang_up=True)]
    assert len(carried(server.url, "classify", IMAGES[:10]).label) == 10
    first, second = server.infers
    assert second.connection != first.connection


def test_a_server_that_always_hangs_up_is_an_error(server: Server, carried: Call) -> None:
    server.turns = [Turn(hang_up=True)] * 3
    with pytest.raises(ConnectionFailed, match=f"{server.url}.*: the connection ended before the answer"):
        carried(server.url, "classify", IMAGES[:10], retries=2)


def test_a_slow_server_is_timed_out(server: Server, carried: Call) -> None:
    server.turns = [Turn(delay_s=30)]
    with pytest.raises(TimedOut, match="no answer within read_timeout_s"):
        carried(server.url, "classify", IMAGES[:10], read_timeout_s=2)
    assert len(server.infers) == 1


def test_garbage_is_a_bad_answer(server: Server, carried: Call) -> None:
    server.turns = [Turn(body=b"<html>Welcome to the captive portal</html>")]
    with pytest.raises(BadAnswer, match="expected an answer of the v2 protocol"):
        carried(server.url, "classify", IMAGES[:10])
    server.turns = [Turn(body=b"not packed", headers=(("content-encoding", "gzip"),))]
    with pytest.raises(BadAnswer, match="the answer cannot be read"):
        carried(server.url, "classify", IMAGES[:10])


def test_one_bad_request_of_many_ends_the_call(server: Server, call: Call) -> None:
    server.turns = [Turn(), Turn(400, orjson.dumps(BadTensor("images: no").problem())), Turn(delay_s=0.1)]
    with pytest.raises(BadTensor, match="images: no") as raised:
        call(server.url, "classify", IMAGES, in_flight=1)
    assert "images 9 to 17 of 45" in raised.value.__notes__[0]
    assert len(server.infers) < 5  # those that waited did not begin


def test_nobody_there(carried: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match=f"{url}.*: cannot connect; is the service running there?"):
            carried(url, "classify", IMAGES[:10], retries=1)
        assert isinstance(ConnectionFailed("x"), Unavailable)
        assert carried(url, "server_ready") is False


def test_a_connection_that_does_not_come_is_timed_out(carried: Call) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]  # they fill the backlog
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        with pytest.raises(TimedOut, match="no connection within connect_timeout_s"):
            carried(f"http://127.0.0.1:{full.getsockname()[1]}", "metadata", connect_timeout_s=0.3)
        for other in others:
            other.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host:port", None])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_is_none_is_refused(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(InvalidInput, match="url: expected http://host:port, got"):
        kind(url)


@pytest.mark.parametrize(
    "options", [{"read_timeout_s": 0}, {"connect_timeout_s": -1}, {"deadline_s": 0}, {"in_flight": 0}]
)
def test_senseless_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(options))}: expected"):
        Client("http://127.0.0.1:8000", **options)  # type: ignore[arg-type]


def test_a_cancelled_call_leaves_nothing_behind(server: Server) -> None:
    server.turns = [Turn(delay_s=60)] * 5

    async def run() -> int:
        async with AsyncClient(server.url, in_flight=2) as client:
            call = asyncio.create_task(client.classify(IMAGES))
            while len(server.infers) < 2:
                assert not call.done()
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
    assert len(server.infers) == 2


def test_many_threads_share_a_client(server: Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        starts = range(0, 30, 2)
        labels = list(pool.map(lambda start: client.classify(IMAGES[start : start + 15]).label, starts))
    for start, found in zip(starts, labels, strict=True):
        assert np.array_equal(found, IMAGES[start : start + 15, 0, 0])
