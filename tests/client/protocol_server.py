"""A small real HTTP server that speaks the protocol, and misbehaves as told: what the SDK meets in the wild.

It refuses a request with an image whose first pixel is ``refused``, and encoded pictures that are broken or not of one
size, as the service does.
"""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np
import orjson

from stn_core.errors import BadTensor, StnError
from stn_core.pictures import REQUEST_FORMATS, decode_picture
from stn_core.tensors import Array
from stn_core.wire import HEADER_LENGTH, decode_request, encode_response

PATIENCE_S = 30.0
DRIP_BYTES = 20
LIMITS = {"max_images": 10, "max_request_bytes": 2**20}


class Turn(NamedTuple):
    """How one infer request is met, instead of by the right answer."""

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    company: int = 0  # how many requests must be here before the delay begins
    hang_up: bool = False  # closes the connection without an answer
    hang_up_after: bool = False  # answers, says "keep-alive", and closes all the same


class Seen(NamedTuple):
    path: str
    connection: tuple[str, int]
    body: bytes
    headers: dict[str, str]
    at_s: float


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.turns: list[Turn] = []
        self.seen: list[Seen] = []
        self.metadata: Any = {"name": "test", "limits": LIMITS}
        self.refused: int | None = None
        self.drip_s: float | None = None  # the pause between the pieces of an answer, if it comes in pieces
        self.lock = threading.Lock()
        self.now = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def infers(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith("/infer")]

    def handle_error(self, *_: Any) -> None:  # a client that went away is no news
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self.note(b"")
        known = {"/v2": orjson.dumps(self.server.metadata), "/v2/health/ready": b""}
        self.answer(200 if self.path in known else 404, known.get(self.path, b'{"error": "no such route"}'), {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.note(body)
        with self.server.lock:
            turn = self.server.turns.pop(0) if self.server.turns else Turn()
            self.server.now += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.now)
        deadline_s = time.monotonic() + PATIENCE_S
        while self.server.most_at_once < turn.company and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(turn.delay_s)
        with self.server.lock:
            self.server.now -= 1
        if turn.hang_up:
            self.close_connection = True
            return
        if turn.body is None and turn.status == 200:
            try:
                self.answer(200, *infer(self.path, body, int(self.headers[HEADER_LENGTH]), self.server.refused))
            except StnError as error:
                self.answer(error.status, orjson.dumps(error.problem()), {})
        else:
            self.answer(turn.status, turn.body or b"", dict(turn.headers))
        self.close_connection = self.close_connection or turn.hang_up_after

    def note(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.path, self.client_address, body, headers, time.monotonic()))

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.server.drip_s is None:
            self.wfile.write(body)
            return
        for at in range(0, len(body), DRIP_BYTES):
            self.wfile.write(body[at : at + DRIP_BYTES])
            time.sleep(self.server.drip_s)

    def log_message(self, *_: Any) -> None:
        pass


def pixels(images: Array) -> Array:
    if images.dtype != object:
        return images
    decoded = [decode_picture(data, channels=1, formats=REQUEST_FORMATS) for data in images]
    if len({image.shape for image in decoded}) > 1:
        raise BadTensor("images: expected encoded images of one size in a request")
    return np.stack(decoded)


def infer(path: str, body: bytes, header_length: int, refused: int | None) -> tuple[bytes, dict[str, str]]:
    """The answer of a service whose networks see the first pixel of an image as its label and leave it as it is."""
    request = decode_request(body, header_length)
    images = pixels(request.inputs["images"])
    if refused is not None and (images[:, 0, 0, 0] == refused).any():
        raise BadTensor("images: one of them is refused")
    count = len(images)
    theta = np.tile(np.eye(2, 3), (count, 1, 1))
    outputs = {
        "label": images[:, 0, 0, 0].astype(np.int64),
        "probabilities": np.full((count, 10), 0.1, np.float32),
        "theta": theta if "augment" in path else request.inputs.get("theta", theta).astype(np.float32),
        "theta_rectifying": theta,
        "exact": np.ones(count, bool),
        "rectified": images,
        "images": images,
    }
    message = encode_response(outputs, path.split("/")[3], "1", request)
    return message.body, message.headers
