"""What the launcher puts before Ray's handling of a request, in the replica that speaks HTTP; Ray is told its path.

Ray's handling costs more than a small image does. Inference, which is nearly all there is to do, goes by a short cut to
the gateway of this process, if there is one; Ray counts no request then, which only an autoscaler would miss. It still
watches over the replica, and uvicorn lets open requests end before it stops. Other requests go through Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import orjson
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.edge import Edge, Wrap, as_it_is, rays_way
from services.grpc_methods import bind_grpc
from services.origin import valid_request_id
from stn_core.errors import PROBLEM_CONTENT_TYPE, Unavailable

if TYPE_CHECKING:
    from services.admission import Admission

_ID = b"x-request-id"
_MODELS, _INFER = "/v2/models/", "/infer"
_READINESS, _RAYS_HEALTH = ("/ready", "/readyz"), "/-/healthz"
_DRAINING = Unavailable("not ready: the service is stopping, or this replica is; try again soon")


def model_to_infer(scope: Scope) -> str | None:
    """The model of a request for the unversioned ``infer``; None for all others.

    Whatever is not exactly of this form is the router's, which knows escapes, versions and mistakes.
    """
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    model: str = path[len(_MODELS) : -len(_INFER)]
    return model if path == f"{_MODELS}{model}{_INFER}" and "/" not in model else None


class ShortCut:
    """Takes the short cut where there is one, and has Ray not watch the other requests for clients that go away.

    To watch takes two tasks and a queue for each. A client that goes before its body is whole is noticed all the same;
    one that goes later is answered for nobody.
    """

    gateway: ClassVar[ASGIApp | None] = None
    """Where the short cut leads to, if this process has it."""
    admission: ClassVar[Admission | None] = None
    """Whom the gateway of this process lets in, if it asks."""
    door: ClassVar[ASGIApp | None] = None
    """That gateway: whoever is not let in hears so from it, which counts that, before Ray reads a body."""

    watched: ClassVar[Wrap] = staticmethod(as_it_is)
    """That gateway's watch over what answers, if this process has one: what is refused here is counted too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._edge = Edge.from_environment()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = ShortCut.gateway
        if gateway is not None and model_to_infer(scope) is not None:
            await gateway(scope, receive, send)
            return
        if scope["type"] == "http":
            if scope["path"].endswith(_READINESS) and not await self._ray_takes_requests(scope, receive):
                await _refuse(send)
                return
            # Of an id that is no good one Ray would make an echo.
            headers = [
                pair for pair in scope["headers"] if pair[0] != _ID or valid_request_id(pair[1].decode("latin-1"))
            ]
            scope["headers"] = rays_way(headers)
            send = _saying_when(send)
            if ShortCut.admission is not None and ShortCut.door is not None and ShortCut.admission.refuses(scope):
                await ShortCut.door(scope, receive, send)
                return
            if self._edge is not None:
                await self._edge.call(self._app, scope, receive, send, ShortCut.watched)
                return
        await self._app(scope, receive, send)

    async def _ray_takes_requests(self, scope: Scope, receive: Receive) -> bool:
        """Whether Ray says of this process that it takes requests, and is not about to stop."""
        statuses: list[int] = []

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        path = scope.get("root_path", "") + _RAYS_HEALTH
        health = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self._app(health, receive, note)
        return statuses != [503]


def _saying_when(send: Send) -> Send:
    """``send``, with ``Retry-After`` in each 503 that has none: Ray's own, of a replica that is full or not there."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            headers = list(message["headers"])
            if all(name.lower() != b"retry-after" for name, _ in headers):
                message = {**message, "headers": [*headers, (b"retry-after", b"1")]}
        await send(message)

    return told


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", PROBLEM_CONTENT_TYPE.encode()), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": _DRAINING.status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(_DRAINING.problem())})


def middlewares() -> list[Middleware]:
    """The middlewares as Ray Serve wants them; what ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names.

    Ray calls this in every process that is about to listen, which is why the address for gRPC is seen to here.
    """
    bind_grpc()
    return [Middleware(ShortCut)]
