"""Open Inference Protocol v2 over HTTP: tensors to bytes and back, for the service and for the SDK.

A message is a JSON header, followed by the raw bytes of each binary tensor in the header's order (little-endian,
row-major, no padding). The HTTP header ``Inference-Header-Content-Length`` holds the length of the JSON part and is
there only when some tensor is binary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from stn_core.errors import BadBody, BadTensor, Unsupported, brief
from stn_core.tensors import (
    MAX_RANK,
    READABLE,
    Array,
    as_base64,
    datatype_of,
    from_base64,
    from_bytes,
    from_json,
    is_text,
    to_bytes,
    to_json,
)

HEADER_LENGTH = "inference-header-content-length"
MAX_NAME = 128
MAX_TENSORS = 64
MAX_ELEMENTS = 2**48
_MAX_KEPT_BYTES, _MAX_KEPT = 1024, 256
"""Headers up to this length are kept once they are read or written, so many of them: clients repeat themselves."""


@dataclass(frozen=True)
class RequestedOutput:
    name: str
    binary: bool
    classes: int = 0
    """How many of the best classes are asked for in place of the values (``classification``); 0: the values."""


@dataclass(frozen=True)
class InferRequest:
    """A decoded request: ``inputs`` by name; ``outputs`` is None when the client asked for all of them."""

    inputs: dict[str, Array]
    outputs: tuple[RequestedOutput, ...] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    id: str | None = None

    @property
    def binary_by_default(self) -> bool:
        return bool(self.parameters.get("binary_data_output", False))


@dataclass(frozen=True)
class InferResponse:
    """A decoded answer: ``outputs`` by name, read-only views of the received bytes where they came as binary."""

    outputs: dict[str, Array]
    model_name: str
    model_version: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """An encoded message: ``parts`` to be sent one after another, and the headers that go with them."""

    parts: tuple[bytes | memoryview, ...]
    header_length: int | None

    @property
    def body(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)  # type: ignore[return-value]

    @property
    def headers(self) -> dict[str, str]:
        if self.header_length is None:
            return {"content-type": "application/json"}
        return {"content-type": "application/octet-stream", HEADER_LENGTH: str(self.header_length)}


class _Entry(NamedTuple):
    """A tensor as a header describes it: its data is in the header, or so many of the bytes behind it."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    binary_bytes: int | None
    data: object
    base64: bool
    """Whether its elements are base64 text of what is meant."""


class RequestHeader(NamedTuple):
    """A request without the tensors' data behind it, which the entries of its inputs describe."""

    inputs: tuple[_Entry, ...]
    outputs: tuple[RequestedOutput, ...] | None
    parameters: dict[str, Any]
    id: str | None


class _ResponseHeader(NamedTuple):
    outputs: tuple[_Entry, ...]
    model_name: str
    model_version: str | None
    parameters: dict[str, Any]
    id: str | None


def encode_request(
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    id: str | None = None,
) -> Message:
    """A request with binary tensors that asks for binary ``outputs`` (all of them when None)."""
    header: dict[str, Any] = {"parameters": {**(parameters or {}), "binary_data_output": True}}
    if id is not None:
        header["id"] = id
    if outputs is not None:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return _encode(header, "inputs", [(name, array, True) for name, array in inputs.items()])


def encode_response(
    outputs: Mapping[str, Array],
    model_name: str,
    model_version: str,
    request: InferRequest,
    parameters: Mapping[str, Any] | None = None,
) -> Message:
    """The answer to ``request``: the outputs it asked for, in its order, each as binary or JSON as it asked."""
    chosen = choose_outputs(outputs, model_name, request)
    header: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request.id is not None:
        header["id"] = request.id
    if parameters:
        header["parameters"] = dict(parameters)
    return _encode(header, "outputs", chosen)


