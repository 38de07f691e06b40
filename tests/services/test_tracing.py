"""OpenTelemetry traces: the spans of a request, below that of its client; and none where none are asked for."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from gateway_in_process import client_of, make_links, make_settings
from http_calls import binary
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.channel import Channel, Listener
from services.links import LocalLink, StageLink
from services.origin import Origin
from services.settings import Observability, StageSettings, Traces
from services.stages import ClassifyStage
from services.tracing import Tracing, start_tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IMAGES = {"images": np.zeros((3, 28, 28, 1), np.uint8)}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The spans that this process made; none of clients that do not trace."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), share=0.0)
    monkeypatch.setattr(Tracing, "here", tracing)
    yield exporter.get_finished_spans
    tracing.close()


class Afar:
    """A stage that is reached by a channel, as one in a process of its own is."""

    def __init__(self, channel: Channel) -> None:
        self.call = channel.call

    async def ready(self) -> bool:
        return True


async def test_a_request_has_a_span_for_itself_its_wait_and_each_stage(engine: Any, spans: Any) -> None:
    settings = make_settings()
    near = LocalLink(ClassifyStage(engine), StageSettings())
    channel = await Channel.open(await Listener(near.call).listen("127.0.0.1"))
    links: dict[str, StageLink] = {**make_links(engine, settings), "classifier": Afar(channel)}
    async with client_of(links, settings) as http:
        message = binary(IMAGES)
        message["headers"] |= {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        assert (await http.post("/v2/models/predict/infer", **message)).status_code == 200
        await http.post("/v2/models/predict/infer", **binary(IMAGES))  # of which nobody asks a trace
    found = {span.name: span for span in spans()}
    assert len(spans()) == 4
    assert set(found) == {"http predict", "queue", "RectifyStage.rectify", "ClassifyStage.classify"}
    request = found.pop("http predict")
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes["stn.request_id"] == "mine"
    assert (request.attributes["stn.images"], request.attributes["http.response.status_code"]) == (3, 200)
    for span in found.values():
        assert span.parent.span_id == request.context.span_id
        assert f"{span.context.trace_id:032x}" == TRACE
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time
    assert found["queue"].end_time <= found["ClassifyStage.classify"].start_time
    assert found["RectifyStage.rectify"].attributes["stn.batch_images"] == 3


async def test_an_error_is_told_of_by_its_type(engine: Any, spans: Any) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as http:
        message = binary({"images": IMAGES["images"][:, :9]})
        message["headers"]["traceparent"] = f"00-{TRACE}-{PARENT}-01"
        assert (await http.post("/v2/models/predict/infer", **message)).status_code == 400
    (span,) = spans()
    assert span.attributes["error.type"] == "bad-tensor"


@pytest.mark.parametrize("given", ["nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"])
async def test_a_header_that_asks_for_no_trace_gets_none(engine: Any, spans: Any, given: str) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as http:
        assert (await http.get("/v2", headers={"traceparent": given})).status_code == 200
    assert spans() == ()


def test_traces_go_to_a_file_where_the_settings_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracing, "here", None)
    tracing = start_tracing(Observability(traces=Traces.FILE), tmp_path, "p")
    assert tracing is not None
    origin = Origin("mine")
    tracing.begin(origin, None)
    tracing.add("queue", origin.trace, 1, 2)
    tracing.close()
    (line,) = (tmp_path / "stn-traces-p.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "queue"


def test_traces_go_to_a_collector_where_the_settings_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    monkeypatch.setattr(Tracing, "here", None)
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
        tracing = start_tracing(Observability(traces=Traces.OTLP, trace_endpoint=endpoint), tmp_path, "p")
        assert tracing is not None
        tracing.add("queue", f"00-{TRACE}-{PARENT}-01", 1, 2)
        tracing.close()
        server.shutdown()
        thread.join()
    (span,) = ExportTraceServiceRequest.FromString(came[0]).resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("queue", TRACE, PARENT)


def test_nothing_of_opentelemetry_is_loaded_where_nothing_is_traced() -> None:
    code = "import sys, services.gateway; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
