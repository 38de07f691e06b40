"""What is seen of each request from outside, whatever became of it: its id, its end, its line in the log, its trace.

Around everything else that answers, so that who is refused by a wrapper further in is seen too.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.front_refusals import REFUSED, is_ahead
from services.origin import Origin, new_request_id, origins, valid_request_id
from services.request_counts import RequestCounts
from services.request_log import RequestLog
from services.tracing import Tracing
from stn_core.errors import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, Overloaded, shortened

REQUEST_ID = "x-request-id"
CLIENT_GONE = 499, "client-gone"
"""The status and the reason of a request whose client did not wait for the end."""
_HEALTH = ("/healthz", "/readyz", "/live", "/ready")
_ID, _TRACE, _TYPE, _LENGTH = REQUEST_ID.encode(), b"traceparent", b"content-type", b"content-length"
_AHEAD = REFUSED.encode() if is_ahead() else None
_PROBLEM = PROBLEM_CONTENT_TYPE.encode()


class Watch:
    """What watches over the requests of one gateway, by whatever protocol they come."""

    def __init__(self, counts: RequestCounts, log: RequestLog, tracing: Tracing | None) -> None:
        self._counts, self._log, self._tracing = counts, log, tracing

    def begin(self, asked_id: str | None, traceparent: str | None, protocol: str) -> Origin:
        """Takes note of a request: under the id its client gave it, if that is a good one."""
        request_id = asked_id if asked_id is not None and valid_request_id(asked_id) else new_request_id()
        origin = Origin(request_id, "", protocol)
        if self._tracing is not None:
            self._tracing.begin(origin, traceparent)
        return origin

    def refused_ahead(self, origin: Origin, count: str) -> None:
        """Counts the requests like this one that HAProxy has refused by itself."""
        if count.isdigit():
            self._counts.add(origin.model, origin.protocol, Overloaded.status, Overloaded.code, int(count))

    def end(self, origin: Origin, status: int, reason: str, told: Callable[..., dict[str, Any]], *given: Any) -> None:
        """Counts how it ended, and tells the log if that wants it, with what its protocol has ``told`` of it."""
        self._counts.add(origin.model, origin.protocol, status, reason)
        if self._log.wants(status):
            self._log.note(origin, status, reason, perf_counter() - origin.began_s, told(*given))
        if origin.span is not None:
            origin.span.end(origin, status, reason)


class Observed:
    """An ASGI application as seen from outside; ``answers_id``: the id's header is for it to send, and not for Ray."""

    def __init__(self, app: ASGIApp, watch: Watch, answers_id: bool = True) -> None:
        self._app, self._watch, self._answers_id = app, watch, answers_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked_id = traceparent = ahead = None
        for name, value in scope["headers"]:
            if name == _ID:
                asked_id = value.decode("latin-1")
            elif name == _TRACE:
                traceparent = value.decode("latin-1")
            elif name == _AHEAD:
                ahead = value.decode("latin-1")
        origin = self._watch.begin(asked_id, traceparent, "http")
        answer = _Answer(send, origin.request_id, self._answers_id)
        token = origins.set((origin,))
        try:
            await self._app(scope, receive, answer.send)
        finally:
            origins.reset(token)
            if answer.reason and not origin.model:
                origin.model = _model_in(scope)
            if ahead is not None:
                self._watch.refused_ahead(origin, ahead)
            if not _asks_health(scope):  # a probe that hears no is not refused
                self._watch.end(origin, answer.status, answer.reason, _told, scope, answer)


class _Answer:
    """Passes an answer on, with the request's id in its header and, if it is a problem document, in that."""

    __slots__ = ("_answers_id", "_head", "_parts", "_request_id", "_send", "bytes_out", "reason", "status")

    def __init__(self, send: Send, request_id: str, answers_id: bool) -> None:
        self._send, self._request_id, self._answers_id = send, request_id, answers_id
        self._head: Message | None = None
        self._parts: list[bytes] | None = None
        self.status, self.reason = CLIENT_GONE
        self.bytes_out = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            self.status, self.reason = message["status"], ""
            if self._answers_id:
                message = {**message, "headers": [*headers, (_ID, self._request_id.encode())]}
            if self.status >= 400:
                self.reason = f"status-{self.status}"
                if any(name == _TYPE and value.startswith(_PROBLEM) for name, value in headers):
                    self._head = message
                    return
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self._head is not None:
                self._parts = [*(self._parts or ()), body]
                if not message.get("more_body", False):
                    await self._send_problem(self._head, b"".join(self._parts))
                return
            self.bytes_out += len(body)
        await self._send(message)

    async def _send_problem(self, head: Message, body: bytes) -> None:
        document = orjson.loads(body)
        self.reason = document["type"].removeprefix(PROBLEM_TYPE_PREFIX)
        body = orjson.dumps({**document, "request_id": self._request_id})
        self.bytes_out = len(body)
        length = (_LENGTH, str(len(body)).encode())
        headers = [(name, value) for name, value in head["headers"] if name != _LENGTH]
        await self._send({**head, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})


def _told(scope: Scope, answer: _Answer) -> dict[str, Any]:
    """What the log tells of a request over HTTP: nothing that anybody could not know who sees it pass."""
    method, path = shortened(scope["method"], 16), shortened(scope["path"])
    return {"method": method, "path": path, "bytes_out": answer.bytes_out}


def _asks_health(scope: Scope) -> bool:
    return bool(scope["method"] == "GET" and scope["path"].endswith(_HEALTH))


def _model_in(scope: Scope) -> str:
    """``unknown`` where a request was for some model and did not get as far as to that; else nothing."""
    is_inference = scope["method"] == "POST" and "/models/" in scope["path"] and scope["path"].endswith("/infer")
    return "unknown" if is_inference else ""
