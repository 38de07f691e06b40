"""Starts the servers that are measured, ours and the peers', one at a time on a free port; ends all their processes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from contest import FOLDER, PEERS_PYTHON
from fused import fuse
from load import ask, http_request
from numpy.typing import NDArray

from services.processes import end_launched, free_ports
from stn_core.wire import HEADER_LENGTH, InferResponse, decode_response, encode_request

Images = NDArray[np.uint8]
Headers = HTTPMessage

REPOSITORY = FOLDER.parent.parent
_START_S, _STOP_S, _POLL_S = 240.0, 60.0, 0.02
_CLASSES = 10


class Running(NamedTuple):
    """A server's first process, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int


class Server(NamedTuple):
    """How to start a server that classifies digits, and how to speak to it."""

    start: Callable[[], contextlib.AbstractContextManager[Running]]
    request: Callable[[Images], bytes]
    labels: Callable[[Headers, bytes], NDArray[Any]]


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], port: int, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """The server of ``command``, from when GET ``ready`` answers 200 until the block ends.

    RuntimeError with its last words if that never happens.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if not _wait_until_ready(process, port, ready):
                output.seek(0)
                raise RuntimeError(f"{command} did not start: {output.read().decode(errors='replace')[-2000:]}")
            yield Running(process, port)
        finally:
            end_launched(process, _STOP_S)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError, HTTPException):
            if ask(port, http_request(path, method="GET"))[0] == 200:
                return True
        time.sleep(_POLL_S)
    return False


@contextlib.contextmanager
def service(config: str | Path, **environment: str) -> Iterator[Running]:
    """Ours, by a shipped config's name or the path of another."""
    path = config if isinstance(config, Path) else REPOSITORY / "deploy" / f"{config}.yaml"
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "services.launcher", str(path), f"--port={port}"]
    with running(command, port, "/v2/health/ready", environment) as one:
        yield one


@contextlib.contextmanager
def _peer(module: str, ready: str) -> Iterator[Running]:
    (port,) = free_ports(1)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as graph:
        graph.write(fuse("digits").SerializeToString())
        graph.flush()
        environment = {"FUSED": graph.name, "PYTHONPATH": str(FOLDER)}
        with running([PEERS_PYTHON, FOLDER / f"{module}.py", str(port)], port, ready, environment) as one:
            yield one


def v2_request(
    model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], parameters: Mapping[str, Any] | None = None
) -> bytes:
    """A request of the v2 protocol to ours, with binary tensors in and out."""
    message = encode_request(inputs, outputs, parameters)
    return http_request(f"/v2/models/{model}/infer", message.body, message.headers)


def v2_answer(headers: Headers, body: bytes) -> InferResponse:
    return decode_response(body, int(headers[HEADER_LENGTH]))


def _ours(config: str) -> Server:
    return Server(
        lambda: service(config),
        lambda images: v2_request("predict", {"images": images}, ("label", "probabilities")),
        lambda headers, body: v2_answer(headers, body).outputs["label"],
    )


def _json_request(path: str, document: Any) -> bytes:
    return http_request(path, orjson.dumps(document), {"content-type": "application/json"})


def _labels_in(answer: bytes) -> NDArray[Any]:
    """Of int64 labels, then float32 probabilities."""
    images = len(answer) // (8 + 4 * _CLASSES)
    return np.frombuffer(answer, np.int64, images)


SERVERS: dict[str, Server] = {
    "embedded": _ours("embedded"),
    "local": _ours("local"),
    "FastAPI": Server(
        lambda: _peer("peers_fastapi", "/health"),
        lambda images: http_request("/predict", images.tobytes()),
        lambda _, body: _labels_in(body),
    ),
    "LitServe": Server(
        lambda: _peer("peers_litserve", "/health"),
        lambda images: _json_request("/predict", {"images": base64.b64encode(images.tobytes()).decode()}),
        lambda _, body: _labels_in(base64.b64decode(json.loads(body)["answer"])),
    ),
    "BentoML": Server(
        lambda: _peer("peers_bentoml", "/readyz"),
        lambda images: _json_request("/predict", {"images": images.tolist()}),
        lambda _, body: np.asarray(json.loads(body)).argmax(axis=1),
    ),
}
