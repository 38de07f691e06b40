"""The client for asyncio. All it decides lies in ``calls`` and ``flow``; here are the socket and the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import httpx
from numpy.typing import ArrayLike, NDArray

from stn_client.calls import Calls
from stn_client.client import Images
from stn_client.flow import Failure, Flow, Pause, Request, Response, Retry, Step, T
from stn_client.results import Augmentation, Classification, Prediction, Rectification
from stn_client.transport import failure_of, httpx_arguments, httpx_options, response_of, slices


class AsyncClient:
    """``Client`` for asyncio: the same arguments, results and errors, for use by any number of tasks of one loop."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        retries: int = Retry.retries,
        in_flight: int = 4,
    ) -> None:
        self._http = httpx.AsyncClient(**httpx_options(url, connect_timeout_s, read_timeout_s))
        self._calls = Calls(Retry(retries))
        self._in_flight = max(1, in_flight)

    async def predict(self, images: Images) -> Prediction:
        """See ``Client.predict``."""
        return await self._run(self._calls.predict(images))

    async def rectify(self, images: Images) -> Rectification:
        """See ``Client.rectify``."""
        return await self._run(self._calls.rectify(images))

    async def classify(self, images: Images) -> Classification:
        """See ``Client.classify``."""
        return await self._run(self._calls.classify(images))

    async def warp(self, images: Images, theta: ArrayLike) -> NDArray[Any]:
        """See ``Client.warp``."""
        return await self._run(self._calls.warp(images, theta))

    async def augment(
        self, images: Images, recipe: str | Mapping[str, Any], seed: int, ids: ArrayLike | None = None
    ) -> Augmentation:
        """See ``Client.augment``."""
        return await self._run(self._calls.augment(images, recipe, seed, ids))

    async def server_ready(self) -> bool:
        """See ``Client.server_ready``."""
        return await self._run(self._calls.server_ready())

    async def metadata(self) -> dict[str, Any]:
        """See ``Client.metadata``."""
        return await self._run(self._calls.metadata())

    async def close(self) -> None:
        """Closes the connections; the client cannot be used after."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        came: object = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            came = await self._do(step)

    async def _do(self, step: Step) -> object:
        if isinstance(step, Request):
            return await self._send(step)
        if isinstance(step, Pause):
            await asyncio.sleep(step.duration_s)
            return None
        return await self._run_all(step.flows)

    async def _run_all(self, flows: Sequence[Flow[Any]]) -> list[Any]:
        free = asyncio.Semaphore(self._in_flight)

        async def one(flow: Flow[Any]) -> Any:
            async with free:
                return await self._run(flow)

        tasks = [asyncio.create_task(one(flow)) for flow in flows]
        try:
            return await asyncio.gather(*tasks)
        finally:  # after an error or a cancellation nothing goes on behind the caller's back
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, request: Request) -> Response | Failure:
        content = _async_slices(request) if request.parts else None
        try:
            return response_of(await self._http.request(content=content, **httpx_arguments(request)))
        except httpx.RequestError as error:
            return failure_of(error, self._http.base_url)


async def _async_slices(request: Request) -> AsyncIterator[bytes]:
    for piece in slices(request):
        yield piece
