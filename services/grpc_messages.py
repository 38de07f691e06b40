"""The messages of the v2 protocol over gRPC, described once and made into classes: no compiler, no generated file.

Names, numbers and types are those of Triton's ``grpc_service.proto`` and ``model_config.proto``, as far as they are
served here. The classes live in a pool of their own: tritonclient and kserve describe the same names, and the default
pool takes a name from one of them only.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stn_core.errors import BadBody

_PACKAGE = "inference"
_NAME = "string name = 1; string version = 2"
_TENSOR = "string name = 1; string datatype = 2; repeated int64 shape = 3"
_TENSOR_WITH_CONTENTS = f"{_TENSOR}; map<InferParameter> parameters = 4; InferTensorContents contents = 5"
_MODEL_TO_LOAD = "string repository_name = 1; string model_name = 2; map<ModelRepositoryParameter> parameters = 3"

# "map<X>" has keys that are strings. A message follows those that it is nested in.
_MESSAGES = {
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": _NAME,
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataResponse": f"{_NAME}; repeated string extensions = 3",
    "ModelMetadataRequest": _NAME,
    "ModelMetadataResponse": """
        string name = 1; repeated string versions = 2; string platform = 3;
        repeated ModelMetadataResponse.TensorMetadata inputs = 4;
        repeated ModelMetadataResponse.TensorMetadata outputs = 5
    """,
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": """
        bool bool_param = 1; int64 int64_param = 2; string string_param = 3; double double_param = 4;
        uint64 uint64_param = 5
    """,
    "InferTensorContents": """
        repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3;
        repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
        repeated double fp64_contents = 7; repeated bytes bytes_contents = 8
    """,
    "ModelInferRequest": """
        string model_name = 1; string model_version = 2; string id = 3; map<InferParameter> parameters = 4;
        repeated ModelInferRequest.InferInputTensor inputs = 5;
        repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6;
        repeated bytes raw_input_contents = 7
    """,
    "ModelInferRequest.InferInputTensor": _TENSOR_WITH_CONTENTS,
    "ModelInferRequest.InferRequestedOutputTensor": "string name = 1; map<InferParameter> parameters = 2",
    "ModelInferResponse": """
        string model_name = 1; string model_version = 2; string id = 3; map<InferParameter> parameters = 4;
        repeated ModelInferResponse.InferOutputTensor outputs = 5;
        repeated bytes raw_output_contents = 6
    """,
    "ModelInferResponse.InferOutputTensor": _TENSOR_WITH_CONTENTS,
    "ModelStreamInferResponse": "string error_message = 1; ModelInferResponse infer_response = 2",
    "ModelConfigRequest": _NAME,
    "ModelConfigResponse": "ModelConfig config = 1",
    "ModelConfig": """
        string name = 1; string platform = 2; int32 max_batch_size = 4; repeated ModelInput input = 5;
        repeated ModelOutput output = 6; map<ModelParameter> parameters = 14
    """,
    "ModelInput": "string name = 1; DataType data_type = 2; repeated int64 dims = 4; bool optional = 8",
    "ModelOutput": "string name = 1; DataType data_type = 2; repeated int64 dims = 3",
    "ModelParameter": "string string_value = 1",
    "RepositoryIndexRequest": "string repository_name = 1; bool ready = 2",
    "RepositoryIndexResponse": "repeated RepositoryIndexResponse.ModelIndex models = 1",
    "RepositoryIndexResponse.ModelIndex": f"{_NAME}; string state = 3; string reason = 4",
    "RepositoryModelLoadRequest": _MODEL_TO_LOAD,
    "RepositoryModelUnloadRequest": _MODEL_TO_LOAD,
    "ModelRepositoryParameter": """
        bool bool_param = 1; int64 int64_param = 2; string string_param = 3; bytes bytes_param = 4
    """,
    "ModelStatisticsRequest": _NAME,
    "ModelStatisticsResponse": "repeated ModelStatistics model_stats = 1",
    "ModelStatistics": f"""
        {_NAME}; uint64 last_inference = 3; uint64 inference_count = 4; uint64 execution_count = 5;
        InferStatistics inference_stats = 6; repeated InferBatchStatistics batch_stats = 7
    """,
    "InferStatistics": """
        StatisticDuration success = 1; StatisticDuration fail = 2; StatisticDuration queue = 3;
        StatisticDuration compute_input = 4; StatisticDuration compute_infer = 5; StatisticDuration compute_output = 6
    """,
    "InferBatchStatistics": """
        uint64 batch_size = 1; StatisticDuration compute_input = 2; StatisticDuration compute_infer = 3;
        StatisticDuration compute_output = 4
    """,
    "StatisticDuration": "uint64 count = 1; uint64 ns = 2",
}
_ALTERNATIVES = dict.fromkeys(("InferParameter", "ModelRepositoryParameter"), "parameter_choice")
"""Messages that hold one of their fields at a time, and the name of that choice."""
_DATA_TYPES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"
_FIELD = re.compile(r"(?P<repeated>repeated )?(?P<map>map<)?(?P<type>[\w.]+)>? (?P<name>\w+) = (?P<number>\d+)")
_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="stn/grpc_service.proto", package=_PACKAGE, syntax="proto3")
    data_type = file.enum_type.add(name="DataType")
    for number, name in enumerate(_DATA_TYPES.split()):
        data_type.value.add(name=f"TYPE_{name}", number=number)
    made: dict[str, Any] = {}
    for full_name, text in _MESSAGES.items():
        outer, _, name = full_name.rpartition(".")
        made[full_name] = made[outer].nested_type.add(name=name) if outer else file.message_type.add(name=name)
        if full_name in _ALTERNATIVES:
            made[full_name].oneof_decl.add(name=_ALTERNATIVES[full_name])
        for line in text.split(";"):
            _add_field(made[full_name], full_name, line.strip())
    return file


def _add_field(message: Any, message_name: str, line: str) -> None:
    given = _FIELD.fullmatch(line)
    assert given, f"{message_name}: {line}"
    field = message.field.add(name=given["name"], number=int(given["number"]), label=_Field.LABEL_OPTIONAL)
    if message_name in _ALTERNATIVES:
        field.oneof_index = 0
    if given["repeated"] or given["map"]:
        field.label = _Field.LABEL_REPEATED
    if given["map"]:
        entry = message.nested_type.add(name=f"{given['name'].title()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), given["type"])
        _set_type(field, f"{message_name}.{entry.name}")
    else:
        _set_type(field, given["type"])


def _set_type(field: Any, name: str) -> None:
    if name in _MESSAGES or name.endswith("Entry"):
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}"
    elif name == "DataType":
        field.type, field.type_name = _Field.TYPE_ENUM, f".{_PACKAGE}.{name}"
    else:
        field.type = getattr(_Field, f"TYPE_{name.upper()}")


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())
CLASSES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
}
"""The class of each message, by its name."""


def parsed(name: str, data: bytes) -> Any:
    """The message ``name`` in ``data``; BadBody if it is none."""
    try:
        return CLASSES[name].FromString(data)
    except DecodeError as error:
        raise BadBody(f"expected a message {name}, got {len(data)} bytes that are none ({error})") from None
