"""What a request meets before Ray does: a bound on its body, which Ray would read whole.

Ray's way of handling a request reads the body into memory before the gateway sees any of it, and heeds headers of its
own that a client may send: those are taken off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.body import ByteBudget, ByteLease, check_size, whole_number
from services.deploy_config import settings_by_application
from services.problems import problem_answer
from stn_core.errors import StnError

BODY_VARIABLE, BUDGET_VARIABLE = "STN_MAX_BODY_BYTES", "STN_MAX_BYTES_IN_FLIGHT"
"""Environment variables that tell Ray's processes the largest of the applications' ``limits``."""
_RAYS_HEADERS = frozenset(
    {b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-session-id", b"serve-multiplexed-model-id"}
)
_UNWATCHED = (b"x-request-disconnect-disabled", b"?1")

Wrap = Callable[[ASGIApp], ASGIApp]


def as_it_is(app: ASGIApp) -> ASGIApp:
    """``app``, where nobody watches."""
    return app


def rays_way(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """``headers`` without those that Ray heeds, and with the one that has it not watch for clients that go away."""
    kept = [header for header in headers if header[0].replace(b"_", b"-") not in _RAYS_HEADERS]
    return [*kept, _UNWATCHED]


def limit_bodies(config: dict[str, Any]) -> None:
    """Tells Ray's processes, by their environment, what the applications of ``config`` take at most."""
    limits = [settings.limits for settings in settings_by_application(config).values()]
    if limits and len(limits) == len(config["applications"]):  # what others take is theirs to say
        os.environ.setdefault(BODY_VARIABLE, str(max(limit.max_request_bytes for limit in limits)))
        os.environ.setdefault(BUDGET_VARIABLE, str(max(limit.max_bytes_in_flight for limit in limits)))


class Edge:
    """Bounds the bodies on their way to Ray: each, and all that are under way in this process."""

    def __init__(self, max_body_bytes: int, max_bytes_in_flight: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._budget = ByteBudget(max_bytes_in_flight)

    @classmethod
    def from_environment(cls) -> Edge | None:
        """As the launcher says; None if it does not."""
        body, budget = os.environ.get(BODY_VARIABLE), os.environ.get(BUDGET_VARIABLE)
        return cls(int(body), int(budget)) if body and budget else None

    async def call(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, watched: Wrap = as_it_is) -> None:
        """Has ``app`` answer, unless the request's body is refused here; ``watched`` goes around what refuses it."""
        try:
            announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
            check_size(whole_number({"length": announced.decode("latin-1")}, "length") or 0, self._max_body_bytes)
        except StnError as error:
            await watched(problem_answer(error, scope["path"]))(scope, receive, send)
            return
        with self._budget.lease() as lease:
            bounded = _Bounded(scope, receive, send, lease, self._max_body_bytes, watched)
            await app(scope, bounded.receive, bounded.send)


class _Bounded:
    """Both directions of one request: when too much has come it is answered here, and its client gone for Ray."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, lease: ByteLease, max_body_bytes: int, watched: Wrap
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._lease, self._max_body_bytes, self._watched = lease, max_body_bytes, watched
        self._bytes = 0
        self._begun = self._refused = False

    async def receive(self) -> Message:
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        try:
            check_size(self._bytes, self._max_body_bytes)
            self._lease.hold(self._bytes)
        except StnError as error:
            self._refused = True
            if not self._begun:
                refusal = self._watched(problem_answer(error, self._scope["path"]))
                await refusal(self._scope, self._receive, self._send)
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Any) -> None:
        if not self._refused:
            self._begun = True
            await self._send(message)
