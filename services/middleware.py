"""What the launcher puts before Ray's handling of a request, in the replica that speaks HTTP; Ray is told its path."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

_UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


class Unwatched:
    """Has Ray not watch for clients that go away: two tasks and a queue less for each request.

    A client that goes before its body is whole is noticed all the same; one that goes later is answered for nobody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], _UNWATCHED]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """The middlewares as Ray Serve wants them; what ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names."""
    return [Middleware(Unwatched)]
