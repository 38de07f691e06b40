"""Small helpers to speak the protocol by hand."""

import io
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from stn_core.errors import shortened
from stn_core.wire import HEADER_LENGTH, InferResponse, decode_response, encode_request

PROBLEM = "application/problem+json"


def binary(inputs: Mapping[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Content and headers of a binary request, as keywords for httpx."""
    message = encode_request(inputs, **options)
    headers = {} if message.header_length is None else {HEADER_LENGTH: str(message.header_length)}
    return {"content": message.body, "headers": headers}


def outputs(response: httpx.Response) -> InferResponse:
    """The decoded answer of a request that must have gone well."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER_LENGTH)
    return decode_response(response.content, None if length is None else int(length))


def problem(response: httpx.Response, status: int, code: str) -> str:
    """The detail of an error answer, whose every part is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    document = response.json()
    assert document["type"] == f"urn:stn:error:{code}"
    assert document["status"] == status
    assert document["detail"] == document["error"]
    assert document["instance"] == shortened(response.request.url.path)
    assert "Traceback" not in response.text
    return str(document["detail"])


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """``pixels [H, W, C]`` as a PNG or JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def bytes_tensor(items: list[bytes]) -> np.ndarray:
    """A BYTES tensor of these elements."""
    tensor = np.empty(len(items), object)
    tensor[:] = items
    return tensor
