"""Batches between a gateway and a stage's replicas by sockets: whole, in any order, typed errors, broken ones."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from services.batching import Columns
from services.channel import MAX_FRAME_BYTES, Address, Broken, Channel, Channels, Listener
from services.links import RemoteLink
from services.stages import CLASSIFY, Operation, augment_operation
from stn_core.errors import BadTensor, Overloaded, StnError, Unavailable

HOST = "127.0.0.1"
IMAGES: Columns = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)}


async def echo(operation: Operation, columns: Columns) -> Columns:
    return columns


async def channel_to(run: Any) -> Channel:
    return await Channel.open(await Listener(run).listen(HOST))


@asynccontextmanager
async def peer(behave: Any) -> AsyncIterator[Address]:
    """A listener that does what ``behave(reader, writer)`` does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behave(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield Address(HOST, server.sockets[0].getsockname()[1], bytes(32))


async def test_arrays_of_every_kind_arrive_as_they_were_sent() -> None:
    columns: Columns = {
        "images": np.random.default_rng(0).integers(0, 256, (3, 500, 700, 1), np.uint8),  # more than one buffer
        "theta": np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 2, 3),
        "exact": np.array([True, False, True]),
        "ids": np.array([0, 1, 2**64 - 1], np.uint64),
        "label": np.array([-1, 0, 9]),
        "theta_rectifying": np.full((3, 2, 3), 1 / 3),
    }
    found = await (await channel_to(echo)).call(CLASSIFY, columns)
    assert list(found) == list(columns)
    for name, array in columns.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


async def test_an_operation_arrives_as_it_was_sent_and_keys_a_batch() -> None:
    came: list[Operation] = []

    async def note(operation: Operation, columns: Columns) -> Columns:
        came.append(operation)
        return columns

    sent = augment_operation('{"steps": []}', 2**63 - 1, 784)
    await (await channel_to(note)).call(sent, IMAGES)
    assert came == [sent]
    assert hash(came[0]) == hash(sent)


async def test_calls_are_answered_in_the_order_in_which_they_are_done() -> None:
    gate = asyncio.Event()

    async def last_first(operation: Operation, columns: Columns) -> Columns:
        if operation.name == "slow":
            await gate.wait()
        return {"label": columns["images"][:, 0, 0, 0]}

    channel = await channel_to(last_first)
    slow = asyncio.create_task(channel.call(Operation("slow"), {"images": IMAGES["images"] + 1}))
    await asyncio.sleep(0)
    quick = await channel.call(Operation("quick"), IMAGES)
    assert quick["label"].tolist() == [0, 12]
    assert (slow.done(), channel.under_way) == (False, 1)
    gate.set()
    assert (await slow)["label"].tolist() == [1, 13]
    assert channel.under_way == 0


@pytest.mark.parametrize(
    "error", [BadTensor("images: expected more"), Overloaded("full", retry_after_s=7.5), RuntimeError("secret")]
)
async def test_errors_keep_their_type_and_the_channel_stays(error: Exception) -> None:
    async def fail_once(operation: Operation, columns: Columns) -> Columns:
        if operation.name == "fail":
            raise error
        return columns

    channel = await channel_to(fail_once)
    with pytest.raises(StnError) as caught:
        await channel.call(Operation("fail"), IMAGES)
    assert type(caught.value) is (type(error) if isinstance(error, StnError) else StnError)
    assert caught.value.args == (error.args if isinstance(error, StnError) else caught.value.args)
    assert "secret" not in str(caught.value)
    assert (await channel.call(CLASSIFY, IMAGES)).keys() == IMAGES.keys()


async def test_a_caller_that_gives_up_leaves_no_trace() -> None:
    gate = asyncio.Event()

    async def wait(operation: Operation, columns: Columns) -> Columns:
        await gate.wait()
        return columns

    channel = await channel_to(wait)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await channel.call(CLASSIFY, IMAGES)
    gate.set()
    assert channel.under_way == 0
    assert (await channel.call(CLASSIFY, IMAGES)).keys() == IMAGES.keys()  # the late answer is nobody's


