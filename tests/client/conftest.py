"""The misbehaving server, and either client by one name."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

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


def call_sync(url: str, method: str, *arguments: Any, **options: Any) -> Any:
    with Client(url, **options) as client:
        return getattr(client, method)(*arguments)


def call_async(url: str, method: str, *arguments: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return await getattr(client, method)(*arguments)

    return asyncio.run(run())


@pytest.fixture(params=[call_sync, call_async], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    """``call(url, method, *arguments, **options)``: one call by a new client of either kind."""
    return request.param  # type: ignore[no-any-return]
