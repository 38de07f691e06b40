"""The client for asyncio. All it decides lies in ``calls`` and ``flow``; here are the sockets and the clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Self, Unpack

from numpy.typing import ArrayLike, NDArray

from stn_client.answers import Settled
from stn_client.by_httpx import AsyncHttpxLink
from stn_client.calls import Call
from stn_client.connected import Connected
from stn_client.flow import Flow, Request, T
from stn_client.images import AsyncImages
from stn_client.models import R
from stn_client.options import AugmentOptions, Options, RectifyOptions, StraightenOptions, WarpOptions
from stn_client.progress import telling
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Straightening, Warping
from stn_client.transport import AsyncLink


class AsyncClient(Connected[AsyncLink]):
    """``Client`` for asyncio: the same arguments, results and errors, for use by any number of tasks of one loop.

    Takes asynchronous iterables of images, too. Any other iterable is read in a thread, as are files.
    """

    async def predict(self, images: AsyncImages, **options: Unpack[RectifyOptions]) -> Prediction:
        """See ``Client.predict``."""
        return await self._gather(self._calls.predict(images, **options))

    async def rectify(self, images: AsyncImages, **options: Unpack[RectifyOptions]) -> Rectification:
        """See ``Client.rectify``."""
        return await self._gather(self._calls.rectify(images, **options))

    async def straighten(self, images: AsyncImages, **options: Unpack[StraightenOptions]) -> Straightening:
        """See ``Client.straighten``."""
        return await self._gather(self._calls.straighten(images, **options))

    async def classify(self, images: AsyncImages, **options: Unpack[Options]) -> Classification:
        """See ``Client.classify``."""
        return await self._gather(self._calls.classify(images, **options))

    async def warp(self, images: AsyncImages, theta: ArrayLike, **options: Unpack[WarpOptions]) -> NDArray[Any]:
        """See ``Client.warp``."""
        return (await self._gather(self._calls.warp_alone(images, theta, **options))).images

    async def augment(
        self,
        images: AsyncImages,
        recipe: str | Mapping[str, Any],
        seed: int,
        ids: ArrayLike | None = None,
        **options: Unpack[AugmentOptions],
    ) -> Augmentation:
        """See ``Client.augment``."""
        return await self._gather(self._calls.augment(images, recipe, seed, ids, **options))

    @property
    def stream(self) -> AsyncStream:
        """See ``Client.stream``."""
        return AsyncStream(self)

    async def server_ready(self) -> bool:
        """See ``Client.server_ready``."""
        return await self._run(self._calls.server_ready())

    async def metadata(self) -> dict[str, Any]:
        """See ``Client.metadata``."""
        return await self._run(self._calls.metadata())

    async def recipes(self) -> dict[str, dict[str, Any]]:
        """See ``Client.recipes``."""
        return await self._run(self._calls.recipes())

    async def recipe(self, name: str) -> dict[str, Any]:
        """See ``Client.recipe``."""
        return await self._run(self._calls.recipe(name))

    async def shadow(self) -> dict[str, Any]:
        """See ``Client.shadow``."""
        return await self._run(self._calls.shadow())

    async def model(self, name: str) -> dict[str, Any]:
        """See ``Client.model``."""
        return await self._run(self._calls.model(name))

    async def close(self) -> None:
        """Closes the connections; the client cannot be used after."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _new_link(self) -> AsyncLink:
        return AsyncHttpxLink(self._settings)

    async def _gather(self, call: Call[R]) -> R:
        whole = call.whole()
        async with aclosing(self._settled(call)) as found:
            async for settled in found:
                whole.add(settled)
        return whole.result()

    async def _parts(self, call: Call[R]) -> AsyncGenerator[R, None]:
        async with aclosing(self._settled(call)) as found:
            async for settled in found:
                yield call.part(settled)

    async def _settled(self, call: Call[Any]) -> AsyncGenerator[Settled, None]:
        limits = await self._run(self._calls.limits(call.chosen.deadline))
        flows = self._calls.flows_async(call, limits) or _in_a_thread(self._calls.flows(call, limits))
        with telling(call.chosen.progress, call.model.name, call.source.total) as tell:
            async with aclosing(flows), aclosing(self._in_order(flows)) as found:
                async for settled in found:
                    tell(len(settled.index))
                    yield settled

    async def _in_order(self, flows: AsyncIterator[Flow[T]]) -> AsyncGenerator[T, None]:
        """What the flows come to; while the oldest is waited for, others are under way, and one is ready to begin."""
        tasks: deque[asyncio.Task[T]] = deque()
        try:
            async for flow in flows:
                done = [await tasks.popleft()] if len(tasks) == self._in_flight else []
                tasks.append(asyncio.create_task(self._run(flow)))
                for result in done:
                    yield result
            while tasks:
                yield await tasks.popleft()
        finally:  # after an error or a cancellation nothing goes on behind the caller's back
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, flow: Flow[T]) -> T:
        came: object = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            came = await (self._link.send(step) if isinstance(step, Request) else asyncio.sleep(step.duration_s))


async def _in_a_thread(flows: Iterator[Flow[T]]) -> AsyncGenerator[Flow[T], None]:
    """The flows, each made in a thread: the caller's iterable, or a file, may be slow."""
    while (flow := await asyncio.to_thread(next, flows, None)) is not None:
        yield flow


class AsyncStream:
    """The calls of an ``AsyncClient`` as asynchronous iterators: see ``stn_client.client.Stream``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def predict(self, images: AsyncImages, **options: Unpack[RectifyOptions]) -> AsyncGenerator[Prediction, None]:
        """See ``Client.predict``."""
        return self._client._parts(self._client._calls.predict(images, **options))

    def rectify(self, images: AsyncImages, **options: Unpack[RectifyOptions]) -> AsyncGenerator[Rectification, None]:
        """See ``Client.rectify``."""
        return self._client._parts(self._client._calls.rectify(images, **options))

    def straighten(
        self, images: AsyncImages, **options: Unpack[StraightenOptions]
    ) -> AsyncGenerator[Straightening, None]:
        """See ``Client.straighten``."""
        return self._client._parts(self._client._calls.straighten(images, **options))

    def classify(self, images: AsyncImages, **options: Unpack[Options]) -> AsyncGenerator[Classification, None]:
        """See ``Client.classify``."""
        return self._client._parts(self._client._calls.classify(images, **options))

    def warp(
        self, images: AsyncImages, theta: ArrayLike | Iterator[ArrayLike], **options: Unpack[Options]
    ) -> AsyncGenerator[Warping, None]:
        """See ``Client.warp`` and ``Stream.warp``."""
        return self._client._parts(self._client._calls.warp(images, theta, **options))

    def augment(
        self,
        images: AsyncImages,
        recipe: str | Mapping[str, Any],
        seed: int,
        ids: ArrayLike | Iterator[int] | None = None,
        **options: Unpack[AugmentOptions],
    ) -> AsyncGenerator[Augmentation, None]:
        """See ``Client.augment`` and ``Stream.augment``."""
        return self._client._parts(self._client._calls.augment(images, recipe, seed, ids, **options))
