"""The HTTP routes of the Open Inference Protocol v2: thin, and every error one problem document."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.batching import retry_after_header
from services.body import ByteBudget, read_body, whole_number
from services.middleware import model_to_infer
from services.pipelines import Outcome, Pipelines
from services.protocol import ModelSpec, find_model, server_metadata
from services.settings import Settings
from stn_core.errors import (
    PROBLEM_CONTENT_TYPE,
    BadBody,
    BadTensor,
    Overloaded,
    StnError,
    TimedOut,
    TooLarge,
    Unavailable,
    brief,
    shortened,
)
from stn_core.wire import HEADER_LENGTH, InferRequest, Message, decode_request, encode_response

logger = logging.getLogger("ray.serve")

Handler = Callable[[Request], Awaitable[ASGIApp]]

_INLINE_BYTES = 256 * 1024
"""Messages up to this size are decoded and encoded on the event loop; a thread would cost more."""
_INLINE_JSON_BYTES = 16 * 1024
_MICROSECONDS = 1e-6


class _Answer:
    """An encoded message as an answer, sent without the care that a ``Response`` takes of what others put into it."""

    def __init__(self, message: Message) -> None:
        self._body = message.body
        headers = {"content-length": str(len(self._body)), **message.headers}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


class Gateway:
    """Answers the protocol's requests with ``pipelines``."""

    def __init__(self, pipelines: Pipelines, settings: Settings) -> None:
        self._pipelines = pipelines
        self._limits = settings.limits
        self._budget = ByteBudget(settings.limits.max_bytes_in_flight)
        self._metadata = server_metadata(settings.limits)

    def asgi_app(self) -> ASGIApp:
        """The ASGI application with all routes; ``infer``, which is nearly all there is to do, is found before them."""
        infer, routed = _guarded(self.infer), self._routed()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            model = model_to_infer(scope)
            if model is None:
                await routed(scope, receive, send)
                return
            response = await infer(Request({**scope, "path_params": {"model": model}}, receive))
            await response(scope, receive, send)

        return app

    def _routed(self) -> Starlette:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        routes: list[tuple[str, str, Handler]] = [
            *(("POST", f"{path}/infer", self.infer) for path in (model, version)),
            *(("GET", f"{path}/ready", self.model_ready) for path in (model, version)),
            *(("GET", f"{path}/config", self.model_config) for path in (model, version)),
            *(("GET", path, self.model_metadata) for path in (model, version)),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2", self.server_metadata),
            ("GET", "/v2/", self.server_metadata),
        ]
        # Not FastAPI: its models know nothing of the protocol's bodies, raw streams, and each layer costs time.
        app = Starlette(
            routes=[Route(path, _guarded(handler), methods=[method]) for method, path, handler in routes],
            exception_handlers={HTTPException: _unknown_route},
        )
        app.router.redirect_slashes = False  # clients of the protocol take a redirect for an error
        return app

    async def server_metadata(self, request: Request) -> Response:
        return _json(self._metadata)

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        await self._check_ready(None)
        return _json({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        return _json(self._model(request).metadata())

    async def model_config(self, request: Request) -> Response:
        return _json(self._model(request).config(self._limits))

    async def model_ready(self, request: Request) -> Response:
        spec = self._model(request)
        await self._check_ready(spec.stages)
        return _json({"name": spec.name, "ready": True})

    async def infer(self, request: Request) -> ASGIApp:
        spec = self._model(request)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        timeout_s = self._limits.request_timeout_s
        try:
            with self._budget.lease() as lease:
                async with asyncio.timeout(timeout_s) as deadline:
                    body = await read_body(headers, request.stream(), self._limits, lease)
                    decoded = await self._decode(body, whole_number(headers, HEADER_LENGTH))
                    asked_s = _asked_timeout_s(decoded)
                    if asked_s is not None and asked_s < timeout_s:
                        timeout_s = asked_s
                        deadline.reschedule(asyncio.get_running_loop().time() + asked_s)
                    _check_outputs(spec, decoded)
                    outcome = await self._pipelines.infer(spec, decoded)
                    message = await _encode(outcome, spec, decoded)
        except ClientDisconnect:
            raise BadBody("the client went away before the end of the body") from None
        except TimeoutError:
            raise TimedOut(
                f"model {spec.name} gave no answer within {timeout_s:g} s; send fewer images at once or try later"
            ) from None
        return _Answer(message)

    def _model(self, request: Request) -> ModelSpec:
        return find_model(self._pipelines.specs, request.path_params["model"], request.path_params.get("version"))

    async def _check_ready(self, stages: tuple[str, ...] | None) -> None:
        unready = await self._pipelines.unready_stages(stages)
        if unready:
            raise Unavailable(f"not ready: the {' and the '.join(unready)} did not say that it is warm; try again soon")

    async def _decode(self, body: bytes, length: int | None) -> InferRequest:
        json_bytes = len(body) if length is None else min(length, len(body))
        if json_bytes > self._limits.max_json_bytes:
            raise TooLarge(
                f"expected at most {self._limits.max_json_bytes} bytes of JSON, got {json_bytes}; send tensors as "
                "binary data, which is smaller and faster"
            )
        if json_bytes <= _INLINE_JSON_BYTES and len(body) <= _INLINE_BYTES:
            return decode_request(body, length)
        return await asyncio.to_thread(decode_request, body, length)


async def _encode(outcome: Outcome, spec: ModelSpec, request: InferRequest) -> Message:
    # In the model's own order, and without columns that travelled between stages only.
    chosen = {name: outcome.outputs[name] for name in spec.output_names if name in outcome.outputs}
    size = sum(array.nbytes for array in chosen.values())
    if size <= (_INLINE_BYTES if _all_binary(request) else _INLINE_JSON_BYTES):
        return encode_response(chosen, spec.name, spec.version, request, outcome.parameters)
    return await asyncio.to_thread(encode_response, chosen, spec.name, spec.version, request, outcome.parameters)


def _all_binary(request: InferRequest) -> bool:
    if request.outputs is None:
        return request.binary_by_default
    return all(output.binary for output in request.outputs)


def _check_outputs(spec: ModelSpec, request: InferRequest) -> None:
    """Refuses unknown outputs before any work is done for them."""
    for output in request.outputs or ():
        if output.name not in spec.output_names:
            known = ", ".join(spec.output_names)
            raise BadTensor(f"outputs: expected some of {known} of model {spec.name}, got {brief(output.name)}")


def _asked_timeout_s(request: InferRequest) -> float | None:
    """The protocol's ``timeout`` parameter, which is in microseconds."""
    asked = request.parameters.get("timeout")
    if asked is None or asked == 0:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        raise BadBody(f"parameters.timeout: expected microseconds as a whole number, got {brief(asked)}")
    return asked * _MICROSECONDS


def _guarded(handler: Handler) -> Handler:
    """``handler`` with its errors turned into problem documents."""

    async def answer(request: Request) -> ASGIApp:
        try:
            return await handler(request)
        except StnError as error:
            return _problem(error, request)
        except Exception:
            request_id = shortened(request.headers.get("x-request-id") or uuid.uuid4().hex)
            logger.exception("request %s to %s failed", request_id, request.url.path)
            return _problem(StnError(f"the service failed on request {request_id}; its log has the reason"), request)

    return answer


async def _unknown_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = shortened(request.url.path)
    detail = {
        404: f"{path}: no such route; the protocol's are below /v2, see GET /v2 and /v2/models/predict",
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
    headers = {"retry-after": retry_after_header(error)} if isinstance(error, Overloaded) else {}
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    document = error.problem(shortened(request.url.path))
    return Response(orjson.dumps(document), error.status, headers, media_type=PROBLEM_CONTENT_TYPE)


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
