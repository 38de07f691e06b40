"""Answers the v2 protocol over gRPC: the same models, limits, counts and errors as over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.json_format import ParseDict

from services.admission import OPEN_GRPC, Admission
from services.catalog import (
    LOG_IS_FIXED,
    NOT_TRACED,
    check_loaded,
    index,
    no_shared_memory,
    refuse_unload,
    statistics,
)
from services.grpc_messages import CLASSES, parsed
from services.grpc_methods import UNARY
from services.grpc_tensors import decode_infer, encode_infer, split_request, streamed
from services.inference import INLINE_BYTES, INLINE_TEXT_BYTES, Inference
from services.observed import CLIENT_GONE, REQUEST_ID, Watch
from services.origin import current, new_request_id, origins
from services.pipelines import Pipelines
from services.protocol import ModelSpec, find_model, server_metadata
from services.request_log import RequestLog
from services.settings import Settings
from services.tracing import Tracing
from stn_core.errors import Overloaded, StnError, TooLarge, UnknownModel, Unsupported, shortened

T = TypeVar("T")
Metadata = Iterable[tuple[str, str]]

logger = logging.getLogger("ray.serve")

MAX_STREAMED = 8
"""Requests of one stream that are worked on at once."""
_MAX_DETAIL = 2000  # it travels in a header, of which clients take 8 KiB, with up to three bytes for one
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_INFERENCE = ("ModelInfer", "ModelStreamInfer")
_NOT_SERVED = {
    "TraceSetting": NOT_TRACED,
    "LogSettings": LOG_IS_FIXED,
    **{name: no_shared_memory(kind.lower()) for kind in ("System", "Cuda") for name in UNARY if name.startswith(kind)},
}


class Encoded(NamedTuple):
    """A message in bytes already, of which Ray asks to be serialized."""

    data: bytes = b""

    def SerializeToString(self) -> bytes:  # noqa: N802  # protobuf's name
        return self.data


class _Seen:
    """What became of a request: nobody hears of the end of one that was given up."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.reason: StnError | None = None
        self.is_over = False

    def end(self) -> tuple[int, str]:
        """Its status, as over HTTP, and the type of its error."""
        if not self.is_over:
            return CLIENT_GONE
        return (200, "") if self.reason is None else (self.reason.status, self.reason.code)


