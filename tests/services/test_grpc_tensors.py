"""Requests and answers over gRPC: what arrays come out of messages of the client's own classes, and back."""

from typing import Any

import numpy as np
import pytest
from http_calls import bytes_tensor
from tritonclient.grpc import InferInput, InferResult, service_pb2

from services.grpc_messages import parsed
from services.grpc_tensors import MAX_FIELDS, decode_infer, encode_infer, split_request, streamed
from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, TooLarge, Unsupported
from stn_core.tensors import DTYPES
from stn_core.wire import InferRequest, RequestedOutput

CONTENTS: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False, True, True]),
    "UINT8": ("uint_contents", [0, 1, 254, 255]),
    "UINT16": ("uint_contents", [0, 1, 2, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 1, 2, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 1, 2, 2**64 - 1]),
    "INT8": ("int_contents", [-128, -1, 0, 127]),
    "INT16": ("int_contents", [-(2**15), -1, 0, 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), -1, 0, 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), -1, 0, 2**63 - 1]),
    "FP32": ("fp32_contents", [0.5, -1e-3, float("inf"), 3e38]),
    "FP64": ("fp64_contents", [0.1, -1e300, float("nan"), 0.0]),
    "BYTES": ("bytes_contents", [b"", b"\x00\xff", b"a", b"PNG"]),
}


def read(data: bytes, limits: Limits | None = None) -> InferRequest:
    parts = split_request(data, limits or Limits())
    return decode_infer(parsed("ModelInferRequest", parts.rest), parts.raw)


def decoded(message: Any, limits: Limits | None = None) -> InferRequest:
    return read(message.SerializeToString(), limits)


def request_with(datatype: str, shape: tuple[int, ...], **contents: Any) -> Any:
    message = service_pb2.ModelInferRequest(model_name="warp")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize("datatype", CONTENTS)
def test_typed_contents_become_the_array_that_they_say(datatype: str) -> None:
    field, values = CONTENTS[datatype]
    array = decoded(request_with(datatype, (2, 2), **{field: values})).inputs["x"]
    assert array.dtype == DTYPES[datatype]
    expected = bytes_tensor(values) if datatype == "BYTES" else np.array(values, DTYPES[datatype])
    np.testing.assert_array_equal(array, expected.reshape(2, 2))


@pytest.mark.parametrize("datatype", [*CONTENTS, "FP16"])
def test_raw_contents_of_the_client_become_its_array(datatype: str) -> None:
    values = CONTENTS.get(datatype, ("", [0.5, 1.0, 2.0, -8.0]))[1]
    array = bytes_tensor(values) if datatype == "BYTES" else np.array(values, DTYPES[datatype])
    tensor = InferInput("x", [2, 2], datatype)
    tensor.set_data_from_numpy(array.reshape(2, 2))
    message = service_pb2.ModelInferRequest(inputs=[tensor._get_tensor()], raw_input_contents=[tensor._get_content()])
    read = decoded(message).inputs["x"]
    assert read.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(read, array.reshape(2, 2))


def test_raw_numbers_are_read_where_they_lie() -> None:
    message = request_with("UINT8", (1000,))
    message.raw_input_contents.append(bytes(1000))
    data = message.SerializeToString()
    array = read(data).inputs["x"]
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("datatype", "shape", "contents", "said"),
    [
        ("UINT8", (1,), {"uint_contents": [256]}, "does not fit into UINT8"),
        ("INT8", (1,), {"int_contents": [-129]}, "does not fit into INT8"),
        ("UINT8", (2,), {"uint_contents": [1]}, r"shape \[2\] holds 2 values, got 1"),
        ("UINT8", (1,), {}, r"shape \[1\] holds 1 values, got 0"),
        ("UINT8", (1,), {"fp32_contents": [1.0]}, "expected UINT8 values in contents.uint_contents, got fp32_contents"),
        ("FP16", (1,), {"fp32_contents": [1.0]}, "FP16 has no typed contents"),
        ("UINT8", (-1,), {"uint_contents": [1]}, "expected a shape"),
        ("UINT8", (1,) * 9, {"uint_contents": [1]}, "expected a shape"),
        ("UINT8", (2**40, 2**40), {}, "expected at most"),
        ("UINT7", (1,), {"uint_contents": [1]}, "expected a datatype of"),
        ("", (1,), {"uint_contents": [1]}, "expected a datatype of"),
    ],
)
def test_a_tensor_that_is_none(datatype: str, shape: tuple[int, ...], contents: dict[str, Any], said: str) -> None:
    with pytest.raises(BadTensor, match=said):
        decoded(request_with(datatype, shape, **contents))


def test_an_empty_tensor() -> None:
    assert decoded(request_with("UINT8", (0, 3))).inputs["x"].shape == (0, 3)


def test_raw_contents_are_for_every_input_and_alone() -> None:
    both = request_with("UINT8", (1,), uint_contents=[1])
    both.raw_input_contents.append(b"\x01")
    with pytest.raises(BadBody, match="x: expected contents or raw_input_contents, got both"):
        decoded(both)
    more = request_with("UINT8", (1,))
    more.raw_input_contents.extend([b"\x01", b"\x02"])
    with pytest.raises(BadBody, match="one for each of the 1 inputs, or none at all, got 2"):
        decoded(more)


def test_names_and_numbers_of_tensors() -> None:
    twice = request_with("UINT8", (1,), uint_contents=[1])
    twice.inputs.append(twice.inputs[0])
    with pytest.raises(BadTensor, match="x: came twice"):
        decoded(twice)
    with pytest.raises(BadBody, match="at most 64 tensors, got 65"):
        decoded(service_pb2.ModelInferRequest(inputs=[{"name": str(i), "datatype": "UINT8"} for i in range(65)]))
    with pytest.raises(BadBody, match="each name once"):
        decoded(service_pb2.ModelInferRequest(outputs=[{"name": "a"}, {"name": "a"}]))


