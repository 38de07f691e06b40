"""The service in this process: the same gateway and stages, without Ray and without a port, for the same client."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import httpx

from stn_core.errors import Unsupported

if TYPE_CHECKING:
    from services.settings import Settings
    from stn_core.backends import BackendName

URL = "http://localhost"
"""What a client calls it; nothing listens there."""
MIB = 2**20
MAX_PIXELS = 2**26
"""Of a picture, as it comes and as it is to come out: what ``stn_core.canvas`` makes at most."""
PICTURE_BYTES = 4 * MAX_PIXELS
IN_FLIGHT = 4
"""Requests at a time; none of them is to find the queues full, however large its pictures are."""
PATIENCE_S = 3600.0


class InProcess(httpx.BaseTransport):
    """Takes requests to an ASGI application, on an event loop in a thread of its own; for any number of threads."""

    def __init__(self, app: Any) -> None:
        self._app = httpx.ASGITransport(app)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="stn-in-process", daemon=True)
        self._thread.start()
        self._closing = Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, whole; httpx.ReadTimeout if it takes longer than the request's timeout."""
        content = b"".join(request.stream)  # type: ignore[arg-type]  # of a client that is not asyncio's
        whole = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        answer = asyncio.run_coroutine_threadsafe(self._answer(whole), self._loop)
        try:
            return answer.result(request.extensions.get("timeout", {}).get("read"))
        except TimeoutError:
            answer.cancel()
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        except CancelledError:
            raise httpx.ReadError("the service was closed", request=request) from None

    def close(self) -> None:
        """Ends the loop and gives up what is under way."""
        with self._closing:
            if not self._loop.is_closed():
                asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._app.handle_async_request(request)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def in_process(bundle: str, engine: BackendName) -> InProcess:
    """The service of ``bundle`` in this process, warm; Unsupported if what it needs is not installed."""
    try:
        from services.gateway import make_app
        from services.links import local_links

        settings = settings_of(bundle, engine)
        return InProcess(make_app(settings, local_links(settings)))
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        raise Unsupported(
            f"working without a service needs {module}, which is not installed: pip install 'stn-rectify[serve]' "
            "brings it; or give the address of a running service, --url"
        ) from None


def settings_of(bundle: str, engine: BackendName) -> Settings:
    """What one person's own files may ask for on a machine of their own: all its cores, and any picture of theirs."""
    from services.settings import Limits, Settings, StageSettings

    stage: dict[str, Any] = {"threads": None, "max_queued_bytes": IN_FLIGHT * PICTURE_BYTES}
    limits = Limits(
        max_request_bytes=PICTURE_BYTES,
        max_bytes_in_flight=IN_FLIGHT * PICTURE_BYTES,
        max_pixels_per_image=MAX_PIXELS,
        max_side_px=32766,
        max_decoded_bytes=PICTURE_BYTES,
        max_spline_terms=256 * MIB,
        request_timeout_s=PATIENCE_S,
    )
    return Settings(
        bundle=bundle,
        engine=engine,
        rectifier=StageSettings(**stage),
        classifier=StageSettings(**stage),
        augmenter=StageSettings(**stage, max_batch_images=1024, max_in_flight_batches=1, batch_wait_ms=0.0),
        limits=limits,
    )
