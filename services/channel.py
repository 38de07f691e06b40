"""Sockets between a gateway and a stage's replicas, for batches: one by Ray's handle costs both sides milliseconds.

Ray still starts, watches and replaces the replicas: a gateway asks by the handle where a replica listens, and for its
key, and goes by the handle whenever no socket is there, or one breaks. A frame is a number, a kind, two lengths, and so
many bytes: JSON and binary tensors as in the v2 protocol (``stn_core.wire``), or an error's problem document. Nothing
is unpickled, and a peer that does not begin with the key is hung up on.
"""

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson

from services.batching import Columns
from services.origin import Origin, for_travel, from_travel, origins, told_ids
from services.stages import BundleId, Operation
from stn_core.errors import BadBody, Overloaded, StnError, error_from_problem
from stn_core.wire import decode_request, encode_request

logger = logging.getLogger("ray.serve")

Run = Callable[[Operation, Columns], Awaitable[Columns]]

MAX_FRAME_BYTES = 32 * 1024 * 1024
_PREFIX = struct.Struct("<QBII")
_RESULT, _ERROR = 0, 1
_KEY_BYTES = 32
_CONNECT_S = 2.0
_LOOK_S = 2.0
_UNHEARD_MS = 5_000
"""A peer whose machine is gone says nothing: so long what was sent may go without being acknowledged."""
_ALIVE_S = 2
"""After so much silence the kernel asks the peer's whether it is still there, and again each second."""
_BUFFER_BYTES = 1024 * 1024


class Address(NamedTuple):
    """Where one replica listens, and the key it wants to hear first."""

    host: str
    port: int
    key: bytes


class Broken(Exception):
    """The socket is gone, and with it the answer."""


class Listener:
    """Answers frames with ``run``, each in a task of its own; belongs to one event loop."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> Address:
        """Starts to listen on a free port of ``host``."""
        self._server = await asyncio.start_server(self._serve, host, 0, limit=_BUFFER_BYTES)
        return Address(host, self._server.sockets[0].getsockname()[1], self._key)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _set_up(writer)
        try:
            async with asyncio.timeout(_CONNECT_S):
                key = await reader.readexactly(_KEY_BYTES)
            if not hmac.compare_digest(key, self._key):
                raise StnError("the key is wrong")
            while True:
                number, _, frame, head_bytes = await _read(reader)
                task = asyncio.create_task(self._answer(number, frame, head_bytes, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (OSError, EOFError, TimeoutError):
            pass
        except StnError as error:
            logger.warning("a connection to the stage was closed: %s", error)
        finally:
            writer.close()

    async def _answer(self, number: int, frame: bytes, head_bytes: int, writer: asyncio.StreamWriter) -> None:
        try:
            operation, columns, requests = _operation_in(frame, head_bytes)
            origins.set(requests)  # of this task alone
            kind, parts = _RESULT, encode_request(await self._run(operation, columns)).parts
        except Exception as error:
            if not isinstance(error, StnError):
                logger.exception("a frame's work failed, for the requests %s", told_ids())
                error = StnError("the stage failed; its log has the reason")
            kind, parts = _ERROR, (_error_head(error),)
        with contextlib.suppress(OSError):
            await _write(writer, number, kind, parts)


class Channel:
    """One socket to one replica, with any number of calls under way."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Columns]] = {}
        self._number = 0
        self._reading = asyncio.create_task(self._read_answers(reader))

    @classmethod
    async def open(cls, address: Address) -> "Channel":
        """A channel to ``address``; OSError or TimeoutError if nobody is there."""
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=_BUFFER_BYTES)
        _set_up(writer)
        writer.write(address.key)
        return cls(address, reader, writer)

    @property
    def is_open(self) -> bool:
        return not self._reading.done()

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        """The result of ``operation``; Broken when the socket is, and what the stage raised of the StnError tree."""
        if not self.is_open:
            raise Broken
        self._number += 1
        number = self._number
        answer: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await _write(self._writer, number, _RESULT, _with_operation(operation, columns))
            return await answer
        except OSError as error:
            raise Broken from error
        finally:
            self._waiting.pop(number, None)

    async def _read_answers(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, kind, frame, head_bytes = await _read(reader)
                waiting = self._waiting.get(number)
                if waiting is None or waiting.done():  # given up
                    continue
                if kind == _ERROR:
                    waiting.set_exception(_error_in(frame))
                else:
                    waiting.set_result(decode_request(frame, head_bytes).inputs)
        except (OSError, EOFError, StnError, ValueError) as error:
            logger.info("the channel to %s:%d is gone: %r", self.address.host, self.address.port, error)
        finally:
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Broken())


