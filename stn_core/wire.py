"""Open Inference Protocol v2 over HTTP: tensors to bytes and back, for the service and for the SDK.

A message is a JSON header, followed by the raw bytes of each binary tensor in the header's order (little-endian,
row-major, no padding). The HTTP header ``Inference-Header-Content-Length`` holds the length of the JSON part and is
there only when some tensor is binary. A ``BYTES`` element is a uint32 length followed by that many bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stn_core.errors import BadBody, BadTensor, Unsupported, brief

Array = NDArray[Any]

HEADER_LENGTH = "inference-header-content-length"
MAX_RANK = 8
MAX_NAME = 128
MAX_TENSORS = 64
MAX_ELEMENTS = 2**48

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class RequestedOutput:
    name: str
    binary: bool


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


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's datatype; BadTensor if it has none."""
    name = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise BadTensor(f"datatype {array.dtype} has no name in the protocol; use one of {', '.join(DTYPES)}")
    return name


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
    outputs: Mapping[str, Array], model_name: str, model_version: str, request: InferRequest
) -> Message:
    """The answer to ``request``: the outputs it asked for, in its order, each as binary or JSON as it asked."""
    if request.outputs is None:
        chosen = [(name, array, request.binary_by_default) for name, array in outputs.items()]
    else:
        unknown = [output.name for output in request.outputs if output.name not in outputs]
        if unknown:
            raise BadTensor(f"model {model_name} has no output {unknown[0]!r}; it has {', '.join(outputs)}")
        chosen = [(output.name, outputs[output.name], output.binary) for output in request.outputs]
    header: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request.id is not None:
        header["id"] = request.id
    return _encode(header, "outputs", chosen)


def decode_request(body: bytes | memoryview, header_length: int | None) -> InferRequest:
    """The request in ``body``; BadBody or BadTensor says what is wrong with it. Binary inputs are read-only views."""
    header, blob = _split(body, header_length)
    parameters = _mapping(header, "parameters")
    request_id = header.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadBody(f"id: expected a string, got {type(request_id).__name__}")
    outputs = None
    if header.get("outputs"):
        default = bool(parameters.get("binary_data_output", False))
        outputs = tuple(_requested_output(item, default) for item in _items(header, "outputs"))
        if len({output.name for output in outputs}) < len(outputs):  # or a small request could ask for a huge answer
            raise BadBody("outputs: expected each name once, got one of them again")
    inputs = _decode_tensors(_items(header, "inputs"), blob)
    return InferRequest(inputs=inputs, outputs=outputs, parameters=parameters, id=request_id)


def decode_response(body: bytes | memoryview, header_length: int | None) -> InferResponse:
    """The answer in ``body``; BadBody if it is not one."""
    header, blob = _split(body, header_length)
    return InferResponse(
        outputs=_decode_tensors(_items(header, "outputs"), blob),
        model_name=str(header.get("model_name", "")),
        model_version=header.get("model_version"),
        parameters=_mapping(header, "parameters"),
        id=header.get("id"),
    )


def _encode(header: dict[str, Any], key: str, tensors: Sequence[tuple[str, Array, bool]]) -> Message:
    entries: list[dict[str, Any]] = []
    blobs: list[bytes | memoryview] = []
    for name, array, binary in tensors:
        datatype = datatype_of(array)
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if binary:
            blob = _to_bytes(array, datatype)
            entry["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            entry["data"] = _to_json(name, array, datatype)
        entries.append(entry)
    head = orjson.dumps({**header, key: entries})
    return Message(parts=(head, *blobs), header_length=len(head) if blobs else None)


def _to_bytes(array: Array, datatype: str) -> bytes | memoryview:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.reshape(-1).tolist())
    array = np.ascontiguousarray(array, dtype=DTYPES[datatype])
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _to_json(name: str, array: Array, datatype: str) -> list[Any]:
    if datatype == "FP16":
        raise BadTensor(f"{name}: FP16 has no JSON form; ask for binary data")
    flat = array.reshape(-1).tolist()
    if datatype == "BYTES":
        return [item.decode("utf-8", "replace") for item in flat]
    if datatype.startswith("FP") and not np.isfinite(array).all():
        raise BadTensor(f"{name}: holds NaN or infinity, which JSON cannot carry; ask for binary data")
    return flat


