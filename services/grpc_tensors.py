"""Inference requests and answers over gRPC: protobuf messages to arrays and back.

The raw contents, which are nearly all of a message, are read where they lie and written as they are; protobuf sees the
rest, whose size is limited as that of JSON is: small messages can describe many objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from services.grpc_messages import CLASSES
from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, TooLarge
from stn_core.tensors import DTYPES, Array, datatype_of, from_base64, from_bytes, to_bytes
from stn_core.wire import InferRequest, choose_outputs, read_header

MAX_FIELDS = 1024
"""Of a request: parameters, inputs, outputs and contents, one each."""
_RAW_INPUTS, _RAW_OUTPUTS, _STREAMED = 7, 6, 2
_FINAL: bytes = CLASSES["ModelInferResponse"](
    parameters={"triton_final_response": CLASSES["InferParameter"](bool_param=True)}
).SerializeToString()
_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
_MAX_VARINT_BITS = 63
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a tensor's values are if they do not come as raw contents."""


class SplitRequest(NamedTuple):
    """A ``ModelInferRequest`` in bytes: its raw contents, as views of them, and all the rest."""

    rest: bytes
    raw: list[memoryview]


def split_request(data: bytes, limits: Limits) -> SplitRequest:
    """The parts of a ``ModelInferRequest``; BadBody if it is none, TooLarge if more than its raw contents is large."""
    view = memoryview(data)
    rest, raw = [], []
    for number, start, content, end in _fields(data):
        if number == _RAW_INPUTS:
            raw.append(view[content:end])
        else:
            rest.append(view[start:end])
        if len(rest) + len(raw) > MAX_FIELDS:
            raise BadBody(f"expected at most {MAX_FIELDS} parameters, inputs, outputs and contents, got more")
    size = sum(map(len, rest))
    if size > limits.max_json_bytes:
        raise TooLarge(
            f"expected at most {limits.max_json_bytes} bytes beside raw contents, got {size}; send tensors as raw "
            "contents, which are smaller and faster"
        )
    return SplitRequest(b"".join(rest), raw)


def decode_infer(message: Any, raw: Sequence[memoryview]) -> InferRequest:
    """The request in ``message``, whose raw contents are ``raw``; BadBody or BadTensor says what is wrong with it.

    Raw inputs are read-only views.
    """
    header = read_header(
        {
            "id": message.id or None,
            "parameters": {**_values(message.parameters), "binary_data_output": True},
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.shape),
                    "parameters": _values(tensor.parameters),
                }
                for tensor in message.inputs
            ],
            "outputs": [
                {"name": output.name, "parameters": {**_values(output.parameters), "binary_data": True}}
                for output in message.outputs
            ],
        }
    )
    if raw and len(raw) != len(header.inputs):
        raise BadBody(
            f"raw_input_contents: expected one for each of the {len(header.inputs)} inputs, or none at all, got "
            f"{len(raw)}"
        )
    inputs: dict[str, Array] = {}
    for index, (entry, tensor) in enumerate(zip(header.inputs, message.inputs, strict=True)):
        if raw and tensor.HasField("contents"):
            raise BadBody(f"{entry.name}: expected contents or raw_input_contents, got both")
        if raw:
            array = from_bytes(entry.name, raw[index], entry.shape, entry.datatype)
        else:
            array = _from_contents(entry.name, tensor.contents, entry.shape, entry.datatype)
        inputs[entry.name] = from_base64(entry.name, array) if entry.base64 else array
    return InferRequest(inputs, header.outputs, header.parameters, header.id)


def encode_infer(
    outputs: Mapping[str, Array],
    model_name: str,
    model_version: str,
    request: InferRequest,
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The ``ModelInferResponse`` to ``request``, in bytes: the outputs it asked for, in its order, as raw contents."""
    message = CLASSES["ModelInferResponse"](model_name=model_name, model_version=model_version, id=request.id or "")
    for name, value in parameters.items():
        message.parameters[name].string_param = value
    contents: list[bytes | memoryview] = []
    for name, array, _ in choose_outputs(outputs, model_name, request):
        datatype = datatype_of(array)
        message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        content = to_bytes(array, datatype)
        contents += [_head(_RAW_OUTPUTS, len(content)), content]
    # Fields may follow one another in any message, so that protobuf need not copy the large ones twice.
    return b"".join([message.SerializeToString(), *contents])


def streamed(response: bytes) -> bytes:
    """The ``ModelStreamInferResponse`` that brings a ``ModelInferResponse``, which is its request's last."""
    return b"".join([_head(_STREAMED, len(response) + len(_FINAL)), response, _FINAL])


def _values(parameters: Any) -> dict[str, Any]:
    """Parameters as Python values; None for one that holds none of them."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], choice) if choice else None for name, choice in chosen.items()}


def _from_contents(name: str, contents: Any, shape: tuple[int, ...], datatype: str) -> Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise BadTensor(f"{name}: {datatype} has no typed contents; send it as raw_input_contents")
    foreign = [given.name for given, _ in contents.ListFields() if given.name != field]
    if foreign:
        raise BadTensor(f"{name}: expected {datatype} values in contents.{field}, got {foreign[0]}")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise BadTensor(f"{name}: shape {list(shape)} holds {math.prod(shape)} values, got {len(values)}")
    if datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = list(values)
        return array.reshape(shape)
    dtype = DTYPES[datatype]
    wide = np.fromiter(values, np.int64 if dtype.kind in "iu" and dtype.itemsize < 8 else dtype, len(values))
    if wide.dtype != dtype and wide.size:
        bounds = np.iinfo(dtype)
        if wide.min() < bounds.min or wide.max() > bounds.max:
            raise BadTensor(f"{name}: a value does not fit into {datatype}")
    return wide.astype(dtype, copy=False).reshape(shape)


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the content, and end, of each field of a protobuf message; BadBody if it is broken."""
    position = 0
    try:
        while position < len(data):
            start = position
            tag, position = _read_varint(data, position)
            kind = tag & 7
            if kind == _DELIMITED:
                length, content = _read_varint(data, position)
                position = content + length
            elif kind == _VARINT:
                content = position
                position = _read_varint(data, position)[1]
            else:
                content = position
                position += {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}[kind]
            if position > len(data):
                raise IndexError
            yield tag >> 3, start, content, position
    except (IndexError, KeyError):
        raise BadBody(f"expected a message ModelInferRequest, got {len(data)} bytes that are none") from None


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, _MAX_VARINT_BITS + 1, 7):
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise IndexError


def _head(field: int, length: int) -> bytes:
    """What stands before the content of a field in a message."""
    return _varint((field << 3) | _DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