@pytest.mark.parametrize("key", [b"", bytes(32), b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"])
async def test_a_peer_without_the_key_is_hung_up_on(key: bytes) -> None:
    host, port, _ = await Listener(echo).listen(HOST)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(key + struct.pack("<QBII", 1, 0, 2, 0) + b"{}")
    with contextlib.suppress(ConnectionResetError):  # what a socket does that is closed with bytes unread
        assert await reader.read() == b""
    writer.close()


async def test_a_frame_beyond_the_limit_ends_the_connection_unread() -> None:
    address = await Listener(echo).listen(HOST)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(address.key + struct.pack("<QBII", 1, 0, 10, MAX_FRAME_BYTES))
    assert await reader.read() == b""
    writer.close()


async def test_whoever_waits_hears_that_the_socket_broke() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100)

    async with peer(hang_up) as address:
        channel = await Channel.open(address)
        answers = await asyncio.gather(*(channel.call(CLASSIFY, IMAGES) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [Broken] * 3
        assert not channel.is_open
        with pytest.raises(Broken):
            await channel.call(CLASSIFY, IMAGES)


async def test_garbage_breaks_the_channel() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x01" * 400)
        await writer.drain()
        await reader.read()

    async with peer(babble) as address:
        with pytest.raises(Broken):
            await (await Channel.open(address)).call(CLASSIFY, IMAGES)


async def test_the_least_busy_of_all_replicas_is_asked() -> None:
    gate = asyncio.Event()

    async def wait(operation: Operation, columns: Columns) -> Columns:
        await gate.wait()
        return columns

    addresses = [await Listener(wait).listen(HOST) for _ in range(3)]
    turns = iter(addresses * 2)

    async def ask() -> Address:
        return next(turns)

    channels = Channels(ask)
    for _ in range(6):
        await channels.look()
    asked: list[Channel] = []
    calls = []
    for _ in range(6):
        channel = channels.least_busy()
        assert channel is not None
        asked.append(channel)
        calls.append(asyncio.create_task(channel.call(CLASSIFY, IMAGES)))
        await asyncio.sleep(0)
    assert sorted(channel.address for channel in asked) == sorted(addresses * 2)
    gate.set()
    await asyncio.gather(*calls)


async def test_a_replica_that_is_gone_is_forgotten_and_a_new_one_found() -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(32)

    async with peer(end) as gone:
        turns = iter([gone, await Listener(echo).listen(HOST)])

        async def ask() -> Address:
            return next(turns)

        channels = Channels(ask)
        await channels.look()
        while channels.least_busy() is not None:
            await asyncio.sleep(0.01)
        await channels.look()
        channel = channels.least_busy()
        assert channel is not None
        assert (await channel.call(CLASSIFY, IMAGES)).keys() == IMAGES.keys()


class Method:
    """One method of a deployment handle."""

    def __init__(self, function: Any) -> None:
        self.remote = function


class Handle:
    """What ``RemoteLink`` uses of a deployment handle; ``address`` is where a replica listens, if it does."""

    def __init__(self, address: Address | None) -> None:
        self.calls = 0
        self.address = Method(lambda: self._give(address))
        self.ready = Method(lambda: self._give(True))
        self.run = Method(self._run)

    def options(self, **_: object) -> "Handle":
        return self

    async def _give(self, answer: object) -> object:
        return answer

    async def _run(self, operation: Operation, columns: Columns, requests: list[list[str]]) -> Columns:
        self.calls += 1
        self.requests = requests
        return columns


@pytest.mark.parametrize("listens", [True, False])
async def test_a_link_goes_by_the_handle_where_no_channel_is(listens: bool) -> None:
    handle: Any = Handle(await Listener(echo).listen(HOST) if listens else None)
    link = RemoteLink("classifier", handle, 10.0, 2.0)
    assert await link.ready()
    assert (await link.call(CLASSIFY, IMAGES)).keys() == IMAGES.keys()
    assert handle.calls == (0 if listens else 1)
    await link.call(CLASSIFY, {"images": np.zeros((1, 1001, 1001, 1), np.uint8)})  # large: by shared memory
    assert handle.calls == (1 if listens else 2)


async def test_a_call_lost_with_its_channel_is_repeated_by_the_handle() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100)

    async with peer(hang_up) as address:
        handle: Any = Handle(address)
        link = RemoteLink("classifier", handle, 10.0, 2.0)
        assert await link.ready()
        found = await link.call(CLASSIFY, IMAGES)
        np.testing.assert_array_equal(found["images"], IMAGES["images"])
        assert handle.calls == 1


async def test_a_call_that_takes_too_long_is_not_repeated() -> None:
    async def never(operation: Operation, columns: Columns) -> Columns:
        await asyncio.Event().wait()
        return columns

    handle: Any = Handle(await Listener(never).listen(HOST))
    link = RemoteLink("classifier", handle, 0.05, 2.0)
    assert await link.ready()
    with pytest.raises(Unavailable, match="did not answer within"):
        await link.call(CLASSIFY, IMAGES)
    assert handle.calls == 0
