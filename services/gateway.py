"""The HTTP routes of the Open Inference Protocol v2: thin, and every error one problem document."""

import asyncio
from time import perf_counter_ns

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.body import ByteBudget, read_body, whole_number
from services.classification import check_classification, classified
from services.compression import asked_coding, compressed
from services.documentation import Documentation
from services.friendly import friendly_routes
from services.links import StageLink
from services.middleware import model_to_infer
from services.pipelines import Outcome, Pipelines
from services.problems import guarded, unknown_route
from services.protocol import ModelSpec, find_model, server_metadata
from services.raw import raw_request
from services.repository import Repository, absent_routes
from services.routes import ApiRoute, json_answer, of_model
from services.settings import Settings
from stn_core.bundle import read_manifest
from stn_core.errors import (
    BadBody,
    BadRecipe,
    BadTensor,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
    brief,
)
from stn_core.wire import HEADER_LENGTH, InferRequest, Message, decode_request, encode_response

_INLINE_BYTES = 256 * 1024
"""Messages up to this size are decoded and encoded on the event loop; a thread would cost more."""
_INLINE_JSON_BYTES = 16 * 1024
_MICROSECONDS = 1e-6


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

    def __init__(self, pipelines: Pipelines, settings: Settings) -> None:
        self._pipelines = pipelines
        self._limits = settings.limits
        self._budget = ByteBudget(settings.limits.max_bytes_in_flight)
        self._metadata = server_metadata(settings.limits)
        self._repository = Repository(pipelines, settings.limits, self._budget)
        self._friendly = friendly_routes(pipelines, settings, self._budget)

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

    def routes(self) -> list[ApiRoute]:
        """All routes; where two fit a path, the first one counts."""
        stages_missing = (Unavailable,)
        refused = (BadBody, BadTensor, BadRecipe, TooLarge, Unsupported, Overloaded, Unavailable, TimedOut)
        return [
            *of_model(
                "POST", "/infer", self.infer, "Inference", "The outputs", "InferResponse", refused, "InferRequest"
            ),
            ApiRoute("GET", "/v2/health/live", self.live, "Health", "Whether the process answers", "Live"),
            ApiRoute("GET", "/v2/health/ready", self.ready, "Health", "Whether all is warm", "Ready", stages_missing),
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
        routes = self.routes()
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
        return json_answer(self._metadata)

    async def live(self, request: Request) -> Response:
        return json_answer({"live": True})

    async def ready(self, request: Request) -> Response:
        await self._check_ready(None)
        return json_answer({"ready": True})

    async def model_metadata(self, request: Request) -> Response:
        return json_answer(self._model(request).metadata())

    async def model_config(self, request: Request) -> Response:
        return json_answer(self._model(request).config(self._limits))

    async def model_ready(self, request: Request) -> Response:
        spec = self._model(request)
        await self._check_ready(spec.stages)
        return json_answer({"name": spec.name, "ready": True})

    async def infer(self, request: Request) -> ASGIApp:
        spec = self._model(request)
        statistics = self._pipelines.statistics[spec.name]
        started_ns = perf_counter_ns()
        try:
            return await self._infer(spec, request, started_ns)
        except BaseException:
            statistics.add_failure(perf_counter_ns() - started_ns)
            raise

    async def _infer(self, spec: ModelSpec, request: Request, started_ns: int) -> ASGIApp:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        timeout_s = self._limits.request_timeout_s
        try:
            with self._budget.lease() as lease:
                async with asyncio.timeout(timeout_s) as deadline:
                    body = await read_body(headers, request.stream(), self._limits, lease)
                    read_ns = perf_counter_ns()
                    decoded = await self._decode(body, whole_number(headers, HEADER_LENGTH), spec)
                    asked_s = _asked_timeout_s(decoded)
                    if asked_s is not None and asked_s < timeout_s:
                        timeout_s = asked_s
                        deadline.reschedule(asyncio.get_running_loop().time() + asked_s)
                    _check_outputs(spec, decoded)
                    outcome = await self._pipelines.infer(spec, decoded)
                    inferred_ns = perf_counter_ns()
                    message = await _encode(outcome, spec, decoded)
                    answer = await _packed(message, headers.get("accept-encoding", ""))
        except TimeoutError:
            raise TimedOut(
                f"model {spec.name} gave no answer within {timeout_s:g} s; send fewer images at once or try later"
            ) from None
        ended_ns = perf_counter_ns()
        self._pipelines.statistics[spec.name].add_success(
            outcome.images, ended_ns - started_ns, outcome.prepared_ns - read_ns, ended_ns - inferred_ns
        )
        return answer

    def _model(self, request: Request) -> ModelSpec:
        return find_model(self._pipelines.specs, request.path_params["model"], request.path_params.get("version"))

    async def _check_ready(self, stages: tuple[str, ...] | None) -> None:
        unready = await self._pipelines.unready_stages(stages)
        if unready:
            raise Unavailable(f"not ready: the {' and the '.join(unready)} did not say that it is warm; try again soon")

    async def _decode(self, body: bytes, length: int | None, spec: ModelSpec) -> InferRequest:
        if length == 0:
            return raw_request(body, spec)
        json_bytes = len(body) if length is None else min(length, len(body))
        if json_bytes > self._limits.max_json_bytes:
            raise TooLarge(
                f"expected at most {self._limits.max_json_bytes} bytes of JSON, got {json_bytes}; send tensors as "
                "binary data, which is smaller and faster"
            )
        if json_bytes <= _INLINE_JSON_BYTES and len(body) <= _INLINE_BYTES:
            return decode_request(body, length)
        return await asyncio.to_thread(decode_request, body, length)


def make_app(settings: Settings, links: dict[str, StageLink]) -> ASGIApp:
    """The ASGI application that serves the settings' bundle by ``links``."""
    return Gateway(Pipelines(settings, links, read_manifest(settings.bundle)), settings).asgi_app()


async def _encode(outcome: Outcome, spec: ModelSpec, request: InferRequest) -> Message:
    # In the model's own order, and without columns that travelled between stages only.
    chosen = {name: outcome.outputs[name] for name in spec.output_names if name in outcome.outputs}
    size = sum(array.nbytes for array in chosen.values())

    def encode() -> Message:
        outputs = classified(chosen, spec, request)
        return encode_response(outputs, spec.name, spec.version, request, outcome.parameters)

    if size <= (_INLINE_BYTES if _all_binary(request) else _INLINE_JSON_BYTES):
        return encode()
    return await asyncio.to_thread(encode)


async def _packed(message: Message, accepted: str) -> _Answer:
    coding = asked_coding(accepted)
    packed = None if coding is None else await compressed(message.body, coding)
    if coding is None or packed is None:
        return _Answer(message.body, message.headers)
    return _Answer(packed, {**message.headers, "content-encoding": coding})


def _all_binary(request: InferRequest) -> bool:
    """Whether the answer holds arrays as they are, and no texts, which take far longer."""
    if request.outputs is None:
        return request.binary_by_default
    return all(output.binary and not output.classes for output in request.outputs)


def _check_outputs(spec: ModelSpec, request: InferRequest) -> None:
    """Refuses unknown outputs before any work is done for them."""
    for output in request.outputs or ():
        if output.name not in spec.output_names:
            known = ", ".join(spec.output_names)
            raise BadTensor(f"outputs: expected some of {known} of model {spec.name}, got {brief(output.name)}")
        if output.classes:
            check_classification(spec, output)


def _asked_timeout_s(request: InferRequest) -> float | None:
    """The protocol's ``timeout`` parameter, which is in microseconds."""
    asked = request.parameters.get("timeout")
    if asked is None or asked == 0:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        raise BadBody(f"parameters.timeout: expected microseconds as a whole number, got {brief(asked)}")
    return asked * _MICROSECONDS
