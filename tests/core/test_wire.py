"""Tensors to bytes and back: round trips of every datatype, equality with tritonclient's own encoder and decoder."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from stn_core.errors import BadBody, BadTensor
from stn_core.tensors import DTYPES, datatype_of
from stn_core.wire import (
    HEADER_LENGTH,
    InferRequest,
    RequestedOutput,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

BINARY = tuple(DTYPES)
JSON = tuple(name for name in DTYPES if name != "FP16")
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, datatypes: tuple[str, ...], *, finite: bool = False, text: bool = False) -> Any:
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        items = st.text(st.characters(codec="utf-8")).map(str.encode) if text else st.binary(max_size=9)
        return draw(hnp.arrays(object, shape, elements=items))
    kind = DTYPES[datatype].kind
    elements = {"allow_nan": False, "allow_infinity": False} if finite and kind == "f" else None
    return draw(hnp.arrays(DTYPES[datatype], shape, elements=elements))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    equal = np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return left.dtype == right.dtype and left.shape == right.shape and equal


@given(arrays=st.lists(tensors(BINARY), max_size=3))
@settings(max_examples=150, deadline=None)
def test_binary_request_round_trip(arrays: list[np.ndarray]) -> None:
    inputs = {f"input {i}": array for i, array in enumerate(arrays)}
    message = encode_request(inputs, parameters={"seed": 7}, id="42")
    request = decode_request(message.body, message.header_length)
    assert list(request.inputs) == list(inputs)
    assert all(same(inputs[name], request.inputs[name]) for name in inputs)
    assert request.parameters == {"seed": 7, "binary_data_output": True}
    assert (request.id, request.outputs, request.binary_by_default) == ("42", None, True)


@given(array=tensors(BINARY))
@settings(max_examples=150, deadline=None)
def test_binary_response_round_trip(array: np.ndarray) -> None:
    message = encode_response({"x": array}, "predict", "1", InferRequest({}, parameters={"binary_data_output": True}))
    response = decode_response(message.body, message.header_length)
    assert same(array, response.outputs["x"])
    assert (response.model_name, response.model_version, response.id) == ("predict", "1", None)


@given(array=tensors(JSON, finite=True, text=True))
@settings(max_examples=150, deadline=None)
def test_json_response_round_trip(array: np.ndarray) -> None:
    message = encode_response({"x": array}, "predict", "1", InferRequest({}, id="7"))
    assert message.header_length is None
    assert message.headers == {"content-type": "application/json"}
    response = decode_response(message.body, None)
    assert same(array, response.outputs["x"])
    assert response.id == "7"


@given(array=tensors(JSON, finite=True, text=True), nested=st.booleans())
@settings(max_examples=150, deadline=None)
def test_json_request_data_may_be_flat_or_nested(array: np.ndarray, nested: bool) -> None:
    texts = array if array.dtype != object else np.vectorize(bytes.decode, otypes=[object])(array)
    data = texts.tolist() if nested and array.ndim else texts.reshape(-1).tolist()
    entry = {"name": "x", "datatype": datatype_of(array), "shape": list(array.shape), "data": data}
    request = decode_request(json.dumps({"inputs": [entry]}).encode(), None)
    assert same(array, request.inputs["x"])


def test_every_layout_of_an_array_is_sent_row_major_and_little_endian() -> None:
    array = np.arange(24, dtype="<i4").reshape(2, 3, 4)
    expected = encode_request({"x": array}).body
    for other in (np.asfortranarray(array), array.astype(">i4"), np.repeat(array, 2, axis=1)[:, ::2]):
        assert encode_request({"x": other}).body == expected


def test_decoding_copies_nothing_and_gives_read_only_views() -> None:
    message = encode_request({"x": np.zeros((4, 4), np.float32)})
    array = decode_request(message.body, message.header_length).inputs["x"]
    assert array.base is not None
    assert not array.flags.writeable


def test_encoding_contiguous_arrays_copies_nothing() -> None:
    array = np.zeros((4, 4), np.float32)
    assert np.shares_memory(array, np.frombuffer(encode_request({"x": array}).parts[1], np.float32))


def test_a_message_knows_its_headers() -> None:
    message = encode_request({"x": np.zeros(3, np.uint8)})
    assert message.headers[HEADER_LENGTH] == str(len(message.parts[0]))
    assert message.body == b"".join(message.parts)


# --- the same bytes as tritonclient ---------------------------------------------------------------------------------


def triton_input(name: str, array: np.ndarray, *, binary: bool = True) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype_of(array))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def sample(datatype: str, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return np.array([b"x" * i for i in range(count)], dtype=object).reshape(shape)
    return np.arange(count).reshape(shape).astype(DTYPES[datatype])


@pytest.mark.parametrize("datatype", BINARY)
def test_we_read_what_tritonclient_writes(datatype: str) -> None:
    first, second = sample(datatype), sample(datatype, (1, 4))
    body, header_length = InferenceServerClient.generate_request_body(
        [triton_input("a", first), triton_input("b", second)],
        outputs=[InferRequestedOutput("label", binary_data=False), InferRequestedOutput("theta", binary_data=True)],
        request_id="r1",
        parameters={"seed": 3},
    )
    request = decode_request(body, header_length)
    assert same(first, request.inputs["a"])
    assert same(second, request.inputs["b"])
    assert request.outputs == (RequestedOutput("label", False), RequestedOutput("theta", True))
    assert (request.id, request.parameters) == ("r1", {"seed": 3})


@pytest.mark.parametrize("datatype", [name for name in JSON if name != "BYTES"])
def test_we_read_what_tritonclient_writes_as_json(datatype: str) -> None:
    body, header_length = InferenceServerClient.generate_request_body(
        [triton_input("a", sample(datatype), binary=False)]
    )
    assert header_length is None
    assert same(sample(datatype), decode_request(body, None).inputs["a"])


@pytest.mark.parametrize("datatype", BINARY)
def test_our_tensor_bytes_equal_those_of_tritonclient(datatype: str) -> None:
    arrays = {"a": sample(datatype), "b": sample(datatype, (5,))}
    theirs, their_length = InferenceServerClient.generate_request_body([triton_input(*item) for item in arrays.items()])
    ours = encode_request(arrays)
    assert ours.body[ours.header_length :] == theirs[their_length:]
    our_header, their_header = orjson.loads(ours.parts[0]), orjson.loads(theirs[:their_length])
    assert our_header == their_header


@pytest.mark.parametrize("datatype", BINARY)
def test_tritonclient_reads_what_we_write(datatype: str) -> None:
    outputs = {"a": sample(datatype), "empty": sample(datatype, (0, 3)), "b": sample(datatype, (5,))}
    request = InferRequest({}, parameters={"binary_data_output": True})
    message = encode_response(outputs, "predict", "1", request)
    result = InferResult.from_response_body(message.body, header_length=message.header_length)
    for name, array in outputs.items():
        assert np.array_equal(array, result.as_numpy(name).reshape(array.shape))


@pytest.mark.parametrize("datatype", [name for name in JSON if name != "BYTES"])
def test_tritonclient_reads_our_json(datatype: str) -> None:
    message = encode_response({"a": sample(datatype)}, "predict", "1", InferRequest({}))
    result = InferResult.from_response_body(message.body)
    assert same(sample(datatype), result.as_numpy("a"))


# --- which outputs, and how ----------------------------------------------------------------------------------------

OUTPUTS = {"label": np.array([3]), "theta": np.zeros((1, 2, 3), np.float32)}


def asked(*outputs: RequestedOutput, binary: bool = False) -> InferRequest:
    return InferRequest({}, outputs or None, {"binary_data_output": binary})


def test_outputs_come_in_the_order_asked_for_each_in_its_form() -> None:
    message = encode_response(OUTPUTS, "m", "1", asked(RequestedOutput("theta", True), RequestedOutput("label", False)))
    header = orjson.loads(message.parts[0])
    assert [output["name"] for output in header["outputs"]] == ["theta", "label"]
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert header["outputs"][1]["data"] == [3]
    assert len(message.parts) == 2


def test_all_outputs_come_when_none_is_asked_for() -> None:
    header = orjson.loads(encode_response(OUTPUTS, "m", "1", asked(binary=True)).parts[0])
    assert [output["name"] for output in header["outputs"]] == ["label", "theta"]


@pytest.mark.parametrize(("parameters", "binary"), [({}, True), ({"binary_data": False}, False)])
def test_an_output_overrides_the_default_form(parameters: dict[str, Any], binary: bool) -> None:
    header = {
        "inputs": [],
        "outputs": [{"name": "label", "parameters": parameters}],
        "parameters": {"binary_data_output": True},
    }
    assert decode_request(orjson.dumps(header), None).outputs == (RequestedOutput("label", binary),)


def test_an_output_may_be_its_best_classes() -> None:
    header = {"inputs": [], "outputs": [{"name": "p", "parameters": {"classification": 3, "binary_data": True}}]}
    assert decode_request(orjson.dumps(header), None).outputs == (RequestedOutput("p", True, 3),)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (), (0, 2)])
def test_bf16_is_read_as_fp32_and_every_value_stays(shape: tuple[int, ...]) -> None:
    import ml_dtypes

    values = np.array([1.0, -2.5, 3e38, np.inf, 1e-40, 0.1]).astype(ml_dtypes.bfloat16)
    array = np.resize(values, shape)
    tensor = InferInput("x", list(shape), "BF16").set_data_from_numpy(array)
    body, length = InferenceServerClient.generate_request_body([tensor])
    read = decode_request(body, length).inputs["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32), strict=True)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_bytes_may_come_as_base64_text(shape: list[int]) -> None:
    tensor = {"name": "x", "datatype": "BYTES", "shape": shape, "parameters": {"content_type": "base64"}}
    as_json = orjson.dumps({"inputs": [{**tensor, "data": ["iVBORw==", ""]}]})
    tensor["parameters"] = {"content_type": "base64", "binary_data_size": 16}
    header = orjson.dumps({"inputs": [tensor]})
    as_binary = header + b"\x08\0\0\0iVBORw==\0\0\0\0"
    for body, length in ((as_json, None), (as_binary, len(header))):
        read = decode_request(body, length).inputs["x"]
        assert (read.shape, read.reshape(-1).tolist()) == (tuple(shape), [b"\x89PNG", b""])


def test_bytes_in_json_are_text_unless_they_say_base64() -> None:
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["iVBORw=="]}
    assert decode_request(orjson.dumps({"inputs": [tensor]}), None).inputs["x"].tolist() == [b"iVBORw=="]


def test_an_unknown_output_is_named_with_those_there_are() -> None:
    with pytest.raises(BadTensor, match="model m has no output 'lable'; it has label, theta"):
        encode_response(OUTPUTS, "m", "1", asked(RequestedOutput("lable", True)))


def test_outputs_asked_for_twice_are_refused() -> None:
    header = {"inputs": [], "outputs": [{"name": "theta"}] * 2}
    with pytest.raises(BadBody, match="each name once"):
        decode_request(orjson.dumps(header), None)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_cannot_carry_nan_or_infinity(value: float) -> None:
    with pytest.raises(BadTensor, match="theta: holds NaN or infinity, which JSON cannot carry; ask for binary data"):
        encode_response({"theta": np.array([value])}, "m", "1", asked())


def test_fp16_has_no_json_form() -> None:
    with pytest.raises(BadTensor, match="x: FP16 has no JSON form"):
        encode_response({"x": np.zeros(1, np.float16)}, "m", "1", asked())


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]"])
def test_a_datatype_without_a_name_is_refused(dtype: str) -> None:
    with pytest.raises(BadTensor, match="has no name in the protocol; use one of BOOL"):
        encode_request({"x": np.zeros(1, dtype)})
