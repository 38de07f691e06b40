"""The JSON schemas of the protocol's bodies, as the OpenAPI document has them under ``components``."""

from typing import Any

from services.decisions import FLAGS, PARAMETERS
from services.pipelines import TO_RECTIFIED, TO_SOURCE
from services.repository import MAX_BODY_BYTES
from stn_core.tensors import MAX_RANK, READABLE
from stn_core.wire import MAX_NAME, MAX_TENSORS

Schema = dict[str, Any]


def _object(properties: dict[str, Schema], required: str = "", **more: Any) -> Schema:
    """An object; ``required`` names properties, with spaces between."""
    needed = {"required": required.split()} if required else {}
    return {"type": "object", "properties": properties, **needed, **more}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_NAME: Schema = {"type": "string", "maxLength": MAX_NAME}
_SHAPE = _list(_WHOLE, maxItems=MAX_RANK)
_OPEN_SHAPE = _list({"type": "integer", "minimum": -1}, description="-1: a side of any length")
_DATA: Schema = {
    "type": "array",
    "description": "The values, row by row, flat or nested; BYTES as text. Absent for binary data.",
}
_BINARY_SIZE: Schema = {**_WHOLE, "description": "The tensor's bytes, behind the JSON, in the order of the tensors"}
_DESCRIBED = _object({"name": _TEXT, "datatype": _TEXT, "shape": _OPEN_SHAPE, "parameters": _object({})})
_CONFIGURED = _object({"name": _TEXT, "data_type": _TEXT, "dims": _OPEN_SHAPE})
_DURATION = _object({"count": _WHOLE, "ns": _WHOLE}, "count ns")
_COMPUTE: dict[str, Schema] = {f"compute_{step}": ref("Duration") for step in ("input", "infer", "output")}

_INFERENCE: dict[str, Schema] = {
    "InferRequest": _object(
        {
            "id": {**_TEXT, "description": "Comes back with the answer"},
            "parameters": _object(
                {
                    "timeout": {**_WHOLE, "description": "Microseconds; shortens the service's own"},
                    "binary_data_output": {**_FLAG, "default": False, "description": "Outputs as binary data"},
                    "recipe": {"type": ["string", "object"], "description": "augment: a recipe, or the name of one"},
                    "seed": {**_WHOLE, "description": "augment: the seed"},
                    **{
                        name: {"type": "boolean" if name in FLAGS else "number", "description": said}
                        for name, said in PARAMETERS.items()
                    },
                    "canvas": {"enum": ["crop", "fit"], "description": "straighten: by default crop"},
                    **{
                        name: {"type": "integer", "minimum": 1, "description": "straighten: px of what comes out"}
                        for name in ("height", "width", "max_side_px")
                    },
                    "direction": {"enum": [TO_SOURCE, TO_RECTIFIED], "description": f"map: by default {TO_SOURCE}"},
                },
                description="Others are allowed, and not heeded",
            ),
            "inputs": _list(ref("InputTensor"), minItems=1, maxItems=MAX_TENSORS),
            "outputs": _list(
                ref("RequestedOutput"), maxItems=MAX_TENSORS, description="All outputs where none are named"
            ),
        },
        "inputs",
    ),
    "InputTensor": _object(
        {
            "name": _NAME,
            "datatype": {"enum": list(READABLE)},
            "shape": _SHAPE,
            "data": _DATA,
            "parameters": _object(
                {
                    "binary_data_size": _BINARY_SIZE,
                    "content_type": {**_TEXT, "description": "base64: the elements of BYTES are base64 text"},
                }
            ),
        },
        "name datatype shape",
    ),
    "RequestedOutput": _object(
        {
            "name": _NAME,
            "parameters": _object(
                {
                    "binary_data": _FLAG,
                    "classification": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "Of probabilities: so many of the best classes, as BYTES score:index:name",
                    },
                }
            ),
        },
        "name",
    ),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _object({}),
            "outputs": _list(ref("OutputTensor")),
        },
        "model_name model_version outputs",
    ),
    "OutputTensor": _object(
        {
            "name": _NAME,
            "datatype": _TEXT,
            "shape": _SHAPE,
            "data": _DATA,
            "parameters": _object({"binary_data_size": _BINARY_SIZE}),
        },
        "name datatype shape",
    ),
}

_METADATA: dict[str, Schema] = {
    "ServerMetadata": _object(
        {
            "name": _TEXT,
            "version": _TEXT,
            "extensions": _list(_TEXT),
            "limits": _object({}, description="What one request may ask for; docs/service.md has the keys"),
            "bundle": _object({}, description="Name, version and sha256 of the bundle that answers"),
            "refused": {**_TEXT, "description": "Why another bundle, which was deployed, is not served"},
        },
        "name version extensions limits bundle",
    ),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_DESCRIBED),
            "outputs": _list(_DESCRIBED),
            "parameters": _object({"classes": _list(_TEXT)}),
        },
        "name versions platform inputs outputs",
    ),
    "ModelConfig": _object(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "max_batch_size": _WHOLE,
            "input": _list(_CONFIGURED),
            "output": _list(_CONFIGURED),
        },
        "name platform max_batch_size input output",
    ),
    "Live": _object({"live": {"const": True}}, "live"),
    "Ready": _object(
        {
            "ready": {"const": True},
            "refused": {**_FLAG, "description": "Another bundle was deployed, and refused"},
        },
        "ready",
    ),
    "ModelReady": _object({"name": _TEXT, "ready": {"const": True}}, "name ready"),
}

