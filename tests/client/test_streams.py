"""Streams, iterables, deadlines and progress of both clients, over real sockets."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from picture_files import saved
from PIL import Image
from protocol_server import Server, Turn
from stn_client import AsyncClient, BadTensor, Client, InvalidInput, Overloaded, StnError, TimedOut

from stn_core.draws import image_ids
from stn_core.wire import HEADER_LENGTH, decode_request

Call = Callable[..., Any]

IMAGES = np.random.default_rng(1).integers(0, 256, (45, 28, 28), np.uint8)


def one_by_one(images: Any) -> Iterator[Any]:
    yield from images


@pytest.mark.parametrize("source", [lambda: IMAGES, lambda: list(IMAGES), lambda: one_by_one(IMAGES)])
def test_parts_come_in_order(server: Server, call: Call, source: Callable[[], Any]) -> None:
    server.turns = [Turn(delay_s=0.2), Turn(delay_s=0.1)]  # the first answers are the last to come
    parts = call(server.url, "stream.predict", source())
    assert [place for part in parts for place in part.index] == list(range(45))
    assert np.array_equal(np.concatenate([part.rectified for part in parts]), IMAGES)
    assert all(part.rectified.flags.writeable for part in parts)
    assert len(server.infers) == len(parts) == 5


@pytest.mark.parametrize("source", [lambda: list(IMAGES), lambda: one_by_one(IMAGES), lambda: tuple(IMAGES)])
def test_a_call_takes_any_iterable(server: Server, call: Call, source: Callable[[], Any]) -> None:
    prediction = call(server.url, "predict", source())
    assert np.array_equal(prediction.rectified, IMAGES)
    assert np.array_equal(prediction.label, IMAGES[:, 0, 0])


def test_every_method_streams(server: Server, call: Call) -> None:
    for method, arguments in (
        ("rectify", ()),
        ("classify", ()),
        ("warp", (np.eye(2, 3),)),
        ("warp", (iter([np.eye(2, 3)] * 45),)),
        ("augment", ("distorted", 7)),
        ("augment", ("distorted", 7, count())),
    ):
        parts = call(server.url, f"stream.{method}", one_by_one(IMAGES), *arguments)
        assert sum(map(len, parts)) == 45


def test_a_stream_of_nothing_is_nothing_but_a_result_needs_an_image(server: Server, call: Call) -> None:
    assert call(server.url, "stream.predict", iter([])) == []
    with pytest.raises(BadTensor, match="expected at least one image, got none"):
        call(server.url, "predict", iter([]))


def test_a_stream_draws_as_a_call_does(server: Server, call: Call) -> None:
    images = np.repeat(IMAGES[:5], 5, axis=0)  # equal images, which fall into different requests
    sent = []
    for method, source in (("augment", images), ("stream.augment", one_by_one(images))):
        call(server.url, method, source, "distorted", 7)
        requests = [decode_request(seen.body, int(seen.headers[HEADER_LENGTH])) for seen in server.infers]
        sent.append(sorted(number for request in requests for number in request.inputs["ids"].tolist()))
        server.seen.clear()
    assert sent[0] == sent[1] == sorted(image_ids(images[..., None]).tolist())


def test_images_of_many_kinds_go_together(server: Server, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(saved(Image.fromarray(IMAGES[0])))
    data, picture = saved(Image.fromarray(IMAGES[1])), Image.fromarray(IMAGES[2])
    images = [path, data, picture, IMAGES[3], IMAGES[4][:20]]
    prediction = call(server.url, "predict", images)
    assert prediction.label.tolist() == [int(image[0, 0]) for image in IMAGES[:5]]
    assert [image.shape for image in prediction.rectified] == [(28, 28, 1)] * 2 + [(28, 28)] * 2 + [(20, 28)]
    assert np.array_equal(prediction.rectified[0][..., 0], IMAGES[0])
    assert len(server.infers) == 3
    assert call(server.url, "predict", tmp_path).label.tolist() == [int(IMAGES[0, 0, 0])]


def test_fewer_images_in_a_request_if_the_caller_says_so(server: Server, call: Call) -> None:
    for images in (IMAGES[:9], one_by_one(IMAGES[:9])):
        parts = call(server.url, "stream.classify", images, given={"batch_images": 2})
        assert [len(part) for part in parts] == [2, 2, 2, 2, 1] or sorted(map(len, parts)) == [1, 2, 2, 2, 2]


# --- back pressure ---------------------------------------------------------------------------------------------------


class Counted:
    """Images without end that count how many were taken."""

    taken = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            self.taken += 1
            yield IMAGES[self.taken % len(IMAGES)]

    async def __aiter__(self) -> AsyncIterator[np.ndarray]:
        for image in self:
            yield image


def test_images_are_read_no_further_than_needed(server: Server) -> None:
    images = Counted()
    with Client(server.url, in_flight=2) as client:
        parts = client.stream.classify(images, batch_images=5)
        assert images.taken == 0
        for received in range(1, 6):
            next(parts)
            assert 5 * received <= images.taken <= 5 * (received + 2)
        parts.close()
        assert images.taken <= 5 * 7
    assert len(server.infers) <= 7


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_images_are_read_no_further_than_needed_async(server: Server, asynchronous: bool) -> None:
    images = Counted()
    async with AsyncClient(server.url, in_flight=2) as client:
        parts = client.stream.classify(images.__aiter__() if asynchronous else iter(images), batch_images=5)
        for received in range(1, 6):
            await anext(parts)
            assert 5 * received <= images.taken <= 5 * (received + 2)
        await parts.aclose()
    assert len(server.infers) <= 7


def test_leaving_the_loop_ends_the_call(server: Server) -> None:
    server.turns = [Turn()] + [Turn(503, b"full", (("retry-after", "9"),))] * 5
    with Client(server.url, in_flight=2) as client:
        for _ in client.stream.classify(Counted(), batch_images=5):
            break
    clients = [thread.name for thread in threading.enumerate() if thread.name.startswith("stn-client")]
    assert clients == []  # none waits for the 9 seconds


# --- errors ----------------------------------------------------------------------------------------------------------


def failing(error: Exception) -> Iterator[np.ndarray]:
    yield from IMAGES[:25]
    raise error


@pytest.mark.parametrize("error", [OSError("the disk is gone"), TimeoutError("too slow"), StnError("of ours")])
def test_an_iterable_that_raises_ends_the_stream_after_what_it_gave(server: Server, error: Exception) -> None:
    server.turns = [Turn(delay_s=0.1)]
    with Client(server.url) as client:
        parts = client.stream.classify(failing(error))
        assert [place for part in (next(parts), next(parts), next(parts)) for place in part.index] == list(range(25))
        with pytest.raises(type(error)) as raised:
            next(parts)
        assert raised.value is error


async def test_an_iterable_that_raises_ends_the_stream_after_what_it_gave_async(server: Server) -> None:
    async def images() -> AsyncIterator[np.ndarray]:
        for image in failing(OSError("the disk is gone")):
            yield image

    async with AsyncClient(server.url) as client:
        for source in (images(), failing(OSError("the disk is gone"))):
            parts = client.stream.classify(source)
            assert [place for _ in range(3) for place in (await anext(parts)).index] == list(range(25))
            with pytest.raises(OSError, match="the disk is gone"):
                await anext(parts)


def test_an_asynchronous_iterable_is_for_the_other_client(server: Server) -> None:
    with Client(server.url) as client, pytest.raises(BadTensor, match="which an AsyncClient takes"):
        client.predict(Counted().__aiter__())


async def test_an_async_client_takes_asynchronous_iterables(server: Server) -> None:
    async def images() -> AsyncIterator[np.ndarray]:
        for image in IMAGES:
            await asyncio.sleep(0)
            yield image

    async with AsyncClient(server.url) as client:
        prediction = await client.predict(images())
        assert np.array_equal(prediction.rectified, IMAGES)


async def test_a_slow_iterable_does_not_hold_up_the_loop(server: Server) -> None:
    def slow() -> Iterator[np.ndarray]:
        time.sleep(0.5)
        yield IMAGES[0]

    async with AsyncClient(server.url) as client:
        task = asyncio.create_task(client.classify(slow()))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert len(await task) == 1
    assert turns > 5


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_call_ends_at_its_deadline(server: Server, call: Call) -> None:
    for images in (IMAGES[:5], IMAGES, one_by_one(IMAGES)):
        server.turns = [Turn(delay_s=30)] * 9
        started_s = time.monotonic()
        with pytest.raises(TimedOut, match=r"the call was not over within deadline_s, 0.5 s"):
            call(server.url, "classify", images, given={"deadline_s": 0.5})
        assert 0.4 < time.monotonic() - started_s < 15


def test_the_deadline_counts_retries_and_pauses(server: Server, call: Call) -> None:
    full = orjson.dumps(Overloaded("the queue is full").problem())
    server.turns = [Turn(503, full, (("retry-after", "1"),))] * 9
    with pytest.raises(TimedOut, match="within deadline_s, 1.5 s; the last try met: the queue is full"):
        call(server.url, "classify", IMAGES[:5], deadline_s=1.5)
    assert len(server.infers) == 2


def test_an_answer_that_drips_does_not_go_past_the_deadline(server: Server, call: Call) -> None:
    server.drip_s = 0.2
    with pytest.raises(TimedOut, match="within deadline_s, 1 s"):
        call(server.url, "classify", IMAGES[:5], given={"deadline_s": 1.0})


def test_a_call_may_have_another_deadline_than_its_client(server: Server, call: Call) -> None:
    server.turns = [Turn(delay_s=0.5)] * 2
    assert len(call(server.url, "classify", IMAGES[:5], deadline_s=0.1, given={"deadline_s": None})) == 5
    assert len(call(server.url, "classify", IMAGES[:5], deadline_s=0.1, given={"deadline_s": 20})) == 5


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_is_told_part_by_part(server: Server, call: Call) -> None:
    for images, total in ((IMAGES, 45), (list(IMAGES), 45), (one_by_one(IMAGES), None)):
        heard: list[tuple[int, int | None]] = []
        call(server.url, "predict", images, given={"progress": lambda *told, heard=heard: heard.append(told)})
        assert [done for done, _ in heard] == sorted(done for done, _ in heard)
        assert heard[-1] == (45, total)
        assert len(heard) == 5


def test_progress_that_raises_ends_the_call(server: Server, call: Call) -> None:
    def tell(done: int, total: int | None) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        call(server.url, "predict", IMAGES, given={"progress": tell})


def test_files_that_are_not_there_are_told_before_anything_is_sent(server: Server, call: Call) -> None:
    with pytest.raises(InvalidInput, match="there is no 'nowhere'"):
        call(server.url, "predict", "nowhere")
    assert server.seen == []