def choose_outputs(
    outputs: Mapping[str, Array], model_name: str, request: InferRequest
) -> list[tuple[str, Array, bool]]:
    """Name, array, and whether it goes as binary data, of the outputs that ``request`` asked for, in its order."""
    if request.outputs is None:
        return [(name, array, request.binary_by_default) for name, array in outputs.items()]
    unknown = [output.name for output in request.outputs if output.name not in outputs]
    if unknown:
        raise BadTensor(f"model {model_name} has no output {unknown[0]!r}; it has {', '.join(outputs)}")
    return [(output.name, outputs[output.name], output.binary) for output in request.outputs]


def decode_request(body: bytes | memoryview, header_length: int | None) -> InferRequest:
    """The request in ``body``; BadBody or BadTensor says what is wrong with it. Binary inputs are read-only views.

    Bytes travel in JSON as text: as UTF-8, or with the tensor's parameter ``content_type`` ``base64`` as such.
    Equal headers may share what they hold: nothing of the result may be changed.
    """
    head, blob = _split(body, header_length)
    header = _kept_request(bytes(head)) if len(head) <= _MAX_KEPT_BYTES else _read_request(head)
    return InferRequest(_decode_tensors(header.inputs, blob), header.outputs, header.parameters, header.id)


def _read_request(head: bytes | memoryview) -> RequestHeader:
    return read_header(_parsed(head))


def read_header(header: dict[str, Any]) -> RequestHeader:
    """The header of a request, checked: its ``inputs``, ``outputs``, ``parameters`` and ``id``."""
    parameters = _mapping(header, "parameters")
    request_id = header.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadBody(f"id: expected a string, got {type(request_id).__name__}")
    outputs, default = None, _flag(parameters, "binary_data_output", False)
    if header.get("outputs"):
        outputs = tuple(_requested_output(item, default) for item in _items(header, "outputs"))
        if len({output.name for output in outputs}) < len(outputs):  # or a small request could ask for a huge answer
            raise BadBody("outputs: expected each name once, got one of them again")
    return RequestHeader(_entries(header, "inputs"), outputs, parameters, request_id)


_kept_request = lru_cache(_MAX_KEPT)(_read_request)


def decode_response(body: bytes | memoryview, header_length: int | None) -> InferResponse:
    """The answer in ``body``; BadBody if it is not one.

    Equal headers may share what they hold: nothing of the result may be changed.
    """
    head, blob = _split(body, header_length)
    header = _kept_response(bytes(head)) if len(head) <= _MAX_KEPT_BYTES else _read_response(head)
    outputs = _decode_tensors(header.outputs, blob)
    return InferResponse(outputs, header.model_name, header.model_version, header.parameters, header.id)


def _read_response(head: bytes | memoryview) -> _ResponseHeader:
    header = _parsed(head)
    return _ResponseHeader(
        outputs=_entries(header, "outputs"),
        model_name=str(header.get("model_name", "")),
        model_version=header.get("model_version"),
        parameters=_mapping(header, "parameters"),
        id=header.get("id"),
    )


_kept_response = lru_cache(_MAX_KEPT)(_read_response)