def _split(body: bytes | memoryview, header_length: int | None) -> tuple[dict[str, Any], memoryview]:
    view = memoryview(body)
    if header_length is None:
        header_length = len(view)
    if not 0 <= header_length <= len(view):
        raise BadBody(f"{HEADER_LENGTH}: expected 0 to {len(view)} (the body's length), got {header_length}")
    if header_length == 0:
        raise BadBody(
            "expected a JSON header before the tensors, got none; raw tensors without a header are not served"
        )
    try:
        header = orjson.loads(view[:header_length])
    except orjson.JSONDecodeError as error:
        raise BadBody(f"expected a JSON object, got something that does not parse: {error}") from None
    if not isinstance(header, dict):
        raise BadBody(f"expected a JSON object, got {type(header).__name__}")
    return header, view[header_length:]


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
    parameters = _mapping(item, "parameters")
    if parameters.get("classification"):  # unheard, it would let a client take numbers for class names
        raise Unsupported(
            f"outputs: classification of {brief(item['name'])} is not served; ask for probabilities as they are"
        )
    return RequestedOutput(item["name"], bool(parameters.get("binary_data", default)))


def _decode_tensors(items: list[dict[str, Any]], blob: memoryview) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    offset = 0
    for item in items:
        name, shape, datatype = item["name"], _shape(item), item.get("datatype")
        if not isinstance(datatype, str) or datatype not in DTYPES:
            raise BadTensor(f"{name}: expected a datatype of {', '.join(DTYPES)}, got {brief(datatype)}")
        if name in tensors:
            raise BadTensor(f"{name}: came twice")
        size = _mapping(item, "parameters").get("binary_data_size")
        if size is None:
            tensors[name] = _from_json(name, item.get("data"), shape, datatype)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(blob) - offset:
            raise BadBody(
                f"{name}: binary_data_size says {brief(size)}, but {len(blob) - offset} bytes of binary data are left"
            )
        tensors[name] = _from_bytes(name, blob[offset : offset + size], shape, datatype)
        offset += size
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


def _from_bytes(name: str, blob: memoryview, shape: tuple[int, ...], datatype: str) -> Array:
    count = math.prod(shape)
    if datatype == "BYTES":
        return _bytes_elements(name, blob, count).reshape(shape)
    expected = count * DTYPES[datatype].itemsize
    if expected != len(blob):
        raise BadTensor(f"{name}: {datatype} {list(shape)} takes {expected} bytes, got {len(blob)}")
    if datatype == "BOOL" and count and np.frombuffer(blob, np.uint8).max() > 1:
        raise BadTensor(f"{name}: expected BOOL values as bytes 0 or 1, got another byte")
    return np.frombuffer(blob, dtype=DTYPES[datatype]).reshape(shape)


def _bytes_elements(name: str, blob: memoryview, count: int) -> Array:
    elements: list[bytes] = []
    offset = 0
    while offset < len(blob) and len(elements) < count:
        if offset + 4 > len(blob):
            break
        (length,) = struct.unpack_from("<I", blob, offset)
        if offset + 4 + length > len(blob):
            break
        elements.append(bytes(blob[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    if len(elements) != count or offset != len(blob):
        raise BadTensor(
            f"{name}: expected {count} elements, each a uint32 length and its bytes, in {len(blob)} bytes; "
            f"{len(elements)} whole elements fill the first {offset}"
        )
    return _object_array(elements)


def _object_array(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def _from_json(name: str, data: object, shape: tuple[int, ...], datatype: str) -> Array:
    if not isinstance(data, list):
        raise BadTensor(f"{name}: expected data (a list) or parameters.binary_data_size, got neither")
    if datatype == "FP16":
        raise BadTensor(f"{name}: FP16 has no JSON form; send it as binary data")
    flat = _flatten(name, data)
    if len(flat) != math.prod(shape):
        raise BadTensor(f"{name}: shape {list(shape)} holds {math.prod(shape)} values, got {len(flat)}")
    if datatype == "BYTES":
        if not all(isinstance(item, str) for item in flat):
            raise BadTensor(f"{name}: expected strings as BYTES data")
        return _object_array([item.encode() for item in flat]).reshape(shape)
    return _numbers(name, flat, datatype).reshape(shape)


def _flatten(name: str, data: list[Any]) -> list[Any]:
    """All leaves of a nested list, level by level: at most ``MAX_RANK`` levels, so that time is linear in the data."""
    for _ in range(MAX_RANK):
        if not any(isinstance(item, list) for item in data):
            return data
        data = [leaf for item in data for leaf in (item if isinstance(item, list) else (item,))]
    raise BadTensor(f"{name}: expected data nested at most {MAX_RANK} deep, got a deeper list")


def _numbers(name: str, flat: list[Any], datatype: str) -> Array:
    dtype = DTYPES[datatype]
    kinds: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int, float) if dtype.kind == "f" else (int,)
    wrong = next((x for x in flat if not isinstance(x, kinds) or (isinstance(x, bool) and datatype != "BOOL")), None)
    if wrong is not None or None in flat:
        raise BadTensor(f"{name}: expected {datatype} values, got {brief(wrong)}")
    try:
        with np.errstate(over="raise"):
            return np.asarray(flat, dtype=dtype)
    except (OverflowError, ValueError, FloatingPointError):
        raise BadTensor(f"{name}: a value does not fit into {datatype}") from None
