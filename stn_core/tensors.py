"""Tensors of the Open Inference Protocol v2: its datatypes, and their values as bytes and as JSON.

Bytes are little-endian and row-major; a ``BYTES`` element is a uint32 length followed by that many bytes.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor, brief

Array = NDArray[Any]

MAX_RANK = 8
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
READABLE = (*DTYPES, "BF16")
"""The datatypes that can come in; BF16, which NumPy does not have, is read as FP32, which holds it exactly."""
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_BINARY_ONLY = ("FP16", "BF16")


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's datatype; BadTensor if it has none."""
    name = _DATATYPES.get(array.dtype) or _DATATYPES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise BadTensor(f"datatype {array.dtype} has no name in the protocol; use one of {', '.join(DTYPES)}")
    return name


def to_bytes(array: Array, datatype: str) -> bytes | memoryview:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.reshape(-1).tolist())
    array = np.ascontiguousarray(array, dtype=DTYPES[datatype])
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def to_json(name: str, array: Array, datatype: str) -> list[Any]:
    if datatype == "FP16":
        raise BadTensor(f"{name}: FP16 has no JSON form; ask for binary data")
    flat = array.reshape(-1).tolist()
    if datatype == "BYTES":
        return [item.decode() for item in flat]
    if datatype.startswith("FP") and not np.isfinite(array).all():
        raise BadTensor(f"{name}: holds NaN or infinity, which JSON cannot carry; ask for binary data")
    return flat


def from_bytes(name: str, blob: memoryview, shape: tuple[int, ...], datatype: str) -> Array:
    count = math.prod(shape)
    if datatype == "BYTES":
        return _bytes_elements(name, blob, count).reshape(shape)
    dtype = DTYPES["UINT16" if datatype == "BF16" else datatype]
    expected = count * dtype.itemsize
    if expected != len(blob):
        raise BadTensor(f"{name}: {datatype} {list(shape)} takes {expected} bytes, got {len(blob)}")
    if datatype == "BOOL" and count and np.frombuffer(blob, np.uint8).max() > 1:
        raise BadTensor(f"{name}: expected BOOL values as bytes 0 or 1, got another byte")
    array = np.frombuffer(blob, dtype=dtype)
    if datatype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    return array.reshape(shape)


def is_text(array: Array) -> bool:
    """Whether all elements of a BYTES tensor are UTF-8, which JSON can carry as it is."""
    try:
        for item in array.reshape(-1).tolist():
            item.decode()
    except UnicodeDecodeError:
        return False
    return True


def as_base64(array: Array) -> Array:
    """A BYTES tensor of the base64 text of each element."""
    return _object_array([base64.b64encode(item) for item in array.reshape(-1).tolist()]).reshape(array.shape)


def from_base64(name: str, array: Array) -> Array:
    """The bytes whose base64 text the elements of a BYTES tensor are; BadTensor names the first that is none."""
    elements: list[bytes] = []
    for index, text in enumerate(array.reshape(-1).tolist()):
        try:
            elements.append(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise BadTensor(f"{name}: expected base64 text, got something else at {index} ({error})") from None
    return _object_array(elements).reshape(array.shape)


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


def from_json(name: str, data: object, shape: tuple[int, ...], datatype: str) -> Array:
    if not isinstance(data, list):
        raise BadTensor(f"{name}: expected data (a list) or parameters.binary_data_size, got neither")
    if datatype in _BINARY_ONLY:
        raise BadTensor(f"{name}: {datatype} has no JSON form; send it as binary data")
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
