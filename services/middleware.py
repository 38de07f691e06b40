"""What the launcher puts before Ray's handling of a request, in the replica that speaks HTTP; Ray is told its path.

Ray's handling costs more than a small image does. Inference, which is nearly all there is to do, goes by a short cut to
the gateway of this process, if there is one; Ray counts no request then, which only an autoscaler would miss. It still
watches over the replica, and uvicorn lets open requests end before it stops. Other requests go through Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from services.edge import Edge, rays_way
from services.grpc_methods import bind_grpc

if TYPE_CHECKING:
    from services.admission import Admission

_MODELS, _INFER = "/v2/models/", "/infer"


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

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._edge = Edge.from_environment()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = ShortCut.gateway
        if gateway is not None and model_to_infer(scope) is not None:
            await gateway(scope, receive, send)
            return
        if scope["type"] == "http":
            scope["headers"] = rays_way(scope["headers"])
            if self._edge is not None:
                await self._edge.call(self._app, scope, receive, send, ShortCut.admission)
                return
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """The middlewares as Ray Serve wants them; what ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names.

    Ray calls this in every process that is about to listen, which is why the address for gRPC is seen to here.
    """
    bind_grpc()
    return [Middleware(ShortCut)]
