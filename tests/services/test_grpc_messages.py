"""The described messages are those of the protocol, bit for bit, and live beside the client's own in one process."""

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from services.grpc_messages import CLASSES, parsed
from stn_core.errors import BadBody

# Fields of theirs that nothing here fills or reads; whoever sends them is not refused.
_WITHOUT = {
    "ModelConfig": {"runtime", "backend", "version_policy", "batch_input", "batch_output", "optimization"}
    | {"dynamic_batching", "sequence_batching", "ensemble_scheduling", "instance_group", "default_model_filename"}
    | {"cc_model_filenames", "metric_tags", "model_warmup", "model_operations", "model_transaction_policy"}
    | {"model_repository_agents", "response_cache", "model_metrics"},
    "ModelInput": {"format", "reshape", "is_shape_tensor", "allow_ragged_batch", "is_non_linear_format_io"},
    "ModelOutput": {"reshape", "label_filename", "is_shape_tensor", "is_non_linear_format_io"},
    "ModelStatistics": {"memory_usage", "response_stats"},
    "InferStatistics": {"cache_hit", "cache_miss"},
}


def theirs(name: str) -> Any:
    """The client's class of the message ``name``."""
    place: Any = service_pb2 if hasattr(service_pb2, name.split(".", maxsplit=1)[0]) else model_config_pb2
    for part in name.split("."):
        place = getattr(place, part)
    return place


def fill(message: Any) -> Any:
    """``message`` with something in every field, except that of alternatives the last one stays."""
    for field in message.DESCRIPTOR.fields:
        values: dict[int, Any] = {field.TYPE_STRING: "söme", field.TYPE_BYTES: b"\x00\xff", field.TYPE_BOOL: True}
        values |= {field.TYPE_INT64: -(2**62), field.TYPE_UINT64: 2**63 + 1, field.TYPE_ENUM: 2}
        values |= {field.TYPE_DOUBLE: 1e300, field.TYPE_FLOAT: 0.5, field.TYPE_INT32: -7, field.TYPE_UINT32: 2**31}
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = getattr(message, field.name)["key"]
            fill(value)
        elif field.message_type is not None:
            place = getattr(message, field.name)
            fill(place.add() if field.is_repeated else place)
        elif field.is_repeated:
            getattr(message, field.name).extend([values[field.type]] * 3)
        else:
            setattr(message, field.name, values[field.type])
    return message


@pytest.mark.parametrize("name", CLASSES)
def test_a_message_has_the_fields_of_the_protocol(name: str) -> None:
    ours, original = CLASSES[name].DESCRIPTOR, theirs(name).DESCRIPTOR
    assert ours.full_name == original.full_name
    left_out = {field.name for field in original.fields} - {field.name for field in ours.fields}
    assert left_out == _WITHOUT.get(name, set())
    for field in ours.fields:
        twin = original.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (twin.number, twin.type, twin.is_repeated)
        assert (field.message_type is None) == (twin.message_type is None)
        if field.message_type is not None:
            assert field.message_type.full_name == twin.message_type.full_name
        assert (field.containing_oneof is None) == (twin.containing_oneof is None)


@pytest.mark.parametrize("name", CLASSES)
def test_what_one_side_writes_the_other_reads(name: str) -> None:
    ours = fill(CLASSES[name]())
    data = ours.SerializeToString(deterministic=True)
    read = theirs(name).FromString(data)
    assert read.SerializeToString(deterministic=True) == data
    assert str(read) == str(ours)
    assert CLASSES[name].FromString(read.SerializeToString()) == ours


def test_golden_bytes() -> None:
    request = CLASSES["ModelInferRequest"](model_name="warp", id="7", raw_input_contents=[b"\x01\x02"])
    request.inputs.add(name="images", datatype="UINT8", shape=[1, -1])
    request.parameters["seed"].int64_param = 5
    golden = (
        b"\x0a\x04warp\x1a\x017"  # 1: model_name, 3: id
        b"\x22\x0a\x0a\x04seed\x12\x02\x10\x05"  # 4: a map entry of "seed" and an InferParameter with int64_param, 2
        b"\x2a\x1c\x0a\x06images\x12\x05UINT8\x1a\x0b\x01" + b"\xff" * 9 + b"\x01"  # 5: name, datatype, packed shape
        b"\x3a\x02\x01\x02"  # 7: raw_input_contents
    )
    assert request.SerializeToString() == golden
    assert parsed("ModelInferRequest", golden) == request


def test_the_data_types_are_tritons() -> None:
    ours = CLASSES["ModelInput"].DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {value.name: value.number for value in ours.values} == dict(model_config_pb2.DataType.items())


def test_bytes_that_are_no_message() -> None:
    with pytest.raises(BadBody, match="expected a message ModelReadyRequest, got 2 bytes"):
        parsed("ModelReadyRequest", b"\xff\xff")
    assert parsed("ModelReadyRequest", b"\xaa\x06\x01x").name == ""  # a field of a later protocol
