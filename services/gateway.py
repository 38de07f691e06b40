"""The HTTP routes of the Open Inference Protocol v2: thin, and every error one problem document."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.body import client_gone, read_body, whole_number
from services.collecting import gateway_samples
from services.compression import asked_coding, compressed
from services.documentation import Documentation
from services.friendly import friendly_routes
from services.inference import INLINE_BYTES, INLINE_TEXT_BYTES, Inference
from services.links import StageLink
from services.metrics_board import Board
from services.middleware import model_to_infer
from services.observed import Observed, Watch
from services.operations import Operations, check_ready
from services.pipelines import Pipelines
from services.playground_files import PlaygroundFiles
from services.problems import guarded, unknown_route
from services.protocol import SERVER_NAME, ModelSpec, find_model, server_metadata
from services.raw import raw_request
from services.repository import Repository, absent_routes
from services.request_log import RequestLog
from services.routes import ApiRoute, json_answer, of_model
from services.settings import Settings
from services.tracing import Tracing
from stn_core.bundle import read_manifest
from stn_core.errors import (
    BadBody,
    BadRecipe,
    BadTensor,
    Overloaded,
    SlowBody,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
)
from stn_core.wire import HEADER_LENGTH, InferRequest, Message, decode_request, encode_response


class _Answer:
    """An encoded answer, sent without the care that a ``Response`` takes of what others put into it."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        self._body = body
        headers = {"content-length": str(len(body)), **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


class Gateway:
    """Answers the protocol's requests with ``pipelines``."""

    def __init__(
        self, pipelines: Pipelines, settings: Settings, board: Board | None = None, sha256: str | None = None
    ) -> None:
        self._pipelines = pipelines
        self._limits = settings.limits
        name, version = pipelines.bundle
        bundle = {"name": name, "version": version, "sha256": sha256}
        self._metadata = {**server_metadata(settings.limits), "bundle": bundle}
        self._repository = Repository(pipelines, settings.limits)
        self._friendly = friendly_routes(pipelines, settings)
        board = board or Board(SERVER_NAME, lambda: gateway_samples(pipelines))
        self._operations = Operations(pipelines, board)
        log = RequestLog(settings.observability.log_requests)
        self._watch = Watch(pipelines.requests, log, Tracing.here)

    def asgi_app(self) -> ASGIApp:
        """The ASGI application with all routes; ``infer``, which is nearly all there is to do, is found before them."""
        infer, routed = guarded(self.infer), self._routed()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            model = model_to_infer(scope)
            if model is None:
                await routed(scope, receive, send)
                return
            response = await infer(Request({**scope, "path_params": {"model": model}}, receive))
            await response(scope, receive, send)

        return app

    def watched(self, app: ASGIApp, answers_id: bool = True) -> ASGIApp:
        """``app``, all that answers, with each request counted, logged, traced and known by an id.

        ``answers_id``: whether it tells the id in a header, which Ray does for what goes through it.
        """
        return Observed(app, self._watch, answers_id)

    def routes(self) -> list[ApiRoute]:
        """All routes; where two fit a path, the first one counts."""
        stages_missing = (Unavailable,)
        refused = (BadBody, BadTensor, BadRecipe, TooLarge, Unsupported, SlowBody, Overloaded, Unavailable, TimedOut)
        return [
            *of_model(
                "POST", "/infer", self.infer, "Inference", "The outputs", "InferResponse", refused, "InferRequest"
            ),
            *self._operations.routes(),
            *of_model(
                "GET", "/ready", self.model_ready, "Health", "Whether a model is warm", "ModelReady", stages_missing
            ),
            *self._repository.routes(),
            *of_model("GET", "/config", self.model_config, "Metadata", "Of a model, as Triton has it", "ModelConfig"),
            *of_model("GET", "", self.model_metadata, "Metadata", "Inputs, outputs, classes", "ModelMetadata"),
            *(
                ApiRoute("GET", path, self.server_metadata, "Metadata", "Extensions and limits", "ServerMetadata")
                for path in ("/v2", "/v2/")
            ),
            *absent_routes(),
        ]

    def _routed(self) -> Starlette:
        routes = self.routes() + PlaygroundFiles().routes()
        routes += Documentation(routes, self._friendly, self._pipelines.specs).routes()
        # Not FastAPI: its models know nothing of the protocol's bodies, raw streams, and each layer costs time.
        served = [(one.path, one.handler, one.method) for one in routes]
        served += [(one.path, one.handler, one.method) for one in self._friendly]
        app = Starlette(
            routes=[Route(path, guarded(handler), methods=[method]) for path, handler, method in served],
            exception_handlers={HTTPException: unknown_route},
        )
        app.router.redirect_slashes = False  # clients of the protocol take a redirect for an error
        return app

    async def server_metadata(self, request: Request) -> Response:
        refused = self._pipelines.refused
        return json_answer(self._metadata if refused is None else {**self._metadata, "refused": refused})

    async def model_metadata(self, request: Request) -> Response:
        return json_answer(self._model(request).metadata())

    async def model_config(self, request: Request) -> Response:
        return json_answer(self._model(request).config(self._limits))

    async def model_ready(self, request: Request) -> Response:
        spec = self._model(request)
        await check_ready(self._pipelines, spec.stages)
        return json_answer({"name": spec.name, "ready": True})

    async def infer(self, request: Request) -> ASGIApp:
        spec = self._model(request)
        gone = client_gone(request.receive)
        async with Inference(self._pipelines, spec, self._limits, gone) as inference:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
            with self._pipelines.budget.lease() as lease:
                body = await read_body(headers, request.stream(), self._limits, lease)
                inference.received()
                decoded = await self._decode(body, whole_number(headers, HEADER_LENGTH), spec)
                message = await inference.run(decoded, encode_response)
                return await _packed(message, headers.get("accept-encoding", ""))

    def _model(self, request: Request) -> ModelSpec:
        return find_model(self._pipelines.specs, request.path_params["model"], request.path_params.get("version"))

    async def _decode(self, body: bytes, length: int | None, spec: ModelSpec) -> InferRequest:
        if length == 0:
            return raw_request(body, spec)
        json_bytes = len(body) if length is None else min(length, len(body))
        if json_bytes > self._limits.max_json_bytes:
            raise TooLarge(
                f"expected at most {self._limits.max_json_bytes} bytes of JSON, got {json_bytes}; send tensors as "
                "binary data, which is smaller and faster"
            )
        if json_bytes <= INLINE_TEXT_BYTES and len(body) <= INLINE_BYTES:
            return decode_request(body, length)
        return await asyncio.to_thread(decode_request, body, length)


def make_app(settings: Settings, links: dict[str, StageLink]) -> ASGIApp:
    """The ASGI application that serves the settings' bundle by ``links``."""
    gateway = Gateway(Pipelines(settings, links, read_manifest(settings.bundle)), settings)
    return gateway.watched(gateway.asgi_app())


async def _packed(message: Message, accepted: str) -> _Answer:
    coding = asked_coding(accepted)
    packed = None if coding is None else await compressed(message.body, coding)
    if coding is None or packed is None:
        return _Answer(message.body, message.headers)
    return _Answer(packed, {**message.headers, "content-encoding": coding})