_REPOSITORY: dict[str, Schema] = {
    "RepositoryIndexRequest": _object(
        {"ready": {**_FLAG, "default": False, "description": "Only the models that are ready"}},
        description=f"May be left out; {MAX_BODY_BYTES} bytes at most",
    ),
    "RepositoryIndex": _list(
        _object(
            {"name": _TEXT, "version": _TEXT, "state": {"enum": ["READY", "UNAVAILABLE"]}, "reason": _TEXT},
            "name version state reason",
        )
    ),
    "LoadRequest": _object(
        {"parameters": _object({}, maxProperties=0)},
        description=f"May be left out; no parameters are served; {MAX_BODY_BYTES} bytes at most",
    ),
    "Empty": _object({}, maxProperties=0),
    "NoRegions": {"type": "array", "maxItems": 0},
    "Statistics": _object({"model_stats": _list(ref("ModelStatistics"))}, "model_stats"),
    "ModelStatistics": _object(
        {
            "name": _TEXT,
            "version": _TEXT,
            "last_inference": {**_WHOLE, "description": "Milliseconds since 1970; 0: never"},
            "inference_count": {**_WHOLE, "description": "Images of requests that were answered"},
            "execution_count": {**_WHOLE, "description": "Batches that ran"},
            "inference_stats": _object(
                {**{name: ref("Duration") for name in ("success", "fail", "queue")}, **_COMPUTE},
                f"success fail queue {' '.join(_COMPUTE)}",
            ),
            "batch_stats": _list(
                _object({"batch_size": _WHOLE, **_COMPUTE}, f"batch_size {' '.join(_COMPUTE)}"),
            ),
        },
        "name version last_inference inference_count execution_count inference_stats batch_stats",
    ),
    "Duration": _DURATION,
    "Shadow": _object(
        {
            "share_of_requests": {"type": "number", "minimum": 0, "maximum": 1},
            "images": {**_WHOLE, "description": "Compared"},
            "passed_over": {**_WHOLE, "description": "Not compared, as there was no room"},
            **{
                name: {"type": ["number", "null"], "description": said}
                for name, said in (
                    ("agreement", "Share of images with the same label, rectified and not"),
                    ("confidence_gain", "Mean gain of the best probability by rectification"),
                    ("changed_and_surer", "Share with another label, of a higher probability"),
                    ("changed_and_less_sure", "Share with another label, of no higher probability"),
                )
            },
        },
        "share_of_requests images passed_over agreement confidence_gain changed_and_surer changed_and_less_sure",
    ),
}

_OTHERS: dict[str, Schema] = {
    "Problem": _object(
        {
            "type": {**_TEXT, "description": "urn:stn:error: and the error's code"},
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {**_TEXT, "description": "What was expected, what came, what to do"},
            "error": {**_TEXT, "description": "The same as detail, for clients of the protocol"},
            "instance": {**_TEXT, "description": "The path of the request"},
            "request_id": {**_TEXT, "description": "Under which the service's logs have it: x-request-id, or one made"},
        },
        "type title status detail error",
        description="RFC 9457",
    ),
    "OpenApi": _object({"openapi": _TEXT, "info": _object({}), "paths": _object({})}, "openapi info paths"),
    "Page": _TEXT,
    "Metrics": _TEXT,
}

_FILES: dict[str, Schema] = {
    "EncodedImage": {
        "description": "A file as base64 text or data: URL, or with a name, and for augment with annotations",
        "anyOf": [_TEXT, _object({"name": _TEXT, "data": _TEXT, "annotations": ref("Annotations")}, "data")],
    },
    "Annotations": _object(
        {
            "keypoints_px": _list({"type": ["array", "null"], "description": "x, y; null for none"}),
            "boxes_px": _list({"type": ["array", "null"], "description": "x1, y1, x2, y2"}),
            "polygons_px": _list(_list({"type": ["array", "null"], "description": "x, y"})),
            "mask": {"type": ["array", "null"], "description": "Rows of labels, whole numbers, as large as the image"},
        },
        description=(
            "On one image, in pixels from its upper left corner; pixel i's centre is at i + 0.5. Each copy comes back "
            "with those on it, and box_polygons_px, keypoints_inside, boxes_visible_fraction, "
            "polygons_visible_fraction, exact"
        ),
    ),
    "FileResults": _object(
        {
            "model": _TEXT,
            "version": _TEXT,
            "results": _list(
                _object(
                    {"name": {"type": ["string", "null"]}, "error": ref("Problem")},
                    "name",
                    description="What the model says of one file, by the outputs' names; or an error",
                )
            ),
        },
        "model version results",
    ),
    "Recipes": _object(
        {
            "recipes": _list(
                _object(
                    {
                        "name": _TEXT,
                        "description": _TEXT,
                        "family": {"enum": ["affine", "homography", "tps"]},
                        "exact": _FLAG,
                        "by_imgaug": _list(_TEXT, description="Steps that imgaug applies, image by image"),
                        "canvas": {"type": ["object", "null"]},
                    },
                    "name description family exact by_imgaug canvas",
                )
            )
        },
        "recipes",
    ),
    "Recipe": _object({"name": _TEXT, "description": _TEXT, "steps": _list(_object({}))}, "name steps"),
}

SCHEMAS: dict[str, Schema] = {**_INFERENCE, **_METADATA, **_REPOSITORY, **_FILES, **_OTHERS}
