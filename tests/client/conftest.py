"""The misbehaving server, and either client by one name."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import httpx
import pytest
from protocol_server import Server
from stn_client import AsyncClient, Client


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


Call = Callable[..., Any]
Given = dict[str, Any] | None


def call_sync(url: str, method: str, *arguments: Any, given: Given = None, **settings: Any) -> Any:
    with Client(url, **settings) as client:
        made = attrgetter(method)(client)(*arguments, **(given or {}))
        return list(made) if method.startswith("stream.") else made


def call_async(url: str, method: str, *arguments: Any, given: Given = None, **settings: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **settings) as client:
            made = attrgetter(method)(client)(*arguments, **(given or {}))
            return [part async for part in made] if method.startswith("stream.") else await made

    return asyncio.run(run())


def call_by_httpx(url: str, method: str, *arguments: Any, **settings: Any) -> Any:
    """By a ``Client`` that goes the way of httpx, as through a proxy."""
    return call_sync(url, method, *arguments, transport=httpx.HTTPTransport(), **settings)


@pytest.fixture(params=[call_sync, call_async, call_by_httpx], ids=["Client", "AsyncClient", "Client by httpx"])
def carried(request: pytest.FixtureRequest) -> Call:
    """``call`` over each way to the service, for what depends on the way."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[call_sync, call_async], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    """``call(url, method, *arguments, given=options, **settings)``: one call by a new client of either kind.

    The method may be ``stream.predict`` and the like; the parts come as a list then.
    """
    return request.param  # type: ignore[no-any-return]
