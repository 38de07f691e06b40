"""OpenTelemetry traces, if the settings ask for them: a span for each request, its wait and each batch it was in.

Nothing of OpenTelemetry is imported else, and a request that is not traced costs a comparison. Spans are made when what
they tell of is over, from times that are taken anyway; what travels with a batch is the request's ``traceparent``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.origin import Origin, origins
from services.settings import Observability, Traces
from stn_core.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

_NS = 1_000_000_000
_SERVICE = "stn-rectify"


class RequestSpan:
    """The span of one request that is traced."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, origin: Origin, status: int, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        if origin.model:
            self._span.update_name(f"{origin.protocol} {origin.model}")
        told = {"stn.request_id": origin.request_id, "stn.model": origin.model, "stn.images": origin.images}
        self._span.set_attributes({**told, "http.response.status_code": status})
        if reason:
            self._span.set_attribute("error.type", reason)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end()


class Tracing:
    """Makes spans and hands them to ``processor``; ``share`` of the requests that no client traces already."""

    here: Tracing | None = None
    """That of this process, if it traces."""

    def __init__(self, processor: SpanProcessor, share: float) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource({"service.name": _SERVICE})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(share)), resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(_SERVICE)
        self._travel = TraceContextTextMapPropagator()

    def begin(self, origin: Origin, traceparent: str | None) -> None:
        """Gives a request that begins now a span, below the client's own if it has one; none if it is not sampled."""
        from opentelemetry import trace

        parent = None if traceparent is None else self._travel.extract({"traceparent": traceparent})
        span = self._tracer.start_span(origin.protocol, parent, kind=trace.SpanKind.SERVER)
        if not span.is_recording():
            return
        carrier: dict[str, str] = {}
        self._travel.inject(carrier, trace.set_span_in_context(span))
        origin.span, origin.trace = RequestSpan(span), carrier["traceparent"]

    def add(self, name: str, traceparent: str, began_ns: int, ended_ns: int, **told: str | int) -> None:
        """A span of something that is over, in nanoseconds since 1970, below that of a request."""
        parent = self._travel.extract({"traceparent": traceparent})
        attributes = {f"stn.{key}": value for key, value in told.items()}
        self._tracer.start_span(name, parent, start_time=began_ns, attributes=attributes).end(ended_ns)

    def close(self) -> None:
        """Hands on what is left."""
        self._provider.shutdown()


def trace_batch(name: str, seconds: float, images: int) -> None:
    """Adds what just ended, after so many ``seconds``, to the traces of all requests at hand; nothing if none is."""
    tracing = Tracing.here
    if tracing is None:
        return
    ended_ns = time.time_ns()
    for origin in origins.get():
        if origin.trace:
            tracing.add(name, origin.trace, ended_ns - round(seconds * _NS), ended_ns, batch_images=images)


def trace_wait(origin: Origin, waited_s: float) -> None:
    """Adds the wait of a request whose batch begins now to its trace."""
    if Tracing.here is not None and origin.trace:
        began_ns = time.time_ns()
        Tracing.here.add("queue", origin.trace, began_ns - round(waited_s * _NS), began_ns)


def start_tracing(settings: Observability, folder: Path, process: str) -> Tracing | None:
    """Has this process trace as ``settings`` say; into ``folder``, if into files."""
    if settings.traces is Traces.OFF:
        return None
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    if settings.traces is Traces.FILE:
        out = (folder / f"stn-traces-{process}.jsonl").open("a", encoding="utf-8")
        exporter: Any = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    else:
        exporter = _otlp(settings.trace_endpoint)
    Tracing.here = Tracing(BatchSpanProcessor(exporter, schedule_delay_millis=1000), settings.trace_share)
    return Tracing.here


def _otlp(endpoint: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError:
        raise InvalidInput(
            "observability.traces: otlp needs an exporter that is not installed: pip install 'stn-rectify[trace]' "
            "brings it; or have traces written to files, traces: file"
        ) from None
    return OTLPSpanExporter(endpoint=endpoint)
