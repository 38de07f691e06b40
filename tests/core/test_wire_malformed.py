"""Whatever bytes come, decoding ends soon, in a message or in an error of ours that says what is wrong."""

import contextlib
import time
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stn_core.errors import BadBody, BadTensor, StnError, Unsupported
from stn_core.tensors import READABLE
from stn_core.wire import decode_request, decode_response, encode_request

PATIENCE_S = 30.0  # on a busy machine too; what these tests are afraid of takes hours
VALID = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}


def decode(*inputs: Any, blob: bytes = b"", **fields: Any) -> dict[str, Any]:
    header = orjson.dumps({"inputs": list(inputs), **fields})
    return decode_request(header + blob, len(header)).inputs


def binary(size: Any, shape: Any = (2,), datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": size}}


BODIES: list[tuple[str, bytes, int | None, str]] = [
    ("empty", b"", None, "expected a JSON header before the tensors, got none"),
    ("raw tensor", b"\0" * 8, 0, "expected a JSON header before the tensors, got none"),
    (
        "header past the body",
        b"{}",
        3,
        r"inference-header-content-length: expected 0 to 2 \(the body's length\), got 3",
    ),
    ("negative header", b"{}", -1, "expected 0 to 2"),
    ("header cut short", orjson.dumps({"inputs": [VALID]}), 9, "expected a JSON object, got something that does not"),
    ("not JSON", b"hello", None, "expected a JSON object, got something that does not parse"),
    ("not UTF-8", b'{"inputs": "\xff\xfe"}', None, "does not parse"),
    ("lone surrogate", b'{"inputs": "\\ud800"}', None, "does not parse"),
    ("NaN", b'{"inputs": NaN}', None, "does not parse"),
    ("number past a double", b'{"inputs": [1e999]}', None, "does not parse"),
    ("nested past the parser", b'{"inputs": ' + b"[" * 100_000, None, "does not parse"),
    ("a list", b"[]", None, "expected a JSON object, got list"),
    ("null", b"null", None, "expected a JSON object, got NoneType"),
    ("no inputs", b"{}", None, "inputs: expected a list of tensors, got nothing"),
    ("inputs an object", b'{"inputs": {}}', None, "inputs: expected a list of tensors, got dict"),
    ("inputs of numbers", b'{"inputs": [1]}', None, "inputs: expected a list of tensors, got list"),
    ("no name", b'{"inputs": [{}]}', None, "inputs: every tensor needs a name"),
    ("name a number", b'{"inputs": [{"name": 1}]}', None, "inputs: every tensor needs a name"),
    ("long name", b'{"inputs": [{"name": "%s"}]}' % (b"x" * 300), None, "a string of at most 128 characters"),
    (
        "many tensors",
        b'{"inputs": [%s]}' % (b'{"name":"x"},' * 64 + b'{"name":"x"}'),
        None,
        "at most 64 tensors, got 65",
    ),
    ("id a number", b'{"id": 1, "inputs": []}', None, "id: expected a string, got int"),
    ("parameters a list", b'{"parameters": [], "inputs": []}', None, "parameters: expected an object, got list"),
    ("outputs a string", b'{"outputs": "label", "inputs": []}', None, "outputs: expected a list of tensors, got str"),
    ("output without name", b'{"outputs": [{}], "inputs": []}', None, "outputs: every tensor needs a name"),
]


@pytest.mark.parametrize(("body", "length", "message"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_bad_body(body: bytes, length: int | None, message: str) -> None:
    with pytest.raises(BadBody, match=message):
        decode_request(body, length)


TENSORS: list[tuple[str, dict[str, Any], str]] = [
    ("no datatype", {"datatype": None}, "x: expected a datatype of BOOL, .*BYTES, BF16, got None"),
    ("unknown datatype", {"datatype": "FP8"}, "BYTES, BF16, got 'FP8'"),
    ("unhashable datatype", {"datatype": ["FP32"]}, r"got \['FP32'\]"),
    ("no shape", {"shape": None}, "x: expected a shape of at most 8 non-negative whole numbers, got None"),
    ("negative side", {"shape": [-1]}, r"got \[-1\]"),
    ("fraction side", {"shape": [1.5]}, r"got \[1.5\]"),
    ("boolean side", {"shape": [True]}, r"got \[True\]"),
    ("rank 9", {"shape": [1] * 9}, "at most 8"),
    ("rank a million", {"shape": [1] * 1_000_000}, r"got \[1, 1, 1, 1, 1, 1, \.\.\.\]"),
    ("product past 2^63", {"shape": [2**32, 2**32]}, "expected at most 281474976710656 values"),
    ("product past 2^64, by a 0", {"shape": [0, 2**63, 2**63]}, "expected at most 281474976710656 values"),
    ("too few values", {"data": [1.0]}, r"x: shape \[2\] holds 2 values, got 1"),
    ("too many values", {"data": [[1.0, 2.0], [3.0]]}, r"shape \[2\] holds 2 values, got 3"),
    ("no data", {"data": None}, r"expected data \(a list\) or parameters.binary_data_size, got neither"),
    ("data a string", {"data": "ab"}, "expected data"),
    ("string values", {"data": ["a", "b"]}, "x: expected FP32 values, got 'a'"),
    ("null values", {"data": [None, 1.0]}, "expected FP32 values, got None"),
    ("boolean values", {"data": [True, 1.0]}, "expected FP32 values, got True"),
    ("object values", {"data": [{}, 1.0]}, r"expected FP32 values, got \{\}"),
    ("fractions as integers", {"datatype": "INT32", "data": [1.5, 1]}, "expected INT32 values, got 1.5"),
    ("numbers as booleans", {"datatype": "BOOL", "data": [0, 1]}, "expected BOOL values, got 0"),
    ("past UINT8", {"datatype": "UINT8", "data": [256, 1]}, "x: a value does not fit into UINT8"),
    ("below UINT8", {"datatype": "UINT8", "data": [-1, 1]}, "x: a value does not fit into UINT8"),
    ("past INT64", {"datatype": "INT64", "data": [2**64 - 1, 1]}, "does not fit into INT64"),
    ("past FP32", {"data": [1e300, 1.0]}, "does not fit into FP32"),
    ("FP16 in JSON", {"datatype": "FP16"}, "x: FP16 has no JSON form; send it as binary data"),
    ("BF16 in JSON", {"datatype": "BF16"}, "x: BF16 has no JSON form; send it as binary data"),
    (
        "no base64",
        {"datatype": "BYTES", "data": ["eA==", "e"], "parameters": {"content_type": "base64"}},
        r"x: expected base64 text, got something else at 1 \(",
    ),
    ("numbers as BYTES", {"datatype": "BYTES"}, "x: expected strings as BYTES data"),
    ("nested past any shape", {"shape": [1], "data": [[[[[[[[[[1.0]]]]]]]]]]}, "nested at most 8 deep"),
    ("nested shape quoted briefly", {"shape": [[["a" * 1000] * 9] * 9] * 9}, "got .*"),
    ("huge value quoted briefly", {"data": ["a" * 1_000_000, "b"]}, r"got 'a+\.\.\.a+'"),
]


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in TENSORS], ids=[case[0] for case in TENSORS])
def test_bad_tensor(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadTensor, match=message) as raised:
        decode(VALID | changes)
    assert len(str(raised.value)) < 400


def test_a_name_that_came_twice_is_refused() -> None:
    with pytest.raises(BadTensor, match="x: came twice"):
        decode(VALID, VALID)


@pytest.mark.parametrize("size", [-1, 9, 2**63, "8", 8.0, True, [8]])
def test_binary_data_size_must_be_what_is_left(size: Any) -> None:
    is_number = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    expected = "says .*, but 8 bytes of binary data are left" if is_number else "as a number of bytes, got "
    with pytest.raises(BadBody, match=f"x: .*binary_data_size {expected}"):
        decode(binary(size), blob=b"\0" * 8)


def test_binary_data_size_must_fit_the_shape() -> None:
    with pytest.raises(BadTensor, match=r"x: FP32 \[3\] takes 12 bytes, got 8"):
        decode(binary(8, shape=(3,)), blob=b"\0" * 8)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(BadBody, match="binary_data_size add up to 8 bytes, but 9 came after the header"):
        decode(binary(8), blob=b"\0" * 9)


def test_a_boolean_byte_is_0_or_1() -> None:
    with pytest.raises(BadTensor, match="x: expected BOOL values as bytes 0 or 1"):
        decode(binary(2, datatype="BOOL"), blob=b"\x01\x02")


@pytest.mark.parametrize(
    ("blob", "whole"),
    [
        (b"\1\0\0\0a", 1),  # one element of two
        (b"\1\0\0\0a\1\0\0\0", 1),  # the second has no bytes
        (b"\1\0\0\0a\xff\xff\xff\xffb", 1),  # the second says 4 GiB
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", 2),  # three elements
        (b"\1\0", 0),  # half a length
    ],
)
def test_bytes_elements_must_fill_their_tensor(blob: bytes, whole: int) -> None:
    with pytest.raises(BadTensor, match=f"x: expected 2 elements, .*; {whole} whole elements"):
        decode(binary(len(blob), datatype="BYTES"), blob=blob)


def test_a_count_of_elements_nobody_sent_costs_nothing() -> None:
    started = time.perf_counter()
    tracemalloc.start()
    for datatype in READABLE:
        with pytest.raises(BadTensor):
            decode(binary(4, shape=(2**24, 2**24), datatype=datatype), blob=b"\0\0\0\0")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert time.perf_counter() - started < PATIENCE_S


def test_deep_beside_wide_data_takes_linear_time() -> None:
    deep = "[" * 500 + "1" + "]" * 500
    tensor = '"name":"x","datatype":"UINT8","shape":[1],"data":[' + deep + ",1" * 300_000 + "]"
    body = '{"inputs":[{' + tensor + "}]}"
    started = time.perf_counter()
    with pytest.raises(BadTensor, match="nested at most 8 deep"):
        decode_request(body.encode(), None)
    assert time.perf_counter() - started < PATIENCE_S


def test_a_response_is_checked_like_a_request() -> None:
    with pytest.raises(BadBody, match="outputs: expected a list of tensors, got nothing"):
        decode_response(b"{}", None)
    with pytest.raises(BadBody, match="does not parse"):
        decode_response(b"<html>", None)


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9
)
MOSTLY_TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y"]) | ANYTHING,
        "datatype": st.sampled_from(list(READABLE)) | ANYTHING,
        "shape": st.lists(st.integers(0, 3) | st.integers(0, 2**64 - 1), max_size=3) | ANYTHING,
    },
    optional={
        "data": st.lists(st.integers(0, 300) | st.floats(), max_size=9) | ANYTHING,
        "parameters": st.fixed_dictionaries(
            {},
            optional={
                "binary_data_size": st.integers(0, 20) | ANYTHING,
                "content_type": st.just("base64"),
                "classification": st.integers(-1, 9),
            },
        )
        | ANYTHING,
    },
)


