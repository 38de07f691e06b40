"""Every error over HTTP is one problem document, whatever raised it."""

import logging
from collections.abc import Awaitable, Callable

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.batching import retry_after_header
from services.front_refusals import full_header
from services.origin import current, new_request_id
from stn_core.errors import (
    PROBLEM_CONTENT_TYPE,
    BadBody,
    NotAllowed,
    Overloaded,
    SlowBody,
    StnError,
    Unavailable,
    shortened,
)

logger = logging.getLogger("ray.serve")

Handler = Callable[[Request], Awaitable[ASGIApp]]


def guarded(handler: Handler) -> Handler:
    """``handler`` with its errors turned into problem documents."""

    async def answer(request: Request) -> ASGIApp:
        try:
            return await handler(request)
        except StnError as error:
            return _problem(error, request)
        except ClientDisconnect:
            return _problem(BadBody("the client went away before the end of the body"), request)
        except Exception:
            origin = current()
            request_id = new_request_id() if origin is None else origin.request_id
            logger.exception("request %s to %s failed", request_id, request.scope["path"])
            return _problem(StnError(f"the service failed on request {request_id}; its log has the reason"), request)

    return answer


async def unknown_route(request: Request, error: Exception) -> Response:
    """The answer of the router itself: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    path = shortened(request.scope["path"])
    detail = {
        404: f"{path}: no such route; the protocol's are below /v2, those for files below /v1; see /docs",
        405: f"{path}: expected another method than {shortened(request.method)}",
    }.get(error.status_code, str(error.detail))
    code = {404: "unknown-route", 405: "wrong-method"}.get(error.status_code, "http")
    document = {
        "type": f"urn:stn:error:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": error.status_code,
        "detail": detail,
        "error": detail,
        "instance": path,
    }
    headers = dict(error.headers or {})
    return Response(orjson.dumps(document), error.status_code, headers, media_type=PROBLEM_CONTENT_TYPE)


def _problem(error: StnError, request: Request) -> Response:
    return problem_answer(error, request.scope["path"])


def problem_answer(error: StnError, path: str) -> Response:
    """The problem document of ``error``, which a request to ``path`` met."""
    document = error.problem(shortened(path))
    return Response(orjson.dumps(document), error.status, problem_headers(error), media_type=PROBLEM_CONTENT_TYPE)


def problem_headers(error: StnError) -> dict[str, str]:
    """The headers that say what would help: when to try again, or a key; or that there is no more to say."""
    if isinstance(error, NotAllowed):
        return {"www-authenticate": 'Bearer realm="stn-rectify"'}
    if isinstance(error, SlowBody):
        return {"connection": "close"}  # or the rest of the body would be waited for
    if isinstance(error, Overloaded):
        return {"retry-after": retry_after_header(error), **full_header(error)}
    return {"retry-after": "1"} if isinstance(error, Unavailable) else {}