def _encode(header: dict[str, Any], key: str, tensors: Sequence[tuple[str, Array, bool]]) -> Message:
    entries: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    for name, array, binary in tensors:
        datatype = datatype_of(array)
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if binary:
            blob = to_bytes(array, datatype)
            entry["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            as_text = datatype != "BYTES" or is_text(array)
            if not as_text:
                entry["parameters"] = {"content_type": "base64"}
            entry["data"] = to_json(name, array if as_text else as_base64(array), datatype)
        entries.append(entry)
    head = orjson.dumps({**header, key: entries})
    return Message(parts=(head, *blobs), header_length=len(head) if blobs else None)


def _split(body: bytes | memoryview, header_length: int | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if header_length is None:
        header_length = len(view)
    if not 0 <= header_length <= len(view):
        raise BadBody(f"{HEADER_LENGTH}: expected 0 to {len(view)} (the body's length), got {header_length}")
    if header_length == 0:
        raise BadBody("expected a JSON header before the tensors, got none")
    return view[:header_length], view[header_length:]


def _parsed(head: bytes | memoryview) -> dict[str, Any]:
    try:
        header = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise BadBody(f"expected a JSON object, got something that does not parse: {error}") from None
    if not isinstance(header, dict):
        raise BadBody(f"expected a JSON object, got {type(header).__name__}")
    return header


def _mapping(item: dict[str, Any], key: str) -> dict[str, Any]:
    value = item.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBody(f"{key}: expected an object, got {type(value).__name__}")
    return value


def _items(header: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = header.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadBody(f"{key}: expected a list of tensors, got {'nothing' if value is None else type(value).__name__}")
    if len(value) > MAX_TENSORS:
        raise BadBody(f"{key}: expected at most {MAX_TENSORS} tensors, got {len(value)}")
    for item in value:
        if not isinstance(item.get("name"), str) or len(item["name"]) > MAX_NAME:
            raise BadBody(f"{key}: every tensor needs a name (a string of at most {MAX_NAME} characters)")
    return value


def _requested_output(item: dict[str, Any], default: bool) -> RequestedOutput:
    parameters = _tensor_parameters(item)
    classes = parameters.get("classification")
    if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 1):
        raise BadBody(f"{item['name']}: expected classification as a number of classes from 1, got {brief(classes)}")
    return RequestedOutput(item["name"], _flag(parameters, "binary_data", default), classes or 0)


def _tensor_parameters(item: dict[str, Any]) -> dict[str, Any]:
    parameters = _mapping(item, "parameters")
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{item['name']}: shared memory is not served; send and take tensors as binary data")
    return parameters


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadBody(f"parameters.{key}: expected true or false, got {brief(value)}")
    return value


def _entries(header: dict[str, Any], key: str) -> tuple[_Entry, ...]:
    entries: dict[str, _Entry] = {}
    for item in _items(header, key):
        name, shape, datatype = item["name"], _shape(item), item.get("datatype")
        if not isinstance(datatype, str) or datatype not in READABLE:
            raise BadTensor(f"{name}: expected a datatype of {', '.join(READABLE)}, got {brief(datatype)}")
        if name in entries:
            raise BadTensor(f"{name}: came twice")
        parameters = _tensor_parameters(item)
        size = parameters.get("binary_data_size")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
            raise BadBody(f"{name}: expected binary_data_size as a number of bytes, got {brief(size)}")
        in_base64 = datatype == "BYTES" and parameters.get("content_type") == "base64"
        entries[name] = _Entry(name, shape, datatype, size, item.get("data"), in_base64)
    return tuple(entries.values())


def _decode_tensors(entries: Sequence[_Entry], blob: memoryview) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    offset = 0
    for name, shape, datatype, size, data, in_base64 in entries:
        if size is None:
            tensor = from_json(name, data, shape, datatype)
        elif size > len(blob) - offset:
            raise BadBody(
                f"{name}: binary_data_size says {brief(size)}, but {len(blob) - offset} bytes of binary data are left"
            )
        else:
            tensor = from_bytes(name, blob[offset : offset + size], shape, datatype)
            offset += size
        tensors[name] = from_base64(name, tensor) if in_base64 else tensor
    if offset != len(blob):
        raise BadBody(f"the tensors' binary_data_size add up to {offset} bytes, but {len(blob)} came after the header")
    return tensors


def _shape(item: dict[str, Any]) -> tuple[int, ...]:
    shape = item.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in shape)
    ):
        raise BadTensor(
            f"{item['name']}: expected a shape of at most {MAX_RANK} non-negative whole numbers, got {brief(shape)}"
        )
    if math.prod(side or 1 for side in shape) > MAX_ELEMENTS:  # NumPy refuses such sides even beside a 0
        raise BadTensor(f"{item['name']}: expected at most {MAX_ELEMENTS} values, got the shape {brief(shape)}")
    return tuple(shape)