@given(
    inputs=st.lists(MOSTLY_TENSORS, max_size=3) | ANYTHING,
    fields=st.fixed_dictionaries({}, optional={"id": ANYTHING, "parameters": ANYTHING, "outputs": ANYTHING}),
    blob=st.binary(max_size=24),
    shift=st.integers(-3, 3),
)
@example(inputs=[binary(0, (0, 2**63), "UINT8")], fields={}, blob=b"", shift=0)
@example(inputs=[binary(0, (0, 2**40), "BYTES")], fields={}, blob=b"", shift=0)
@settings(max_examples=400, deadline=None)
def test_nothing_but_our_errors(inputs: Any, fields: dict[str, Any], blob: bytes, shift: int) -> None:
    header = orjson.dumps({"inputs": inputs, "outputs": inputs, **fields})
    for decoder in (decode_request, decode_response):
        with contextlib.suppress(StnError):
            decoder(header + blob, len(header) + shift)
        with contextlib.suppress(StnError):
            decoder(header, None)


@given(body=st.binary(max_size=60), length=st.none() | st.integers(-5, 70))
@settings(max_examples=200, deadline=None)
def test_nothing_but_our_errors_for_any_bytes(body: bytes, length: int | None) -> None:
    with contextlib.suppress(StnError):
        decode_request(body, length)


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_nothing_but_our_errors_for_a_damaged_message(flips: list[tuple[int, int]]) -> None:
    message = encode_request({"a": np.zeros((2, 3), np.float32), "b": np.array([b"xy", b""], object)}, ["label"])
    body = bytearray(message.body)
    for place, value in flips:
        body[place % len(body)] = value
    with contextlib.suppress(StnError):
        decode_request(bytes(body), message.header_length)


@pytest.mark.parametrize("count", [0, -1, 2.0, "3", True, [3]])
def test_a_classification_is_a_number_of_classes(count: Any) -> None:
    outputs = [{"name": "p", "parameters": {"classification": count}}]
    with pytest.raises(BadBody, match="p: expected classification as a number of classes from 1, got"):
        decode(VALID, outputs=outputs)


@pytest.mark.parametrize("value", ["false", 1, None, []])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(BadBody, match="parameters.binary_data: expected true or false, got"):
        decode(VALID, outputs=[{"name": "p", "parameters": {"binary_data": value}}])
    with pytest.raises(BadBody, match="parameters.binary_data_output: expected true or false, got"):
        decode(VALID, parameters={"binary_data_output": value})


def test_shared_memory_is_refused_not_overheard() -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    with pytest.raises(Unsupported, match="x: shared memory is not served; send and take tensors as binary data"):
        decode(VALID | {"parameters": region})
    with pytest.raises(Unsupported, match="p: shared memory is not served"):
        decode(VALID, outputs=[{"name": "p", "parameters": region}])