class GrpcGateway:
    """Answers the protocol's methods with ``pipelines``."""

    def __init__(self, pipelines: Pipelines, settings: Settings, admission: Admission) -> None:
        self._pipelines = pipelines
        self._admission = admission
        self._limits = settings.limits
        self._watch = Watch(pipelines.requests, RequestLog(settings.observability.log_requests), Tracing.here)
        self._methods: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._infer,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def answer(self, method: str, data: bytes, context: Any) -> Encoded:
        """The answer to one message; an error goes into ``context`` (a gRPC one) as status code and details."""
        given = dict(context.invocation_metadata() or ())
        with self._watched(method, given.get(REQUEST_ID), given) as seen:
            trailing = [(REQUEST_ID, seen.request_id)]
            try:
                if method not in OPEN_GRPC:
                    self._admission.admit_call(given)
                if method in _NOT_SERVED:
                    raise Unsupported(_NOT_SERVED[method])
                encoded = Encoded(await self._methods[method](data))
            except Exception as error:
                reason = seen.reason = _typed(method, error)
                # Set and not raised, as Ray would log what is raised.
                context.set_code(_CODES.get(reason.status, grpc.StatusCode.INTERNAL))
                context.set_details(shortened(reason.detail, _MAX_DETAIL))
                if isinstance(reason, Overloaded):  # what gRPC's own retries go by
                    trailing.append(("grpc-retry-pushback-ms", str(round(reason.retry_after_s * 1000))))
                encoded = Encoded()
            seen.is_over = True
        context.set_trailing_metadata(trailing)
        return encoded

    async def stream(self, messages: AsyncIterator[bytes], metadata: Metadata = ()) -> AsyncGenerator[Encoded, None]:
        """The answers to a stream of inference requests, in their order; an error is the answer of one request.

        Requests of a stream that came with an id have that, a point, and their number.
        """
        given = dict(metadata)
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(MAX_STREAMED)
        started: set[asyncio.Task[Any]] = set()

        def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            task = asyncio.create_task(work)
            started.add(task)
            task.add_done_callback(started.discard)
            return task

        async def read() -> None:
            number = 0
            try:
                async for data in messages:
                    await room.acquire()
                    asked_id = f"{given[REQUEST_ID]}.{number}" if REQUEST_ID in given else None
                    answers.put_nowait(start(self._streamed(data, asked_id, given)))
                    number += 1
            except Exception:
                logger.exception("a stream of requests broke off")
            answers.put_nowait(None)

        start(read())
        try:
            while (answer := await answers.get()) is not None:
                yield Encoded(await answer)
                room.release()
        finally:
            for task in started:
                task.cancel()

    @contextmanager
    def _watched(self, method: str, asked_id: str | None, given: Mapping[str, str]) -> Iterator[_Seen]:
        """Watches over one request, to which what is done in the block belongs."""
        origin = self._watch.begin(asked_id, given.get("traceparent"), "grpc")
        seen, token = _Seen(origin.request_id), origins.set((origin,))
        try:
            yield seen
        finally:
            origins.reset(token)
            if not origin.model and method in _INFERENCE:
                origin.model = "unknown"
            self._watch.end(origin, *seen.end(), dict, (("method", method),))

    async def _streamed(self, data: bytes, asked_id: str | None, given: Mapping[str, str]) -> bytes:
        with self._watched("ModelStreamInfer", asked_id, given) as seen:
            try:
                self._admission.admit_call(given)
                encoded = streamed(await self._infer(data))
                seen.is_over = True
                return encoded
            except Exception as error:
                reason = seen.reason = _typed("ModelStreamInfer", error)
                seen.is_over = True
        answer = CLASSES["ModelStreamInferResponse"](error_message=shortened(reason.detail, _MAX_DETAIL))
        with suppress(StnError):  # so that the client knows which request it was
            request = parsed("ModelInferRequest", split_request(data, self._limits).rest)
            answer.infer_response.id, answer.infer_response.model_name = request.id, request.model_name
        return bytes(answer.SerializeToString())

    async def _infer(self, data: bytes) -> bytes:
        parts = split_request(data, self._limits)
        small = len(parts.rest) <= INLINE_TEXT_BYTES
        message = await _here_or_beside(small, parsed, "ModelInferRequest", parts.rest)
        spec = find_model(self._pipelines.specs, message.model_name, message.model_version or None)
        async with Inference(self._pipelines, spec, self._limits) as inference:
            if len(data) > self._limits.max_request_bytes:
                raise TooLarge(
                    f"expected a message of at most {self._limits.max_request_bytes} bytes, got {len(data)}; send "
                    "fewer images"
                )
            with self._pipelines.budget.lease() as lease:
                lease.hold(len(data))
                small = small and len(data) <= INLINE_BYTES
                request = await _here_or_beside(small, decode_infer, message, parts.raw)
                return await inference.run(request, encode_infer)

    async def _server_live(self, data: bytes) -> bytes:
        return _message("ServerLiveResponse", {"live": True})

    async def _server_ready(self, data: bytes) -> bytes:
        return _message("ServerReadyResponse", {"ready": not await self._pipelines.unready_stages()})

    async def _model_ready(self, data: bytes) -> bytes:
        try:
            spec = self._model(parsed("ModelReadyRequest", data))
        except UnknownModel:
            return _message("ModelReadyResponse", {"ready": False})
        return _message("ModelReadyResponse", {"ready": not await self._pipelines.unready_stages(spec.stages)})

    async def _server_metadata(self, data: bytes) -> bytes:
        return _message("ServerMetadataResponse", server_metadata(self._limits))

    async def _model_metadata(self, data: bytes) -> bytes:
        return _message("ModelMetadataResponse", self._model(parsed("ModelMetadataRequest", data)).metadata())

    async def _model_config(self, data: bytes) -> bytes:
        spec = self._model(parsed("ModelConfigRequest", data))
        # Over HTTP they are in the metadata, whose message has no place for them.
        parameters = {name: {"string_value": json.dumps(value)} for name, value in spec.parameters.items()}
        return _message("ModelConfigResponse", {"config": {**spec.config(self._limits), "parameters": parameters}})

    async def _statistics(self, data: bytes) -> bytes:
        request = parsed("ModelStatisticsRequest", data)
        document = statistics(self._pipelines, request.name or None, request.version or None)
        # Without ParseDict, which would hold up the event loop: there may be thousands of numbers.
        return bytes(CLASSES["ModelStatisticsResponse"](**document).SerializeToString())

    async def _index(self, data: bytes) -> bytes:
        only_ready = parsed("RepositoryIndexRequest", data).ready
        return _message("RepositoryIndexResponse", {"models": await index(self._pipelines, only_ready)})

    async def _load(self, data: bytes) -> bytes:
        request = parsed("RepositoryModelLoadRequest", data)
        await check_loaded(self._pipelines, request.model_name, not request.parameters)
        return b""

    async def _unload(self, data: bytes) -> bytes:
        refuse_unload(self._pipelines, parsed("RepositoryModelUnloadRequest", data).model_name)

    def _model(self, request: Any) -> ModelSpec:
        return find_model(self._pipelines.specs, request.name, request.version or None)


async def _here_or_beside(small: bool, work: Callable[..., T], *given: Any) -> T:
    """What ``work`` gives: on the event loop where it is ``small``, else in a thread."""
    return work(*given) if small else await asyncio.to_thread(work, *given)


def _message(name: str, document: dict[str, Any]) -> bytes:
    """The message that says what ``document`` does, as far as the message has fields for it."""
    return bytes(ParseDict(document, CLASSES[name](), ignore_unknown_fields=True).SerializeToString())


def _typed(method: str, error: Exception) -> StnError:
    """The error of our tree to tell a client of; what is none of it is a fault of ours, and logged."""
    if isinstance(error, StnError):
        return error
    origin = current()
    request_id = new_request_id() if origin is None else origin.request_id
    logger.error("request %s to %s failed", request_id, method, exc_info=error)
    return StnError(f"the service failed on request {request_id}; its log has the reason")