def test_parameters_of_each_kind_and_the_rest_of_a_request() -> None:
    message = request_with("BOOL", (1,), bool_contents=[True])
    given = {"b": True, "i": -5, "s": "text", "d": 0.25, "u": 2**63}
    fields = {"b": "bool_param", "i": "int64_param", "s": "string_param", "d": "double_param", "u": "uint64_param"}
    for name, value in given.items():
        setattr(message.parameters[name], fields[name], value)
    message.parameters["nothing"].Clear()
    message.id = "q-1"
    message.outputs.add(name="theta")
    request = decoded(message)
    assert request.id == "q-1"
    assert request.parameters == {**given, "nothing": None, "binary_data_output": True}
    assert [output.name for output in request.outputs or ()] == ["theta"]
    empty = decoded(service_pb2.ModelInferRequest(model_name="x"))
    assert empty == InferRequest({}, parameters={"binary_data_output": True})


def test_classification_and_shared_memory() -> None:
    message = service_pb2.ModelInferRequest(outputs=[{"name": "a"}])
    message.outputs[0].parameters["classification"].int64_param = 3
    assert decoded(message).outputs == (RequestedOutput("a", True, 3),)
    message.outputs[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(Unsupported, match="a: shared memory is not served"):
        decoded(message)


def test_base64_text_of_bytes() -> None:
    message = request_with("BYTES", (1,), bytes_contents=[b"iVBO"])
    message.inputs[0].parameters["content_type"].string_param = "base64"
    assert decoded(message).inputs["x"].tolist() == [b"\x89PN"]


def test_what_is_beside_raw_contents_is_bounded() -> None:
    limits = Limits(max_json_bytes=1000)
    message = request_with("UINT8", (1000,), uint_contents=[1] * 1000)
    with pytest.raises(TooLarge, match="at most 1000 bytes beside raw contents, got 10"):
        decoded(message, limits)
    raw = request_with("UINT8", (5000,))
    raw.raw_input_contents.append(bytes(5000))
    assert decoded(raw, limits).inputs["x"].shape == (5000,)
    with pytest.raises(BadBody, match=f"at most {MAX_FIELDS}"):
        split_request(b"\x2a\x00" * 100_000, Limits())  # as many empty inputs, of which each would become an object


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\x05abc", b"\x3a" + b"\xff" * 11, b"\x0b", b"\x09abc", b"\xff"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(BadBody, match="expected a message ModelInferRequest"):
        read(data)


def test_fields_of_a_later_protocol_are_passed_over() -> None:
    unknown = b"\x78\x96\x01" + b"\x79" + bytes(8) + b"\x7d" + bytes(4)  # 15: a varint, eight bytes, four bytes
    data = unknown + request_with("UINT8", (1,), uint_contents=[7]).SerializeToString() + unknown
    assert read(data).inputs["x"].tolist() == [7]


@pytest.mark.parametrize("broken", [b"\x05\x00\x00\x00ab", b"\x01\x00\x00", b"\x01\x00\x00\x00abc"])
def test_raw_contents_that_are_no_bytes_elements(broken: bytes) -> None:
    message = request_with("BYTES", (1,))
    message.raw_input_contents.append(broken)
    with pytest.raises(BadTensor, match="x: expected 1 elements, each a uint32 length and its bytes"):
        decoded(message)


def test_bfloat16_is_read_as_float32() -> None:
    message = request_with("BF16", (2,))
    message.raw_input_contents.append(b"\x80\x3f\x00\xc0")
    np.testing.assert_array_equal(decoded(message).inputs["x"], np.array([1, -2], np.float32))


THETA = np.random.default_rng(0).normal(size=(40, 2, 3)).astype(np.float32)
OUTPUTS = {"rectified": np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8), "theta": THETA}


def test_an_answer_is_what_protobuf_itself_would_write() -> None:
    data = encode_infer(OUTPUTS, "rectify", "1", InferRequest({}, id="q"), {"by_imgaug": "elastic"})
    message = service_pb2.ModelInferResponse.FromString(data)
    assert message.SerializeToString() == data
    assert (message.model_name, message.model_version, message.id) == ("rectify", "1", "q")
    assert message.parameters["by_imgaug"].string_param == "elastic"
    assert [output.name for output in message.outputs] == ["rectified", "theta"]
    result = InferResult(message)
    for name, array in OUTPUTS.items():
        np.testing.assert_array_equal(result.as_numpy(name), array)


def test_outputs_come_in_the_order_of_the_request() -> None:
    asked = (RequestedOutput("theta", True), RequestedOutput("rectified", True))
    data = encode_infer(OUTPUTS, "rectify", "1", InferRequest({}, asked))
    message = service_pb2.ModelInferResponse.FromString(data)
    assert [output.name for output in message.outputs] == ["theta", "rectified"]
    assert message.id == ""
    with pytest.raises(BadTensor, match="no output 'theta'"):
        encode_infer({"rectified": THETA}, "rectify", "1", InferRequest({}, asked))


def test_a_streams_answer_is_the_answer_and_says_that_it_is_the_last() -> None:
    data = encode_infer(OUTPUTS, "rectify", "1", InferRequest({}, id="q"), {"by_imgaug": "elastic"})
    message = service_pb2.ModelStreamInferResponse.FromString(streamed(data))
    assert message.error_message == ""
    assert message.infer_response.parameters.pop("triton_final_response").bool_param
    assert message.infer_response == service_pb2.ModelInferResponse.FromString(data)
