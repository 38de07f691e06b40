"""All of the service in this process, as the target of whole requests: whatever comes, no answer is a 500."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from stn_core.errors import PROBLEM_CONTENT_TYPE, BadBody

REFUSALS = frozenset({400, 404, 405, 406, 413, 501})
"""What a request may be refused with for what it says; the others are the service's own troubles."""


def whole_service() -> tuple[Callable[[bytes], None], Sequence[bytes]]:
    """A line of method, target, content type, coding and header length, with | between; then the body."""
    from services.gateway import make_app
    from services.links import local_links
    from services.settings import Settings

    limits = {"max_pixels_per_image": 2**20, "max_decoded_bytes": 2**24, "max_side_px": 4096, "max_images": 64}
    settings = Settings.model_validate({"classifier": {"placement": "gateway"}, "limits": limits})
    app, loop = make_app(settings, local_links(settings)), asyncio.new_event_loop()

    def read(data: bytes) -> None:
        line, _, body = data.partition(b"\n")
        status, headers, answer = loop.run_until_complete(asked(app, line.split(b"|"), body))
        if status == 200:
            return
        assert status in REFUSALS, f"{status}: {answer[:300]!r}"
        assert headers[b"content-type"] == PROBLEM_CONTENT_TYPE.encode()
        document = orjson.loads(answer)
        assert document["status"] == status
        assert 0 < len(document["detail"]) < 1500, f"a message of {len(document['detail'])} characters"
        raise BadBody(document["detail"])

    return read, _requests()


async def asked(app: Any, head: Sequence[bytes], body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the answer to one request."""
    method, target, kind, coding, length = [*head, b"", b"", b"", b"", b""][:5]
    path, _, query = target.partition(b"?")
    named = ((b"content-type", kind), (b"content-encoding", coding), (b"inference-header-content-length", length))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "scheme": "http",
        "path": path.decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name, said) for name, said in named if said],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.lower(): said for name, said in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def _requests() -> list[bytes]:
    from services.examples import examples_of
    from services.protocol import model_specs
    from stn_core.bundle import read_manifest
    from stn_core.wire import encode_request

    specs = model_specs(read_manifest("digits"))
    examples = [(example.model, orjson.dumps(example.request)) for example in examples_of(specs)]
    requests = [b"POST|/v2/models/%b/infer|application/json||\n%b" % (model.encode(), body) for model, body in examples]
    small: dict[str, Any] = {"images": np.zeros((1, 6, 5, 1), np.uint8), "theta": np.eye(2, 3, dtype=np.float32)[None]}
    for model, inputs, parameters in (
        ("warp", small, {}),
        ("augment", {"images": small["images"]}, {"recipe": "rotation", "seed": 3}),
        ("straighten", {"images": small["images"]}, {"canvas": "fit", "height": 9, "width": 7, "decide": True}),
    ):
        message = encode_request(inputs, None, parameters)
        head = b"POST|/v2/models/%b/infer|application/octet-stream||%d\n" % (model.encode(), message.header_length or 0)
        requests.append(head + message.body)
    part = b'--B\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    picture = part % (b"image", b'; filename="a.png"', _digit())
    moved = part % (b"annotations", b"", b'[{"keypoints_px": [[3, 4]], "boxes_px": [[1, 1, 4, 5]]}]')
    for path, fields in (("predict", b""), ("augment?recipe=rotation&seed=1", moved), ("straighten?canvas=fit", b"")):
        body = picture + fields + b"--B--\r\n"
        requests.append(b"POST|/v1/%b|multipart/form-data; boundary=B||\n%b" % (path.encode(), body))
    requests += [
        b"GET|/v1/recipes/camera/preview.png?seed=4|||\n",
        b"POST|/v2/repository/index|application/json||\n" + b'{"ready": true}',
        b"GET|/v2/models/predict/versions/1/config|||\n",
    ]
    return requests


def _digit() -> bytes:
    from stn_core.png import encode_png

    return encode_png(np.full((28, 28, 1), 90, np.uint8))