class Channels:
    """The channels to all replicas of one stage, as far as they are known: ``ask`` tells the address of some replica.

    Who answers is for Ray's router to choose; asked again and again it names them all. None means that there are no
    channels to this stage.
    """

    def __init__(self, ask: Callable[[], Awaitable[Address | None]]) -> None:
        self._ask = ask
        self._open: dict[Address, Channel] = {}
        self._looked_s = -_LOOK_S
        self._looking: asyncio.Task[None] | None = None

    def least_busy(self) -> Channel | None:
        """The channel with the fewest calls under way; now and then it has a look for others."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s > _LOOK_S and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self.look())
        alive = [channel for channel in self._open.values() if channel.is_open]
        return min(alive, key=lambda channel: channel.under_way, default=None)

    async def look(self) -> None:
        """Forgets channels that broke, and opens one to a replica if it is not there yet."""
        self._looked_s = asyncio.get_running_loop().time()
        self._open = {address: channel for address, channel in self._open.items() if channel.is_open}
        try:
            address = await self._ask()
            if address is not None and address not in self._open:
                self._open[address] = await Channel.open(address)
        except Exception as error:  # whatever it is: the handle is still there
            logger.info("no channel to a replica: %r", error)


def _with_operation(operation: Operation, columns: Columns) -> tuple[bytes | memoryview, ...]:
    bundle = operation.bundle and tuple(operation.bundle)  # of JSON's types, which a named tuple is none of
    said = {**operation._asdict(), "bundle": bundle, "requests": for_travel()}
    return encode_request(columns, parameters=said).parts


def _operation_in(frame: bytes, head_bytes: int) -> tuple[Operation, Columns, tuple[Origin, ...]]:
    request = decode_request(frame, head_bytes)
    try:
        said = request.parameters
        arguments = tuple((name, value) for name, value in said["arguments"])
        bundle = None if said["bundle"] is None else BundleId(*said["bundle"])
        operation = Operation(said["name"], arguments, said["result_bytes"], bundle)
        return operation, request.inputs, from_travel(said["requests"])
    except (KeyError, TypeError, ValueError):
        raise BadBody(
            "expected a name, arguments, result_bytes and requests of an operation, got other parameters; do both "
            "sides run the same version?"
        ) from None


def _error_head(error: StnError) -> bytes:
    return orjson.dumps({**error.problem(), "retry_after_s": getattr(error, "retry_after_s", None)})


def _error_in(frame: bytes) -> StnError:
    try:
        problem = orjson.loads(frame)
        error = error_from_problem(problem, problem["status"])
        return Overloaded(error.detail, float(problem["retry_after_s"])) if isinstance(error, Overloaded) else error
    except (KeyError, TypeError, ValueError):
        raise BadBody(f"expected the document of an error, got {len(frame)} bytes that are none") from None


async def _write(writer: asyncio.StreamWriter, number: int, kind: int, parts: tuple[Any, ...]) -> None:
    head, *blobs = parts
    prefix = _PREFIX.pack(number, kind, len(head), sum(len(blob) for blob in blobs))
    writer.write(b"".join((prefix, head, *blobs)))
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> tuple[int, int, bytes, int]:
    """Number, kind, JSON with tensors behind it, and the length of the JSON."""
    number, kind, head_bytes, body_bytes = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
    if head_bytes + body_bytes > MAX_FRAME_BYTES:
        raise StnError(f"expected a frame of at most {MAX_FRAME_BYTES} bytes, got {head_bytes + body_bytes}")
    return number, kind, await reader.readexactly(head_bytes + body_bytes), head_bytes


def _set_up(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ALIVE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
